"""A person's records as the log has them, as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from state.log.principals import AuthoredRow, normalize_actor
from state.store.connect import Database
from state.store.rows import logged_change
from state.store.sql import statements_of

SQL = statements_of("own.sql")
PAGE_BYTES = 16 * 1024 * 1024
"""What of the log is read for one page; a record larger than that is named and not read."""


class OwnTable(msgspec.Struct, frozen=True):
    """A table of a person's log: how many records it ever had, and rows."""

    app: str
    table: str
    records: int
    rows: int


class RecordRows(msgspec.Struct, frozen=True):
    """The rows of one record in row order; None where it is too large to read."""

    table: str
    id: str
    rows: Sequence[AuthoredRow] | None


class OwnRecords:
    """Reads for one person at a time; `spaces` are those the person is a member of."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def tables(self, user: str, spaces: Sequence[str] = ()) -> list[OwnTable]:
        """What there is, by app and table."""
        async with self._db.acting_for(user, spaces) as connection:
            rows = await connection.fetch(SQL["tables"])
        return [OwnTable(**dict(row.items())) for row in rows]

    async def records(
        self,
        user: str,
        app: str,
        *,
        table: str | None = None,
        after: tuple[str, str] | None = None,
        limit: int = 100,
        spaces: Sequence[str] = (),
    ) -> list[RecordRows]:
        """Records of an app by table and id, those after a key; fewer where they are large."""
        after_table, after_record = after or (None, None)
        asked = SQL.given(
            "records",
            app=app,
            table=table,
            after_table=after_table,
            after_record=after_record,
            limit=limit,
            bytes=PAGE_BYTES,
        )
        async with self._db.acting_for(user, spaces) as connection:
            rows = await connection.fetch(*asked)
        found: dict[tuple[str, str], list[AuthoredRow] | None] = {}
        for row in rows:
            place = row["table_name"], row["record_id"]
            if row["id"] is None:
                found[place] = None
            else:
                kept = found.setdefault(place, [])
                assert kept is not None
                kept.append(_logged(row, row["record_id"]))
        return [RecordRows(*place, logged) for place, logged in found.items()]

    async def record(
        self, user: str, app: str, table: str, record: str, spaces: Sequence[str] = ()
    ) -> RecordRows | None:
        """One record, None where there is none."""
        async with self._db.acting_for(user, spaces) as connection:
            rows = await connection.fetch(SQL["record"], app, table, record, PAGE_BYTES)
        if not rows:
            return None
        logged = None if rows[0]["id"] is None else [_logged(row, record) for row in rows]
        return RecordRows(table, record, logged)


def _logged(row: Any, record: str) -> AuthoredRow:
    return AuthoredRow(
        logged_change(row, row["user_id"], record),
        normalize_actor(_actor(row["actor"])),
        row["origin"] or "user",
        row["client_id"],
    )


def _actor(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text or "null")
    except msgspec.DecodeError:  # numbers that Postgres holds and JSON readers do not
        return None
