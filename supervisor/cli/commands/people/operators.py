"""`mana sessions`: browsers that are signed in as an operator, and ending that."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

from typing import Annotated

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, Url, gateway_of

PATH = "/internal/sessions"

app = typer.Typer(help="Browsers that are signed in as an operator.", no_args_is_help=True)


@app.command("list")
def list_sessions(*, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False) -> None:
    """All that are open, the newest first."""
    from supervisor.cli import output

    rows = gateway_of(url, data_dir).get(PATH)["items"]
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("session", output.field("name")),
        ("from", output.field("address")),
        ("browser", output.field("user_agent")),
        ("opened", output.when("opened_at")),
        ("last seen", output.when("seen_at")),
        ("ends", output.when("ends_at")),
    )
    output.table_out(columns, rows, "no browser is signed in: mana open")


@app.command()
def end(
    session: Annotated[str | None, typer.Argument(metavar="SESSION")] = None,
    *,
    is_all: Annotated[
        bool, typer.Option("--all", help="Every session, and unused logins.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """End one at once, for every copy of its cookie."""
    from supervisor.cli import output

    if (session is None) != is_all:
        raise Failure("say which session, or --all", USAGE)
    gateway = gateway_of(url, data_dir)
    if session is None:
        output.line_out(f"{gateway.call('DELETE', PATH)['ended']} sessions ended")
    else:
        gateway.call("DELETE", path_of(PATH, session))
        output.line_out(f"session {session} ended")
