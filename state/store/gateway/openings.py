"""Break-glass: an operator opens a person's texts, with a reason, for a short time.

As the role `mana_gateway`, which adds rows and changes none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")
LIFE = timedelta(minutes=15)


class Operator(msgspec.Struct, frozen=True):
    """Which session of an operator, or that it is the service key, and from where as it says."""

    name: str
    address: str | None = None
    user_agent: str | None = None


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Who opened the texts of an agent, when, until when, and why.

    `run_id` is the run that it was about; `is_new` until its person said that they saw it.
    """

    opening_id: UUID
    user_id: str
    agent_id: str
    run_id: UUID | None
    reason: str
    opened_by: str
    address: str | None
    user_agent: str | None
    at: datetime
    ends_at: datetime
    is_new: bool


class LiveOpening(msgspec.Struct, frozen=True):
    """What lets an operator read an agent's texts now."""

    opening_id: UUID
    reason: str
    at: datetime
    ends_at: datetime


class OpeningStore:
    """Rows about operators who read what is not theirs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(
        self, user: str, agent: str, run: UUID | None, reason: str, by: Operator
    ) -> LiveOpening:
        """Once this returns the row is durable, and only then may a text be read."""
        asked = SQL.given(
            "add_opening",
            user=user,
            agent=agent,
            run=run,
            reason=reason,
            by=by.name,
            address=by.address,
            user_agent=by.user_agent,
            life=LIFE,
        )
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(*asked)
        assert row is not None  # an INSERT's
        return LiveOpening(row["opening_id"], reason, row["at"], row["ends_at"])

    async def live(self, user: str, agent: str, by: str) -> LiveOpening | None:
        """The opening by which this operator may read an agent's texts now, None without one."""
        row = await self._db.fetchrow(SQL["live_opening"], user, agent, by)
        return None if row is None else LiveOpening(**dict(row.items()))

    async def list(
        self, user: str | None, limit: int, before: tuple[datetime, UUID] | None = None
    ) -> list[Opening]:
        """Of one person or of all, the newest first, those before a key."""
        before_at, before_id = before or (None, None)
        asked = SQL.given(
            "openings", user=user, before_at=before_at, before_id=before_id, limit=limit
        )
        async with self._db.acting_for(user or "") as connection:
            rows = await connection.fetch(*asked)
        return [Opening(**dict(row.items())) for row in rows]

    async def seen(self, user: str, up_to: UUID) -> bool:
        """This person saw that one and all before it; False where it is none of theirs."""
        async with self._db.acting_for(user) as connection:
            return bool(await connection.fetchval(SQL["openings_seen"], user, up_to))
