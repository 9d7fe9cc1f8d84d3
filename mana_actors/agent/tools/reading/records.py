"""The records of a table as one run may see them, merged from the log rows it can read."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from mana_actors.json_values import JsonObject
from state.log import merge
from state.log.merge import TableRows

MAX_RECORDS = 500


FetchTable = Callable[[str, str, int], Awaitable[TableRows]]
"""(app, table, most records) → the newest records' rows, as the capability shows them."""


class Records(msgspec.Struct, frozen=True):
    """What is visible of a table: records with their `id`, the latest changed first."""

    found: tuple[JsonObject, ...] = ()
    left_out: int = 0


class Tables:
    """Reads each table once per run, however many tools ask for it."""

    def __init__(self, fetch: FetchTable) -> None:
        self._fetch = fetch
        self._read: dict[tuple[str, str], asyncio.Future[Records]] = {}

    async def records(self, app: str, table: str) -> Records:
        """The table's visible records; a failed read is tried again by the next caller."""
        reading = self._read.get((app, table))
        if reading is None:
            reading = asyncio.ensure_future(self._load(app, table))
            self._read[app, table] = reading
        try:
            return await asyncio.shield(reading)
        except Exception:
            self._read.pop((app, table), None)
            raise

    async def _load(self, app: str, table: str) -> Records:
        """Records that were established by an insert and are not deleted."""
        rows = await self._fetch(app, table, MAX_RECORDS)
        merged = {record_id: merge.fold(None, those) for record_id, those in rows.changes.items()}
        visible = [
            (snapshot.newest_at, record_id, {**snapshot.fields, "id": record_id})
            for record_id, snapshot in merged.items()
            if snapshot.complete and not merge.hidden(snapshot)
        ]
        visible.sort(key=lambda each: each[:2], reverse=True)
        return Records(tuple(record for _, _, record in visible), rows.left_out)
