"""Commands that pause, resume and cancel, over HTTP."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, Url, gateway_of

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

app = typer.Typer()

Target = Annotated[str, typer.Argument(help="USER/AGENT, or USER with --mission.")]
RunOrUser = Annotated[str, typer.Argument(metavar="RUN|USER", help="A run's id, or a user.")]
Mission = Annotated[str | None, typer.Option(help="A mission of USER.", metavar="ID")]


@app.command()
def pause(
    target: Target,
    *,
    mission: Mission = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Pause an agent or a mission, within a second: a run under way is withdrawn."""
    _switch("pause", target, mission, url, data_dir, as_json=as_json)


@app.command()
def resume(
    target: Target,
    *,
    mission: Mission = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """End a pause: what is due runs at once."""
    _switch("resume", target, mission, url, data_dir, as_json=as_json)


@app.command()
def cancel(
    target: RunOrUser,
    *,
    mission: Mission = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """End a run, or the one a mission has under way; its occurrence is not planned again."""
    from supervisor.cli import output

    parts = ("runs", target) if mission is None else ("missions", target, mission)
    told = gateway_of(url, data_dir).call("POST", _path(*parts, "cancel"))
    if as_json:
        output.json_out(told)
        return
    word = "is cancelled" if told["changed"] else "was cancelled before"
    output.line_out(f"{output.pair(told)}: the run of {told['mission_id']} {word}")


def _switch(
    verb: str,
    target: str,
    mission: str | None,
    url: str | None,
    data_dir: str | None,
    *,
    as_json: bool,
) -> None:
    from supervisor.cli import output

    if mission is None:
        _check_pair(target)  # before anybody is asked
    gateway = gateway_of(url, data_dir)
    if mission is None:
        parts = ("agents", *pair_of(gateway, target))
    else:
        parts = ("missions", target, mission)
    told: dict[str, Any] = gateway.call("POST", _path(*parts, verb))
    if as_json:
        output.json_out(told)
        return
    name = target if mission is None else f"{target}: {mission}"
    output.line_out(f"{name} is {told['state']}{'' if told['changed'] else ' already'}")


def pair_of(gateway: "Gateway", target: str) -> tuple[str, str]:
    """User and agent of USER/AGENT; where ids hold slashes too, the pair that is there.

    Raises Failure where it is no pair, or could be several: then USER%2FMORE/AGENT says which.
    """
    _check_pair(target)
    user, _, agent = target.partition("/")
    parts = target.split("/")
    pairs = [("/".join(parts[:n]), "/".join(parts[n:])) for n in range(1, len(parts))]
    if "%2f" in user.lower():
        pairs.append((user.replace("%2F", "/").replace("%2f", "/"), agent))
    if len(pairs) == 1:
        return pairs[0]
    known = [pair for pair in pairs if gateway.has(_path("agents", *pair, "budget"))]
    if len(known) > 1:
        said = " or ".join(f"{name.replace('/', '%2F')}/{rest}" for name, rest in known)
        raise Failure(f"{target} may be several agents: write {said}", USAGE)
    return known[0] if known else pairs[0]


def _check_pair(target: str) -> None:
    user, _, agent = target.partition("/")
    if not (user and agent):
        raise Failure(f"{target}: must be USER/AGENT (for a mission: USER --mission ID)", USAGE)


def _path(*parts: str) -> str:
    return path_of("/internal", *parts)
