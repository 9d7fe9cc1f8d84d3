"""The one path by which an owner's change enters the log, as the role `mana_gateway`.

A transaction acts for one person: it reads records as the log says they are now, changes them, and
keeps the answer to a request under its idempotency key. Whatever else belongs to the change is
written on the same connection, so that it happens once, together, or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from state.errors import StateError, TerminalError, UserIdMissingError
from state.log import merge
from state.log.merge import Snapshot
from state.log.own_changes import (
    ChangeRefused,
    OwnRow,
    RecordAt,
    Writer,
    as_change,
    delete_row,
    insert_row,
    personal_space,
    update_row,
    version_of,
)
from state.log.stamps import instant_of
from state.store.connect import ActsForPeople
from state.store.rows import stored_snapshot, unfolded_changes
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

Hold = Literal["nothing", "writers", "plan"]
Table = Literal["agents", "aiMissions"]


class NoSuchRecord(StateError, TerminalError):
    """This person has no such record, or it is deleted."""


class VersionConflict(StateError, TerminalError):
    """The record is no longer as the caller saw it."""

    def __init__(self, now: str) -> None:
        super().__init__(now)
        self.now = now


class KeyReused(StateError, TerminalError):
    """The idempotency key was used for another request."""


class OwnRecord(msgspec.Struct, frozen=True):
    """A record as the log says now; `now` is the database's clock, `space` None a personal one.

    `is_member` False: it is this person's, in a shared space that they left.
    """

    at: RecordAt
    snapshot: Snapshot
    owner: str
    space: str | None
    is_member: bool
    now: datetime

    @property
    def exists(self) -> bool:
        """Whether there is such a record that is not deleted."""
        return not merge.hidden(self.snapshot)

    @property
    def is_listed(self) -> bool:
        """Whether lists show it: it is there, and not only changes of what is still to come."""
        return self.exists and self.snapshot.complete

    @property
    def fields(self) -> dict[str, Any]:
        """What it says."""
        return self.snapshot.fields

    @property
    def version(self) -> str:
        """Differs whenever the record does."""
        return version_of(self.snapshot)


class KeptAnswer(msgspec.Struct, frozen=True):
    """What a request was answered before."""

    status: int
    body: str


class OwnLog:
    """Changes of one person at a time."""

    def __init__(self, database: ActsForPeople) -> None:
        self._db = database

    @asynccontextmanager
    async def acting(self, user: str, spaces: Sequence[str] = ()) -> AsyncGenerator[OwnWrites]:
        """A transaction in this person's place; `spaces` are the shared ones they belong to."""
        if not user:
            raise UserIdMissingError("owner")
        async with self._db.acting_for(user) as connection:
            yield OwnWrites(connection, user, [space for space in spaces if space])

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()


