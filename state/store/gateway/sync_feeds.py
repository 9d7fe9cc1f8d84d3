"""The log as people's devices use it, as the role `mana_gateway` in one person's place.

A push publishes what it writes, and whoever reads first what became visible otherwise: in whatever
order its transactions ended, it has positions behind all that any device was told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import asyncpg
import msgspec

from state.errors import StateError, TerminalError
from state.log.merge import Change
from state.log.stamps import EPOCH, NS_PER_US, datetime_of
from state.store.connect import Database
from state.store.rows import logged_change
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")
PAGE_BYTES = 8 * 1024 * 1024
MOST_SETTLED = 200
MOST_ROWS = 2000
"""Of a record whose history is looked at."""


class Position(NamedTuple):
    """What a device has seen: all up to a microsecond, of which only the ids of these slots."""

    at_us: int
    slot: int = 999  # of 1,000; -1: nothing of this microsecond


class FeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the log as it stands there, JSON as texts."""

    id: str
    author: str
    client: str
    table: str
    record: str
    op: str
    data: str | None
    field_meta: str | None
    created_us: int
    schema_version: int
    actor: str | None
    origin: str | None
    space: str | None


class FeedPage(msgspec.Struct, frozen=True):
    """Rows in the order of their positions, and the position that a device has reached by them."""

    rows: list[FeedRow]
    reached: Position
    has_more: bool


class PushedRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A change as the log will have it; `data`, `meta` and `actor` are JSON."""

    change_id: str
    table: str
    id: str
    op: Literal["insert", "update", "delete"]
    data: msgspec.Raw
    meta: dict[str, str]
    schema: int
    actor: msgspec.Raw
    origin: str | None
    space: str | None


class Pushed(msgspec.Struct, frozen=True):
    """What became of one change; its row's time in µs since the epoch."""

    is_new: bool
    created_us: int


class HistoryRow(msgspec.Struct, frozen=True):
    """A row of a record that a push was about, without the values of its fields."""

    change: Change
    author: str
    client: str


Histories = dict[tuple[str, str], list[HistoryRow] | None]
"""By table and record that others wrote, too, in row order; None of one with too many rows."""


class Touched(NamedTuple):
    """Something new in a table; `client` is the person's own that wrote it, None somebody else."""

    app: str
    table: str
    client: str | None


View = tuple[str, tuple[str, ...]]
"""A person and the shared spaces that they belong to."""


class ChangeIdInUse(StateError, TerminalError):
    """A change carries the id of another one; `change` is its place in the push."""

    def __init__(self, change: int) -> None:
        super().__init__(change)
        self.change = change


def never(_point: str) -> None:
    """No crash is wanted."""


