"""Options that several commands share."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

DataDir = Annotated[str | None, typer.Option(help="Where it keeps its data.", metavar="DIR")]
Url = Annotated[str | None, typer.Option(help="A gateway elsewhere.", metavar="URL")]
DatabaseUrl = Annotated[str | None, typer.Option(help="A Postgres of yours.", metavar="URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")]
User = Annotated[str | None, typer.Option(help="Of one user.")]
AgentOf = Annotated[str | None, typer.Option(help="Of one agent: USER/AGENT or AGENT.")]
As = Annotated[str | None, typer.Option("--as", help="As which person.", metavar="NAME")]
TokenFile = Annotated[
    str | None, typer.Option(help="A file with a person's token.", metavar="FILE")
]


def gateway_of(url: str | None, data_dir: str | None) -> "Gateway":
    """The gateway the options name."""
    from supervisor.cli.gateway_client import gateway  # noqa: PLC0415 - only commands that talk HTTP

    return gateway(url, data_dir)


class PersonOptions(NamedTuple):
    """Who a command acts as, and where: what `by_person` asks for."""

    as_user: str | None
    token_file: str | None
    data_dir: str | None
    url: str | None

    def client(self) -> "Gateway":
        """For `/api/v1/me/…`; raises Failure where nobody is meant."""
        from supervisor.cli.own_client import person_client  # noqa: PLC0415 - as above

        return person_client(
            self.as_user, url=self.url, data_dir=self.data_dir, token_file=self.token_file
        )


def by_person(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose `person` is asked for by --as, --token-file, --data-dir and --url."""

    @wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in PersonOptions._fields}
        command(**given, person=PersonOptions(**asked))

    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += _OF_PERSON if parameter.name == "person" else [parameter]
    # What typer reads of a function.
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _of_person(
    *, as_user: As = None, token_file: TokenFile = None, data_dir: DataDir = None, url: Url = None
) -> None: ...


_OF_PERSON = list(inspect.signature(_of_person).parameters.values())
