"""Commands that pause, resume and cancel, over HTTP."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import Annotated, Any
from urllib.parse import quote

import typer

from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, Url, gateway_of

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

    parts = ("agents", *pair_of(target)) if mission is None else ("missions", target, mission)
    told: dict[str, Any] = gateway_of(url, data_dir).call("POST", _path(*parts, verb))
    if as_json:
        output.json_out(told)
        return
    name = target if mission is None else f"{target}: {mission}"
    output.line_out(f"{name} is {told['state']}{'' if told['changed'] else ' already'}")


def pair_of(target: str) -> tuple[str, str]:
    """User and agent of USER/AGENT, cut at the first slash; raises Failure."""
    user, slash, agent = target.partition("/")
    if not (user and slash and agent):
        raise Failure(f"{target}: must be USER/AGENT (for a mission: USER --mission ID)", USAGE)
    return user, agent


def _path(*parts: str) -> str:
    return "/internal/" + "/".join(quote(part, safe="") for part in parts)
