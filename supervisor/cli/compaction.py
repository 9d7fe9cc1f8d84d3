"""`mana log compact`: record by record, each step a transaction of its own."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import msgspec

from state.store.janitor import JanitorStore
from supervisor.cli import database, output
from supervisor.cli.up_down import say
from supervisor.node.settings import Settings

JANITOR = "mana_janitor"
SAY_EVERY_S = 2.0


class CompactionWish(msgspec.Struct, frozen=True):
    """Whose records, and how much of them stays untouched; without `removes` it only counts."""

    keep: timedelta
    user: str | None = None
    removes: bool = True


class CompactionReport(msgspec.Struct):
    """What was done so far; `passed_over` counts records by why nothing was removed."""

    records: int = 0
    compacted: int = 0
    rows: int = 0
    bytes: int = 0
    passed_over: Counter[str] = msgspec.field(default_factory=Counter[str])


def compact_log(
    wish: CompactionWish, data_dir: str | None, database_url: str | None, *, as_json: bool
) -> None:
    """Go through the whole log, or one person's; stopped at any point, it may be run again."""
    told = asyncio.run(_compacted(wish, database.settings_for(data_dir, database_url)))
    if as_json:
        output.json_out({"dry_run": not wish.removes, **msgspec.to_builtins(told)})
        return
    verb = "removed" if wish.removes else "could be removed at least"
    output.line_out(
        f"{told.rows:,} rows ({told.bytes / 1e6:,.1f} MB) of {told.compacted:,} records {verb}"
    )
    for reason, records in sorted(told.passed_over.items()):
        output.line_out(f"{records:,} records passed over: {WHY[reason]}")
    if wish.removes and told.rows:
        output.line_out("autovacuum makes their room free; VACUUM FULL would give it back")


WHY = {
    "held": "a transaction holds them, or they are mended; run it again",
    "unfolded": "their snapshots differ from the log; run it again, or mana snapshots verify",
    "unreadable": "the database cannot read what is in them",
}


async def _compacted(wish: CompactionWish, settings: Settings) -> CompactionReport:
    connections = database.database_of(settings, JANITOR)
    janitor, told = JanitorStore(connections), CompactionReport()
    after = ("", "", "") if wish.user is None else (wish.user, "", "")
    said_at = time.monotonic()
    try:
        async for table in janitor.tables_to_compact(wish.keep, after):
            if wish.user is not None and table.user != wish.user:
                break
            for record in table.records:
                done = await janitor.compact(table, record, wish.keep, removes=wish.removes)
                told.records += 1
                told.rows += done.rows
                told.bytes += done.bytes
                if done.rows:
                    told.compacted += 1
                if done.outcome != "done":
                    told.passed_over[done.outcome] += 1
                if time.monotonic() - said_at >= SAY_EVERY_S:
                    said_at = time.monotonic()
                    say(
                        f"  as far as {output.shown(table.user)}: {told.records:,} records,"
                        f" {told.rows:,} rows, {told.bytes / 1e6:,.1f} MB"
                    )
    finally:
        await connections.close()
    return told
