"""`mana log`: what operators do to the log of people's changes."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from datetime import timedelta
from typing import Annotated

import typer

from supervisor.cli.options import AsJson, DatabaseUrl, DataDir, User

app = typer.Typer(help="The log of people's changes.", no_args_is_help=True)


@app.callback()
def log() -> None:
    """The log of people's changes."""


@app.command()
def compact(
    *,
    keep_days: Annotated[
        int, typer.Option(min=1, max=36500, help="Whatever is younger stays whole.")
    ] = 30,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    user: User = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove old updates that newer ones have overtaken; every record stays as it is."""
    from supervisor.cli import compaction

    compaction.compact_log(
        compaction.CompactionWish(timedelta(days=keep_days), user, removes=not is_dry),
        data_dir,
        database_url,
        as_json=as_json,
    )
