"""What became of a person's missions, read as the role `mana_gateway` in that person's place."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

import asyncpg
import msgspec

from state.log.iterations import Iteration
from state.log.own_changes import RecordAt
from state.store.connect import ActsForPeople
from state.store.gateway.own_log import OwnWrites
from state.store.sql import statements_of

SQL = statements_of("own.sql")


class OwnRun(msgspec.Struct, frozen=True):
    """One occurrence of a mission: state, attempts, times, cost; why it is not what was wanted."""

    run_id: UUID
    mission_id: str
    agent_id: str
    due_at: datetime
    requested: bool
    state: str
    attempt: int
    failures: int
    lost: int
    waiting_for: str | None
    not_before: datetime | None
    reason: str | None
    stop_reason: str | None
    iteration_id: str | None
    steps: int | None
    tokens: int
    opened_at: datetime
    claimed_at: datetime
    closed_at: datetime | None
    duplicate_calls: int = 0  # of tools
    dropped_calls: int = 0
    refused_calls: int = 0


class OwnCall(msgspec.Struct, frozen=True):
    """One call to a model; `ended_at` None while it is under way, `tokens` then what it holds.

    Who answered and which tools the answer called, each as often as it did, are known once it is
    paid for; which came back as failed (`refused`), once the run ends. `parts` says what its prompt
    was made of, `inputs` how much of it each input of the mission was, both in tokens.
    """

    number: int
    began_at: datetime | None
    ended_at: datetime | None
    tokens: int
    cost_micros: int | None
    provider: str | None = None
    model: str | None = None
    exposure: str | None = None
    cached_tokens: int = 0
    wasted_tokens: int = 0
    completion_tokens: int = 0
    took_ms: int = 0
    tools: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    parts: dict[str, int] = {}  # msgspec copies it
    inputs: tuple[int, ...] = ()


class OwnDecision(msgspec.Struct, frozen=True):
    """What was decided about an occurrence, and why."""

    decision: str
    reason: str | None
    at: datetime


class OwnDecided(msgspec.Struct, frozen=True):
    """What was decided last about a mission's due time."""

    mission_id: str
    due_at: datetime
    decision: str
    reason: str | None


class OwnReading(msgspec.Struct, frozen=True):
    """A granted record that the run looked at, or why it could not."""

    table_name: str
    record_id: str
    status: str
    reason: str | None
    ts: datetime


class OwnRunDetail(msgspec.Struct, frozen=True):
    """A run with all that is known of it, each list in the order of time."""

    run: OwnRun
    calls: list[OwnCall]
    decisions: list[OwnDecision]
    readings: list[OwnReading]


class OwnEvent(msgspec.Struct, frozen=True):
    """Something that happened to a mission or a run; `key` tells apart what happened at once."""

    at: datetime
    kind: str
    key: str
    run_id: UUID | None
    told: dict[str, Any]


class OlderPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a list of iterations goes on: the oldest told, and since when the log had it."""

    started_at: Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\0]*$")]
    id: str
    logged_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class OwnIteration(msgspec.Struct, frozen=True):
    """An iteration as it is stored, and its run where there is one of ours."""

    iteration: Iteration
    run_id: UUID | None


class OwnRuns:
    """Reads for one person at a time."""

    def __init__(self, database: ActsForPeople) -> None:
        self._db = database

    async def runs(
        self, user: str, mission: str, limit: int, before: datetime | None = None
    ) -> list[OwnRun]:
        """Runs of a mission, the latest occurrence first, those due before a time."""
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(SQL["runs"], user, mission, before, limit)
        return [msgspec.convert(dict(row.items()), OwnRun) for row in rows]

    async def run(self, user: str, run: UUID) -> OwnRunDetail | None:
        """A run and all that is known of it, None where there is none."""
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(SQL["run"], user, run)
            if row is None:
                return None
            found = msgspec.convert(dict(row.items()), OwnRun)
            calls = await connection.fetch(SQL["calls"], user, run)
            decisions = await connection.fetch(
                SQL["decisions"], user, found.mission_id, found.due_at
            )
            readings = await connection.fetch(SQL["readings"], user, run)
        return OwnRunDetail(
            found,
            [_call(call) for call in calls],
            [OwnDecision(**dict(each.items())) for each in decisions],
            [OwnReading(**dict(each.items())) for each in readings],
        )

    async def between(
        self, user: str, since: datetime, until: datetime, limit: int
    ) -> tuple[list[OwnRun], list[OwnDecided]]:
        """Runs of all missions that were due in a time or under way then, and what was decided."""
        async with self._db.acting_for(user) as connection:
            runs = await connection.fetch(SQL["runs_between"], user, since, until, limit)
            decided = await connection.fetch(SQL["decided_between"], user, since, until, limit)
        return (
            [msgspec.convert(dict(row.items()), OwnRun) for row in runs],
            [OwnDecided(**dict(row.items())) for row in decided],
        )

    async def events(
        self, user: str, mission: str, since: datetime, run: UUID | None = None, limit: int = 500
    ) -> list[OwnEvent]:
        """What happened to a mission, or to one of its runs, from a time on; the earliest first."""
        asked = SQL.given("events", user=user, mission=mission, since=since, run=run, limit=limit)
        async with self._db.acting_for(user) as connection:
            rows = await connection.fetch(*asked)
        return [
            OwnEvent(
                row["at"], row["kind"], row["key"], row["run_id"], msgspec.json.decode(row["told"])
            )
            for row in rows
        ]

    async def live_since(self, user: str, mission: str) -> datetime:
        """When the mission's live run began, else now."""
        async with self._db.acting_for(user) as connection:
            return await connection.fetchval(SQL["live_since"], user, mission)

    async def iterations(
        self, user: str, mission: str, limit: int, before: OlderPlace | None = None
    ) -> tuple[list[OwnIteration], OlderPlace | None] | None:
        """Iterations, the newest first, and where older ones go on; None: no such mission.

        The record keeps the newest, also before it is folded: who heard that a run ended finds its
        plan. Older ones are where the log last had them.
        """
        async with self._db.acting_for(user) as connection:
            own = OwnWrites(connection, user, [])
            record = await own.record(RecordAt("ai", "aiMissions", mission), "nothing")
            if not record.is_listed:
                return None
            found = _older(record.fields.get("iterations"), before)
            logged_at = None
            if not found:
                place = before or OlderPlace("\U0010ffff", "")
                row = await connection.fetchrow(
                    SQL["logged_iterations"], mission, place.started_at, place.logged_at
                )
                if row is not None:
                    stored = msgspec.json.decode(row["iterations"] or "null")
                    found, logged_at = _older(stored, before), row["created_at"]
            page = found[:limit]
            ids = [str(each.get("id")) for each in page]
            runs = await connection.fetch(SQL["runs_of_iterations"], user, mission, ids)
        of = {each["iteration_id"]: each["run_id"] for each in runs}
        told = [OwnIteration(each, of.get(str(each.get("id")))) for each in page]
        return told, OlderPlace(*_key(page[-1]), logged_at) if page else None


def _call(row: asyncpg.Record) -> OwnCall:
    noted = {name: msgspec.json.decode(row[name]) for name in ("parts", "inputs")}
    return msgspec.convert({**dict(row.items()), **noted}, OwnCall)


def _older(stored: object, before: OlderPlace | None) -> list[Iteration]:
    """The iterations of an array, the newest first, those older than a place."""
    listed = cast("list[Any]", stored) if isinstance(stored, list) else []
    found: list[Iteration] = [each for each in listed if isinstance(each, dict)]
    if before is not None:
        found = [each for each in found if _key(each) < (before.started_at, before.id)]
    return sorted(found, key=_key, reverse=True)


def _key(iteration: Iteration) -> tuple[str, str]:
    return str(iteration.get("startedAt") or ""), str(iteration.get("id") or "")
