"""A person's missions and agents at a glance, as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("own.sql")


class PageHead(msgspec.Struct, frozen=True):
    """Their zone, None for the deployment's, and how many proposals wait for an answer."""

    time_zone: str | None
    waiting: int


class Happened(msgspec.Struct, frozen=True):
    """What became of a due time: a run and its state, or a decision not to run, and why."""

    mission_id: str
    agent_id: str
    due_at: datetime
    at: datetime
    kind: str
    state: str
    reason: str | None
    run_id: UUID | None
    steps: int | None
    tokens: int
    requested: bool


class DayUse(msgspec.Struct, frozen=True):
    """What a mission used on a day of the person's zone; money in millionths."""

    agent_id: str
    mission_id: str
    day: date
    tokens: int
    micros: int


class OwnGlance:
    """Reads for one person at a time."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def head(self, user: str) -> PageHead:
        """What the head of every page says."""
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(SQL["head"], user)
        assert row is not None  # of scalars
        return PageHead(row["time_zone"], row["waiting"])

    async def pulse(self, user: str) -> str:
        """Another text whenever a page of this person may show something else."""
        async with self._db.acting_for(user) as connection:
            return await connection.fetchval(SQL["pulse"], user)

    async def history(
        self, user: str, since: datetime, limit: int, agent: str | None = None
    ) -> list[Happened]:
        """What became of due times, the newest first."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["history"], user, agent, since, limit)
        return [Happened(**dict(row.items())) for row in rows]

    async def use_by_day(self, user: str, zone: str, since: datetime) -> list[DayUse]:
        """Tokens and money by mission and day."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["use_by_day"], user, zone, since)
        return [DayUse(**dict(row.items())) for row in rows]