class SyncFeeds(msgspec.Struct, frozen=True):
    """Pushes and pulls of one person at a time; `spaces` are the shared ones they belong to.

    `crash` is told of the points between a request and its end, for tests.
    """

    database: Database
    crash: Callable[[str], None] = never

    async def push(
        self,
        user: str,
        spaces: Sequence[str],
        app: str,
        since: Position,
        *,
        client: str,
        rows: Sequence[PushedRow],
    ) -> tuple[list[Pushed], Histories, datetime]:
        """All of these changes, or none, and each once; what they met; up to where one may read.

        They are published as they are written, so that page need not. Raises ChangeIdInUse.
        """
        text = msgspec.json.encode(rows).decode()
        async with self.database.transaction() as connection:
            asked = SQL.given(
                "sync_push", user=user, spaces=list(spaces), app=app, client=client, rows=text
            )
            written = await connection.fetch(*asked)
            self.crash("sync_in_push")
            times = {row["n"]: row["created_us"] for row in written}
            is_new = {row["n"]: row["status"] == "written" for row in written}
            if not all(is_new.values()):
                known = await connection.fetch(SQL["sync_there"], user, app, text)
                same = {row["n"]: row["created_us"] for row in known}
                for n in sorted(times):
                    if not is_new[n] and n not in same:
                        raise ChangeIdInUse(n - 1)
                times = {**times, **{n: at for n, at in same.items() if not is_new[n]}}
            asked = SQL.given(
                "sync_history",
                user=user,
                spaces=list(spaces),
                app=app,
                client=client,
                rows=text,
                most=MOST_ROWS + 1,
            )
            met = await connection.fetch(*asked)
            # Last, since nobody else publishes this person's feeds until it is committed.
            until = await self._publish(connection, user, spaces, client, since)
        self.crash("sync_after_push")
        histories: dict[tuple[str, str], list[HistoryRow]] = {}
        for row in met:
            change = logged_change(row, row["author"], row["record_id"])
            kept = histories.setdefault((row["table_name"], row["record_id"]), [])
            kept.append(HistoryRow(change, row["author"], row["client"]))
        judged: Histories = {
            at: rows if len(rows) <= MOST_ROWS else None for at, rows in histories.items()
        }
        return [Pushed(is_new[n], times[n]) for n in sorted(times)], judged, until

    async def page(
        self,
        user: str,
        spaces: Sequence[str],
        app: str,
        since: Position,
        *,
        client: str,
        rows: int,
        table: str | None = None,
        until: datetime | None = None,
    ) -> FeedPage:
        """Rows after a position, of one table or all of an app, that this client did not write.

        `until` None: up to what is published now.
        """
        if until is None:
            async with self.database.connection() as connection:
                until = await self._publish(connection, user, spaces, client, since)
        self.crash("sync_in_page")
        asked = SQL.given(
            "sync_page",
            user=user,
            spaces=list(spaces),
            app=app,
            table=table,
            client=client,
            since=_moment(since),
            slot=since.slot,
            until=until,
            rows=rows,
            bytes=PAGE_BYTES,
        )
        async with self.database.connection() as connection:
            found = await connection.fetch(*asked)
        read = [_row(row) for row in found]
        if found and found[-1]["is_more"]:
            return FeedPage(read, Position(found[-1]["at_us"], found[-1]["slot"]), has_more=True)
        return FeedPage(read, Position(_us(until)), has_more=False)

    async def _publish(
        self,
        connection: asyncpg.Connection,
        user: str,
        spaces: Sequence[str],
        client: str,
        since: Position,
    ) -> datetime:
        asked = (SQL["sync_publish"], user, list(spaces), client, _moment(since))
        return await connection.fetchval(*asked)

    async def moved(self, told: Mapping[View, datetime | None]) -> dict[View, datetime | None]:
        """Those who were told up to a position (None: not yet), and for whom there may be more."""
        feeds_of = {  # as `sync_feeds_of` names them
            (user, spaces): [f"user:{user}"[:512], *(f"space:{space}"[:512] for space in spaces)]
            for user, spaces in told
        }
        names = sorted({name for names in feeds_of.values() for name in names})
        async with self.database.connection() as connection:
            rows = await connection.fetch(SQL["sync_watch"], names)
        until = {row["feed"]: row["until"] for row in rows}
        noted = {row["feed"] for row in rows if row["is_noted"]}
        return {
            view: at
            for view, at in told.items()
            if at is None
            or any(
                name in noted or until[name] is None or until[name] > at for name in feeds_of[view]
            )
        }

    async def touched(
        self, user: str, spaces: Sequence[str], since: datetime | None
    ) -> tuple[datetime, list[Touched]]:
        """The position reached, and where there is something new after `since` up to it."""
        shared = list(spaces)
        async with self.database.connection() as connection:
            until = await connection.fetchval(SQL["sync_publish"], user, shared, "", EPOCH)
            if since is None:
                return until, []
            asked = SQL.given("sync_touched", user=user, spaces=shared, since=since, until=until)
            rows = await connection.fetch(*asked)
        return until, [Touched(*row) for row in rows]

    async def settle(self, older_s: float) -> float:
        """Publish what waited for so long; how many seconds the oldest has waited."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(SQL["sync_settle"], older_s, MOST_SETTLED)
        assert row is not None  # a function's row
        return row["oldest_s"]


def _moment(position: Position) -> datetime:
    return datetime_of(position.at_us * NS_PER_US)


def _us(moment: datetime) -> int:
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _row(row: Any) -> FeedRow:
    return FeedRow(
        id=str(row["id"]),
        author=row["author"],
        client=row["client"],
        table=row["table_name"],
        record=row["record_id"],
        op=row["op"],
        data=row["data"],
        field_meta=row["field_meta"],
        created_us=row["created_us"],
        schema_version=row["schema_version"],
        actor=row["actor"],
        origin=row["origin"],
        space=row["space_id"],
    )
