"""Options that several commands share."""

from typing import TYPE_CHECKING, Annotated

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
