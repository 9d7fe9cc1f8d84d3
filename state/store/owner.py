"""What a person may see of their own, as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from state.errors import UserIdMissingError
from state.sealing.copies import SealedCopy
from state.sealing.key_pairs import OwnerKey
from state.store.connect import ActsForPeople
from state.store.gateway.limits import LimitState
from state.store.sql import statements_of

SQL = statements_of("owner.sql")


class AuditRow(msgspec.Struct, frozen=True):
    """A look at a granted record as its reader told it, or a key request nothing was told about.

    The latter have no table and record; `status` is then what became of the request. `key` orders
    rows of one instant. Rows of the original service have neither run nor release.
    """

    key: str
    id: str
    mission_id: str
    iteration_id: str | None
    table_name: str
    record_id: str
    status: str
    reason: str | None
    ts: datetime
    run_id: UUID | None
    attempt: int | None
    release_id: UUID | None
    agent_id: str | None
    released_at: datetime | None
    granted: list[str]  # what the released key opens
    grant_version: str | None
    grant_ends_at: datetime | None
    exposures: list[str]  # how far the calls of the run travelled


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which looks are wanted; None for all. `record` is a table and an id."""

    mission: str | None = None
    agent: str | None = None
    record: tuple[str, str] | None = None
    statuses: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None


class AgentBudget(msgspec.Struct, frozen=True):
    """One agent's last 24 hours; `full` is the first limit with nothing left: its scope and unit.

    `full_back_at` is when something of that limit returns.
    """

    agent_id: str
    own: LimitState
    full_scope: str | None = None
    full_unit: str | None = None
    full_back_at: datetime | None = None


class OwnMission(msgspec.Struct, frozen=True):
    """A mission, what was last decided and why, the run of its latest slot, the one under way.

    `grant` is its grant as JSON with the record ids left out, `records` how many those were;
    `now` is the database's clock.
    """

    mission_id: str
    agent_id: str
    state: str
    next_run_at: datetime | None
    wake_at: datetime | None
    decision: str | None
    reason: str | None
    decided_at: datetime | None
    grant: str | None
    records: int | None
    now: datetime
    run_id: UUID | None
    run_state: str | None
    run_due_at: datetime | None
    run_ended_at: datetime | None
    run_reason: str | None
    iteration_id: str | None
    live_id: UUID | None
    live_state: str | None
    live_due_at: datetime | None
    live_attempt: int | None
    live_reason: str | None
    waiting_for: str | None
    not_before: datetime | None


class RegisteredKey(msgspec.Struct, frozen=True):
    """The key that derived text is sealed for, and since when."""

    key_id: str
    public_key: bytes
    created_at: datetime


class KeyChange(msgspec.Struct, frozen=True):
    """A key that was registered or removed, and where that was asked from, as the asker says."""

    key_id: str
    action: str
    ip_address: str | None
    user_agent: str | None
    at: datetime


class OwnerView:
    """Reads for one person at a time."""

    def __init__(self, database: ActsForPeople) -> None:
        self._db = database

    async def has_mission(self, user: str, mission: str) -> bool:
        """Whether the mission exists, is this person's and is not deleted."""
        async with self._as(user) as connection:
            return bool(await connection.fetchval(SQL["has_mission"], user, mission))

    async def put_copies(self, user: str, mission: str, copies: Sequence[SealedCopy]) -> bool:
        """Keep these sealed records for the mission; False where it has no living grant."""
        wire = msgspec.json.encode(copies).decode()
        async with self._as(user) as connection:
            return bool(await connection.fetchval(SQL["put_copies"], user, mission, wire))

    async def trail(
        self,
        user: str,
        wanted: AuditFilter,
        limit: int,
        before: tuple[datetime, str] | None = None,
    ) -> list[AuditRow]:
        """Who looked at what, the newest first, rows before a key (ts, key)."""
        before_at, before_key = before or (None, None)
        table, record = wanted.record or (None, None)
        asked = SQL.given(
            "trail",
            user=user,
            mission=wanted.mission,
            agent=wanted.agent,
            table=table,
            record=record,
            statuses=wanted.statuses,
            since=wanted.since,
            until=wanted.until,
            before_at=before_at,
            before_key=before_key,
            limit=limit,
        )
        async with self._as(user) as connection:
            rows = await connection.fetch(*asked)
        return [AuditRow(**dict(row.items())) for row in rows]

    async def budgets(
        self, user: str, limit: int, after: str | None = None, agent: str | None = None
    ) -> tuple[list[AgentBudget], LimitState | None]:
        """A person's agents by id, those after an id or one, and the limit on all together."""
        async with self._as(user) as connection:
            rows = await connection.fetch(SQL["budgets"], user, after, limit, agent)
            whole = await connection.fetchrow(SQL["whole_budget"], user)
        together = None if whole is None else LimitState(**dict(whole.items()))
        return [
            AgentBudget(
                agent_id=row["agent_id"],
                own=LimitState(**{name: row[name] for name in LimitState.__struct_fields__}),
                full_scope=row["full_scope"],
                full_unit=row["full_unit"],
                full_back_at=row["full_back_at"],
            )
            for row in rows
        ], together

    async def missions(
        self, user: str, limit: int, after: str | None = None, mission: str | None = None
    ) -> list[OwnMission]:
        """A person's missions by id that are not deleted, those after an id or one only."""
        async with self._as(user) as connection:
            rows = await connection.fetch(SQL["missions"], user, mission, after, limit)
        return [OwnMission(**dict(row.items())) for row in rows]

    async def key(self, user: str) -> RegisteredKey | None:
        """The key that this person's client registered, None without one."""
        async with self._as(user) as connection:
            row = await connection.fetchrow(SQL["owner_key"], user)
        return None if row is None else RegisteredKey(**dict(row.items()))

    async def put_key(
        self, user: str, key: OwnerKey, address: str | None, agent: str | None
    ) -> datetime:
        """Register this key in place of another; since when it is there."""
        async with self._as(user) as connection:
            values = user, key.id, key.public_key, address, agent
            return await connection.fetchval(SQL["put_owner_key"], *values)

    async def remove_key(self, user: str, address: str | None, agent: str | None) -> bool:
        """Forget the key; False where there was none."""
        async with self._as(user) as connection:
            return bool(await connection.fetchval(SQL["remove_owner_key"], user, address, agent))

    async def key_changes(self, user: str, most: int) -> list[KeyChange]:
        """What became of this person's keys, the newest first."""
        async with self._as(user) as connection:
            rows = await connection.fetch(SQL["owner_key_changes"], user, most)
        return [KeyChange(**dict(row.items())) for row in rows]

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    @asynccontextmanager
    async def _as(self, user: str) -> AsyncGenerator[asyncpg.Connection]:
        if not user:
            raise UserIdMissingError("owner")
        async with self._db.acting_for(user) as connection:
            yield connection
