"""A person's records as the log has them, as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from state.log.principals import DERIVED, Actor, AuthoredRow, normalize_actor
from state.store.connect import Database
from state.store.rows import logged_change
from state.store.sql import statements_of

SQL = statements_of("own.sql")
PAGE_BYTES = 16 * 1024 * 1024
"""What of the log is read for one page; a record larger than that is named and not read."""
ROWS_AT_ONCE, MOST_ROWS = 500, 5_000
"""Rows that one page of a timeline looks at."""


class OwnTable(msgspec.Struct, frozen=True):
    """A table of a person's log: how many records it ever had, and rows."""

    app: str
    table: str
    records: int
    rows: int


class KeptInLog(msgspec.Struct, frozen=True):
    """What the log holds of one person: records they inserted, and bytes as they are stored."""

    records: int
    bytes: int


class RecordRows(msgspec.Struct, frozen=True):
    """The rows of one record in row order; None where it is too large to read."""

    table: str
    id: str
    rows: Sequence[AuthoredRow] | None


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the log: who did it, to which record, and which fields it wrote."""

    id: str
    at: datetime
    app: str
    table: str
    record: str
    op: str
    fields: Sequence[str]
    actor: Actor
    origin: str
    client: str
    space: str | None


class DeedFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deeds are wanted; None for all. `principal` is an id as a whole actor has it."""

    app: str | None = None
    table: str | None = None
    record: str | None = None
    kind: str | None = None
    principal: str | None = None


class DeedPage(msgspec.Struct, frozen=True):
    """Deeds, the newest first; `last` is the key behind which the list goes on, None at its end."""

    deeds: Sequence[Deed]
    last: tuple[datetime, str] | None


class OwnRecords:
    """Reads for one person at a time; `spaces` are those the person is a member of."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def tables(self, user: str, spaces: Sequence[str] = ()) -> list[OwnTable]:
        """What there is, by app and table."""
        async with self._db.acting_for(user, spaces) as connection:
            rows = await connection.fetch(SQL["tables"])
        return [OwnTable(**dict(row.items())) for row in rows]

    async def kept(self, user: str) -> KeptInLog:
        """How much the log holds of this person; reads all their rows, so not for each request."""
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(SQL["kept"], user)
        assert row is not None  # an aggregate's
        return KeptInLog(row["records"], row["bytes"])

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

    async def sealed(
        self, user: str, places: Sequence[tuple[str, str, str]]
    ) -> frozenset[tuple[str, str]]:
        """Of records by app, table and id, table and id of those that have sealed fields."""
        columns = [[place[at] for place in places] for at in range(3)]
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["sealed_records"], *columns)
        return frozenset((row["table_name"], row["record_id"]) for row in rows)

    async def timeline(
        self,
        user: str,
        wanted: DeedFilter,
        limit: int,
        *,
        before: tuple[datetime, str] | None = None,
        spaces: Sequence[str] = (),
    ) -> DeedPage:
        """Who did what, those before a key; a page may be short where few of many rows fit."""
        found: list[tuple[asyncpg.Record, Actor]] = []
        looked_at = 0
        async with self._db.acting_for(user, spaces) as connection:
            while True:
                before_at, before_id = before or (None, None)
                asked = SQL.given(
                    "timeline",
                    app=wanted.app,
                    table=wanted.table,
                    record=wanted.record,
                    before_at=before_at,
                    before_id=before_id,
                    limit=ROWS_AT_ONCE,
                )
                rows = await connection.fetch(*asked)
                for row in rows:
                    before = row["created_at"], str(row["id"])
                    actor = normalize_actor(_actor(row["actor"]))
                    if wanted.kind in (None, actor["kind"]) and wanted.principal in (
                        None,
                        actor["principalId"],
                    ):
                        found.append((row, actor))
                        if len(found) == limit:
                            break
                looked_at += len(rows)
                is_all = len(rows) < ROWS_AT_ONCE and len(found) < limit
                if is_all or len(found) == limit or looked_at >= MOST_ROWS:
                    break
            ids = [row["id"] for row, _ in found]
            written = {
                row["id"]: sorted(frozenset(row["fields"]) - DERIVED)
                for row in await connection.fetch(SQL["fields_written"], ids)
            }
        deeds = [
            Deed(
                id=str(row["id"]),
                at=row["created_at"],
                app=row["app_id"],
                table=row["table_name"],
                record=row["record_id"],
                op=row["op"],
                fields=written.get(row["id"], []),
                actor=actor,
                origin=row["origin"] or "user",
                client=row["client_id"],
                space=row["space_id"],
            )
            for row, actor in found
        ]
        return DeedPage(deeds, last=None if is_all else before)


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
