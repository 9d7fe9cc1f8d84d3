"""A person's missions and agents at a glance, as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec

from state.store.connect import ActsForPeople
from state.store.sql import statements_of

SQL = statements_of("own.sql")


class PageHead(msgspec.Struct, frozen=True):
    """Their zone, None for the deployment's, and how many proposals wait for an answer.

    `awaits_staging`: there are plans to put to them, or proposals to end, before these are shown.
    `opened` is how often an operator opened their texts that they did not say they saw.
    """

    time_zone: str | None
    waiting: int
    awaits_staging: bool
    opened: int


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


class HistoryPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a history goes on: the last line told."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    mission: Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\0]*$")]
    due_at: Annotated[datetime, msgspec.Meta(tz=True)]


class HistoryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of a history; `outcome` is ran, failed, not-run or under-way."""

    agent: str | None = None
    mission: str | None = None
    outcome: str | None = None


class ModelUse(msgspec.Struct, frozen=True):
    """What an agent's mission used on a day with one model, "" where nobody knows which.

    Money in millionths; `unpriced` calls are not in it, because their price is not known.
    """

    mission_id: str
    model: str
    day: date
    tokens: int
    micros: int
    unpriced: int


class OwnGlance:
    """Reads for one person at a time."""

    def __init__(self, database: ActsForPeople) -> None:
        self._db = database

    async def head(self, user: str) -> PageHead:
        """What the head of every page says."""
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(SQL["head"], user)
        assert row is not None  # of scalars
        return PageHead(**dict(row.items()))

    async def pulse(self, user: str) -> str:
        """Another text whenever a page of this person may show something else."""
        async with self._db.acting_for(user) as connection:
            return await connection.fetchval(SQL["pulse"], user)

    async def history(
        self,
        user: str,
        since: datetime,
        limit: int,
        wanted: HistoryFilter,
        before: HistoryPlace | None = None,
    ) -> list[Happened]:
        """What became of due times, the newest first, those behind a place."""
        asked = SQL.given(
            "history",
            user=user,
            agent=wanted.agent,
            mission=wanted.mission,
            since=since,
            outcome=wanted.outcome,
            before_at=None if before is None else before.at,
            before_mission=None if before is None else before.mission,
            before_due=None if before is None else before.due_at,
            limit=limit,
        )
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(*asked)
        return [Happened(**dict(row.items())) for row in rows]

    async def use_of_agent(
        self, user: str, agent: str, zone: str, since: datetime
    ) -> list[ModelUse]:
        """Tokens and money of one agent by day, mission and model."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["use_of_agent"], user, agent, zone, since)
        return [ModelUse(**dict(row.items())) for row in rows]

    async def versions(self, user: str, agent: str) -> dict[str, int]:
        """Versions of the rows of an agent's missions by id; its own row has the id ""."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["versions_of_agent"], user, agent)
        return {row["id"]: row["version"] for row in rows}

    async def use_by_day(self, user: str, zone: str, since: datetime) -> list[DayUse]:
        """Tokens and money by mission and day."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["use_by_day"], user, zone, since)
        return [DayUse(**dict(row.items())) for row in rows]