class OwnWrites:
    """One person's reads and writes in one transaction; `connection` is for what belongs to it."""

    def __init__(self, connection: asyncpg.Connection, user: str, spaces: list[str]) -> None:
        self.connection, self.user, self.spaces = connection, user, spaces

    async def record(self, at: RecordAt, hold: Hold = "writers") -> OwnRecord:
        """The record, also where there is none; held, no other writer changes it until the end.

        Hold `plan` to write a mission's `iterations`: no run ends meanwhile.
        """
        asked = SQL.given(
            "own_record",
            user=self.user,
            spaces=self.spaces,
            app=at.app,
            table=at.table,
            record=at.id,
            hold=hold,
        )
        row = await self.connection.fetchrow(*asked)
        assert row is not None  # a function's row
        known = stored_snapshot(msgspec.json.decode(row["snapshot"] or "null"))
        changes = unfolded_changes(msgspec.json.decode(row["changes"] or "[]"), self.user)
        return OwnRecord(
            at=at,
            snapshot=merge.fold(known, changes),
            owner=row["owner"] or self.user,
            space=row["space"],
            is_member=row["is_member"],
            now=row["now"],
        )

    async def existing(self, at: RecordAt, hold: Hold = "writers") -> OwnRecord:
        """The record; raises NoSuchRecord."""
        record = await self.record(at, hold)
        if not record.exists:
            raise NoSuchRecord
        return record

    async def records(self, table: Table, limit: int, after: str | None = None) -> list[OwnRecord]:
        """The person's own agents or missions by id, deleted ones too, without iterations."""
        rows = await self.connection.fetch(SQL["own_records"], self.user, table, after, limit)
        return [
            OwnRecord(
                at=RecordAt("ai", table, row["id"]),
                snapshot=merge.fold(
                    stored_snapshot(msgspec.json.decode(row["snapshot"] or "null")),
                    unfolded_changes(msgspec.json.decode(row["changes"] or "[]"), self.user),
                ),
                owner=self.user,
                space=row["space"],
                is_member=True,
                now=row["now"],
            )
            for row in rows
        ]

    async def newest_ids(self, app: str, table: str, limit: int) -> list[str]:
        """Ids of the person's own records in a table, those made last first, deleted ones too."""
        rows = await self.connection.fetch(SQL["own_ids"], self.user, app, table, limit)
        return [row["record_id"] for row in rows]

    async def time_zone(self) -> str | None:
        """The zone that the person's cadences are meant in; None: the deployment's."""
        return await self.connection.fetchval(SQL["time_zone"], self.user)

    async def save_time_zone(self, zone: str | None) -> None:
        """The zone that the person's cadences are meant in; None: the deployment's."""
        await self.connection.execute(SQL["save_time_zone"], self.user, zone)

    async def decisions(
        self, mission: str, since: datetime
    ) -> list[tuple[datetime, str, str | None]]:
        """Due time, decision and reason of what was decided last about each due time."""
        rows = await self.connection.fetch(SQL["last_decisions"], self.user, mission, since)
        return [(row["due_at"], row["decision"], row["reason"]) for row in rows]

    async def request_run(self, mission: str, key: str) -> datetime | None:
        """Ask for a run now, once per key: when it is due; None while the mission is not known."""
        row = await self.connection.fetchrow(SQL["request_run"], self.user, mission, key)
        return None if row is None else row["due_at"]

    async def insert(
        self, at: RecordAt, fields: Mapping[str, Any], by: Writer, *, space: str | None = None
    ) -> OwnRecord:
        """A new record, in the person's own space or a shared one of theirs."""
        known = await self.record(at)
        if known.snapshot.exists:
            raise ChangeRefused("id", "is taken")
        of = space or personal_space(self.user)
        if of != personal_space(self.user) and of not in self.spaces:
            raise ChangeRefused("spaceId", "is not a space of yours")
        row = insert_row(
            fields, at, author=self.user, space=of, by=by, now_ns=instant_of(known.now)
        )
        return await self._written(msgspec.structs.replace(known, space=of), row, by)

    async def update(
        self, known: OwnRecord, fields: Mapping[str, Any], by: Writer, expects: str | None = None
    ) -> OwnRecord:
        """These fields anew, where the record is held and, if given, still of that version.

        `deletedAt: None` brings a deleted one back. Raises NoSuchRecord, VersionConflict and
        ChangeRefused.
        """
        if not known.snapshot.exists or not (known.exists or "deletedAt" in fields):
            raise NoSuchRecord
        _check(known, expects)
        row = update_row(known.snapshot, fields, instant_of(known.now))
        return await self._written(known, row, by)

    async def delete(self, known: OwnRecord, by: Writer, expects: str | None = None) -> OwnRecord:
        """Hide the record; an update with `deletedAt: None` brings it back."""
        if not known.exists:
            raise NoSuchRecord
        _check(known, expects)
        return await self._written(known, delete_row(known.snapshot, instant_of(known.now)), by)

    async def answered(self, key: str, request: str) -> KeptAnswer | None:
        """What this request was answered before; None makes it wait for `keep`.

        `request` is a digest of all that was asked. Another request under the key that is under
        way is waited for. Raises KeyReused where the key was another request's.
        """
        if await self.connection.fetchval(SQL["open_answer"], self.user, key, request):
            return None
        row = await self.connection.fetchrow(SQL["kept_answer"], self.user, key)
        if row is None or row["request"] != request:
            raise KeyReused
        return KeptAnswer(row["status"], row["answer"])

    async def keep(self, key: str, answer: KeptAnswer) -> None:
        """Keep what the request is answered, until the janitor forgets it."""
        await self.connection.execute(
            SQL["keep_answer"], self.user, key, answer.status, answer.body
        )

    async def _written(self, known: OwnRecord, row: OwnRow, by: Writer) -> OwnRecord:
        written = await self.connection.fetchrow(
            *SQL.given(
                "own_write",
                user=self.user,
                spaces=self.spaces,
                app=known.at.app,
                table=known.at.table,
                record=known.at.id,
                op=row.op,
                data=msgspec.json.encode(row.data).decode(),
                meta=msgspec.json.encode(row.field_meta).decode(),
                client=by.client_id,
                actor=msgspec.json.encode(by.actor).decode(),
                origin=by.origin,
                space=known.space,
            )
        )
        assert written is not None  # a function's row
        change = as_change(row, str(written["id"]), written["created_us"], self.user)
        return msgspec.structs.replace(known, snapshot=merge.fold(known.snapshot, [change]))


def _check(known: OwnRecord, expects: str | None) -> None:
    """Raises ChangeRefused where they left its space, VersionConflict where it is another now."""
    if not known.is_member:
        raise ChangeRefused("spaceId", "is not a space of yours any more")
    if expects is not None and expects != known.version:
        raise VersionConflict(known.version)
