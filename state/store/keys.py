"""What the key holder asks of a run, and the audit row that it writes.

The key holder's login sees no table: user and agent come from the capability it was shown.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from state.log import merge
from state.log.stamps import instant_of
from state.store.connect import Database
from state.store.rows import stored_snapshot, unfolded_changes
from state.store.sql import statements_of

SQL = statements_of("keys.sql")

Outcome = Literal["live", "run-not-live", "other-mission", "too-many"]


class RunClaim(msgspec.Struct, frozen=True):
    """The run, its attempt and the mission for which a key is asked."""

    run_id: uuid.UUID
    attempt: int
    mission_id: str


class GrantedMission(msgspec.Struct, frozen=True):
    """Whose run it is and the mission's current grant; `at` is the database's time in ns.

    `grant` is None where it was revoked or the mission is gone.
    """

    outcome: Outcome
    user_id: str
    agent_id: str
    grant: Any
    at: int


class KeyAudit(msgspec.Struct, frozen=True):
    """The audit row of a request; `record_ids` is all that the key opens."""

    outcome: Literal["released", "refused"]
    reason: str | None = None
    version: str | None = None
    record_ids: tuple[str, ...] = ()
    expires_at: datetime | None = None


class KeyRequest:
    """One request's transaction: what is noted is durable once its block has ended."""

    def __init__(self, connection: asyncpg.Connection, run: RunClaim) -> None:
        self._connection = connection
        self._run = run.run_id, run.attempt, run.mission_id

    async def mission(self) -> GrantedMission:
        """The live run's mission; raises CapabilityInvalid."""
        row = await self._connection.fetchrow(SQL["granted_mission"], *self._run)
        assert row is not None
        grant = None
        if row["outcome"] == "live":
            stored = stored_snapshot(msgspec.json.decode(row["snapshot"] or "null"))
            merged = merge.fold(
                stored,
                unfolded_changes(msgspec.json.decode(row["changes"] or "[]"), row["user_id"]),
            )
            grant = None if merge.hidden(merged) else merged.fields.get("grant")
        at = instant_of(row["asked_at"])
        return GrantedMission(row["outcome"], row["user_id"], row["agent_id"], grant, at)

    async def note(self, attempt: KeyAudit) -> uuid.UUID:
        """Write the attempt; its id."""
        run, number, mission = self._run
        noted = SQL.given(
            "note_release",
            run=run,
            attempt=number,
            mission=mission,
            outcome=attempt.outcome,
            reason=attempt.reason,
            version=attempt.version,
            records=list(attempt.record_ids),
            expires=attempt.expires_at,
        )
        return await self._connection.fetchval(*noted)


class KeyStore:
    """The database as the key holder may use it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @asynccontextmanager
    async def request(self, capability: str, run: RunClaim) -> AsyncGenerator[KeyRequest]:
        """A transaction that has presented the capability (audience `keys`)."""
        async with self._db.transaction() as connection:
            await connection.execute("SELECT set_config('app.capability', $1, true)", capability)
            yield KeyRequest(connection, run)

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()
