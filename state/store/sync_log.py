"""The log as a foreign sync service writes it: one user's rows, in that user's place."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from state.errors import UserIdMissingError
from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("sync_log.sql")


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row to write; `data` is whatever JSON a client sent."""

    app_id: str
    table_name: str
    record_id: str
    op: str
    data: Any
    field_meta: dict[str, Any]
    actor: dict[str, Any] | None = None
    origin: str | None = None
    space_id: str | None = None


class SyncLog:
    """Pushes, as the login that owns the log."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def push(self, user_id: str, client_id: str, rows: Sequence[LogRow]) -> datetime:
        """Write rows in one transaction; the instant they carry."""
        async with self._db.transaction() as connection:
            await connection.execute(SQL["act_as"], _named(user_id))
            await connection.executemany(
                SQL["push"], [_columns(user_id, client_id, row) for row in rows]
            )
            return await connection.fetchval("SELECT now()")


def _named(user_id: str) -> str:
    if not user_id:
        raise UserIdMissingError("sync log")
    return user_id


def _columns(user_id: str, client_id: str, row: LogRow) -> tuple[Any, ...]:
    data, meta, actor = (
        None if value is None else msgspec.json.encode(value).decode()
        for value in (row.data, row.field_meta, row.actor)
    )
    key = (row.app_id, row.table_name, row.record_id, user_id, row.op)
    return (*key, data, meta, client_id, actor, row.origin, row.space_id)
