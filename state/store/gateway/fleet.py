"""What operators see of every user, and the few things they do, as the role `mana_gateway`.

The views behind it hold ids, states, times, costs and reasons; records stay their owners'.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from state.log.principals import DEFAULT_AGENT_ID
from state.rules.budgets import room
from state.store.connect import Database
from state.store.gateway.limits import Budget, Limit, LimitChange, LimitState
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

RECEIPTS_READ = 1000
"""Runs whose receipts are read to tell which models served whom."""

Row = TypeVar("Row", bound=msgspec.Struct)


class Shard(msgspec.Struct, frozen=True):
    """One supervisor's share: buckets [lo, hi), and when it last did what it does."""

    shard: str
    bucket_lo: int
    bucket_hi: int
    epoch: int
    holder: str
    taken_at: datetime
    heartbeat_at: datetime
    folded_at: datetime | None
    ticked_at: datetime | None
    reconcile_started_at: datetime | None
    reconciled_at: datetime | None
    now: datetime  # of the database


class Counts(msgspec.Struct, frozen=True):
    """How much there is of everything."""

    missions: int
    agents: int
    runs_open: int
    runs_waiting: int
    quarantined: int


class Signs(msgspec.Struct, frozen=True):
    """What of the database and its runs is not as it should be."""

    is_read_only: bool
    overdue: int
    failed: int


class Blocking(msgspec.Struct, frozen=True):
    """A session that a supervisor waits for, and for how long it has waited."""

    pid: int
    login: str
    waited_s: float


class MissionRow(msgspec.Struct, frozen=True):
    """A mission without its texts; `wake_at` is when it is looked at next.

    `decision` is `waiting` where its run waits for what nobody decided, with the run's reason.
    """

    user_id: str
    mission_id: str
    agent_id: str
    state: str
    next_run_at: datetime | None
    wake_at: datetime | None
    complete: bool
    hidden: bool
    readable: bool
    problems: list[str]
    version: int
    decision: str | None
    reason: str | None
    decided_at: datetime | None

    @property
    def key(self) -> tuple[str, str]:
        """Its place in the list."""
        return self.user_id, self.mission_id


class AgentRow(msgspec.Struct, frozen=True):
    """An agent without its texts; tokens used in 24 h, held by calls under way, and open runs.

    `max_tokens_per_day` is its owner's cap, `cap` the one in force, by `cap_source`.
    """

    user_id: str
    agent_id: str
    state: str
    max_tokens_per_day: int | None
    max_concurrent: int
    complete: bool
    hidden: bool
    problems: list[str]
    version: int
    used_24h: int
    held: int
    running: int
    cap: int | None = None
    cap_source: str = "none"
    recorded: bool = True  # False: the default agent, whose owner never wrote a record of it

    @property
    def key(self) -> tuple[str, str]:
        """Its place in the list."""
        return self.user_id, self.agent_id


class AgentGlance(msgspec.Struct, frozen=True):
    """What was decided last for an agent, its next run, and runs that were due in 24 h."""

    user_id: str
    agent_id: str
    next_run_at: datetime | None
    decision: str | None
    runs_24h: int

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is."""
        return self.user_id, self.agent_id


class ReceiptLine(msgspec.Struct, frozen=True):
    """What one model did for a run; `cost_micros` None where a price is not known.

    `cached_tokens` of its prompts came from the provider's cache, `wasted_tokens` were spent by
    entries that failed before it, and `carried_lost` turns did not bring it what they carry.
    """

    provider: str
    model: str
    exposure: str
    calls: int
    tokens: int
    cost_micros: int | None = None
    cached_tokens: int = 0
    carried_lost: int = 0
    wasted_tokens: int = 0


class RunRow(msgspec.Struct, frozen=True):
    """One occurrence of a mission: state, attempts, times, cost, and who answered its calls.

    `stop_reason` is why the model stopped; calls that were made twice, were too many or came back
    as failed are counted.
    """

    run_id: UUID
    user_id: str
    agent_id: str
    mission_id: str
    due_at: datetime
    state: str
    requested: bool
    attempt: int
    failures: int
    reason: str | None
    waiting_for: str | None
    not_before: datetime | None
    lease_until: datetime | None
    iteration_id: str | None
    steps: int | None
    tokens: int
    model_calls: int
    opened_at: datetime
    claimed_at: datetime
    closed_at: datetime | None
    healed_at: datetime | None
    stop_reason: str | None = None
    duplicate_calls: int = 0
    dropped_calls: int = 0
    refused_calls: int = 0
    receipt: tuple[ReceiptLine, ...] = ()

    @property
    def key(self) -> tuple[datetime, UUID]:
        """Its place in the list."""
        return self.opened_at, self.run_id


class ModelUsed(msgspec.Struct, frozen=True):
    """Who asked a model for how much, of the runs that were looked at."""

    provider: str
    model: str
    agents: int
    missions: int
    runs: int
    calls: int
    tokens: int
    last_at: datetime


class DecisionRow(msgspec.Struct, frozen=True):
    """What the gate, or the end of a run, said about a mission."""

    id: int
    user_id: str
    mission_id: str
    agent_id: str
    due_at: datetime | None
    decision: str
    reason: str | None
    at: datetime


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row of the log that was set aside, and why."""

    change_id: UUID
    user_id: str
    table_name: str
    record_id: str
    reason: str
    seen_at: datetime


class PolicyRow(msgspec.Struct, frozen=True):
    """The policy of a record, as JSON text."""

    policy: str | None


class RunRequest(msgspec.Struct, frozen=True):
    """The answer to "run now": its occurrence, and whether this key made it."""

    due_at: datetime
    created: bool


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a list: of a user, an agent, a mission, in a state, with problems.

    Runs also by the model that served them, as provider/model.
    """

    user: str | None = None
    agent: str | None = None
    mission: str | None = None
    model: str | None = None
    state: str | None = None
    problems: bool = False
    limit: int = 100


Listed = TypeVar("Listed", MissionRow, AgentRow)
MissionSort = Literal["failed", "next"]
PlaceKey = tuple[float, str, str]


class Placed(msgspec.Struct, Generic[Row], frozen=True):
    """A row of a sorted list, and the key behind which the list goes on."""

    row: Row
    key: PlaceKey


class KeyTaken(Exception):
    """The idempotency key was used for another mission of this user."""


class FleetStore:
    """Typed reads of the fleet, page by page, and the gateway's writes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def database(self) -> Database:
        """The gateway's connections, for its other stores."""
        return self._db

    async def shards(self) -> list[Shard]:
        """Every shard in bucket order."""
        return await self._rows(Shard, SQL["shards"])

    async def counts(self) -> Counts:
        """Totals over all users."""
        (row,) = await self._rows(Counts, SQL["counts"])
        return row

    async def signs(self, late_s: float) -> Signs:
        """Whether it can be written, and what is late or failed; counting stops at 1,000.

        Late is a mission that should have been looked at this long ago.
        """
        (row,) = await self._rows(Signs, SQL["signs"], late_s)
        return row

    async def blockers(self) -> list[Blocking]:
        """Sessions that keep a supervisor waiting for a lock, the longest first; five at most."""
        return await self._rows(Blocking, SQL["blockers"])

    async def missions(
        self, wanted: Filter, after: tuple[str, str] | None = None
    ) -> list[MissionRow]:
        """Missions by (user, id), those after a key."""
        key = after or (None, None)
        kind = (wanted.user, wanted.agent, wanted.mission, wanted.state, wanted.problems)
        return await self._rows(MissionRow, SQL["missions"], *kind, *key, wanted.limit)

    async def agents(self, wanted: Filter, after: tuple[str, str] | None = None) -> list[AgentRow]:
        """Agents by (user, id), those after a key."""
        key = after or (None, None)
        kind = (wanted.user, wanted.agent, wanted.state, wanted.problems)
        return await self._rows(AgentRow, SQL["agents"], *kind, *key, wanted.limit)

    async def missions_by(
        self, sort: MissionSort, wanted: Filter, after: PlaceKey | None = None
    ) -> list[Placed[MissionRow]]:
        """Missions by what an operator looks for, those after a key."""
        key = after or (None, None, None)
        kind = (wanted.user, wanted.agent, wanted.mission, wanted.state, wanted.problems)
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                SQL["missions_by"], *kind, *key, wanted.limit, sort == "failed"
            )
        return [_placed(MissionRow, row) for row in rows]

    async def agents_by_spent(
        self, wanted: Filter, after: PlaceKey | None = None
    ) -> list[Placed[AgentRow]]:
        """Agents by tokens of 24 hours, the most first, those after a key."""
        key = after or (None, None, None)
        kind = (wanted.user, wanted.agent, wanted.state, wanted.problems)
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["agents_by_spent"], *kind, *key, wanted.limit)
        return [_placed(AgentRow, row) for row in rows]

    async def glances(self, agents: list[tuple[str, str]]) -> list[AgentGlance]:
        """Of these agents, in no order."""
        users, ids = [user for user, _ in agents], [id_ for _, id_ in agents]
        return await self._rows(AgentGlance, SQL["glances"], users, ids)

    async def runs(
        self, wanted: Filter, before: tuple[datetime, UUID] | None = None
    ) -> list[RunRow]:
        """Runs, the newest first, those before a key (opened_at, run_id).

        By model only the newest RECEIPTS_READ are searched.
        """
        key = before or (None, None)
        kind = (wanted.user, wanted.agent, wanted.mission, wanted.state)
        served = (wanted.model, RECEIPTS_READ)
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["runs"], *kind, *key, wanted.limit, *served)
        return [_run(row) for row in rows]

    async def run(self, run_id: UUID) -> RunRow | None:
        """One run, None without it."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["run"], run_id)
        return None if row is None else _run(row)

    async def models_used(self) -> list[ModelUsed]:
        """Which models the newest RECEIPTS_READ runs were answered by, those of most runs first."""
        return await self._rows(ModelUsed, SQL["models_used"], RECEIPTS_READ)

    async def decisions(self, wanted: Filter, before: int | None = None) -> list[DecisionRow]:
        """Decisions, the newest first, those before an id."""
        kind = (wanted.user, wanted.agent, wanted.mission)
        return await self._rows(DecisionRow, SQL["decisions"], *kind, before, wanted.limit)

    async def quarantined(
        self, wanted: Filter, before: tuple[datetime, UUID] | None = None
    ) -> list[QuarantinedRow]:
        """Rows set aside, the newest first, those before a key (seen_at, change_id)."""
        key = before or (None, None)
        return await self._rows(QuarantinedRow, SQL["quarantined"], wanted.user, *key, wanted.limit)

    async def unknown(self, wanted: Filter) -> str | None:
        """Which of the names asked for nobody has: "user", "agent" or "mission"; None for none."""
        names = (wanted.user, wanted.agent, wanted.mission, DEFAULT_AGENT_ID)
        async with self._db.connection() as connection:
            return await connection.fetchval(SQL["unknown"], *names)

    async def request_run(self, user: str, mission: str, key: str) -> RunRequest | None:
        """Ask for a run now, once per key; None without such a mission. Raises KeyTaken."""
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(SQL["request_run"], user, mission, key)
        if row is None or row["created"] is None:
            return None
        if row["due_at"] is None:
            raise KeyTaken(user, mission)
        return RunRequest(row["due_at"], row["created"])

    async def policy(self, user: str, agent: str) -> PolicyRow | None:
        """An agent's policy as its record holds it (JSON text); None without a record."""
        async with self._db.acting_for(user) as connection:
            row = await connection.fetchrow(SQL["policy_of_agent"], user, agent)
        return None if row is None else PolicyRow(**dict(row))

    async def save_time_zone(self, user: str, time_zone: str | None) -> None:
        """The zone in which a user's cadences are meant; None is the deployment's."""
        async with self._db.acting_for(user) as connection:
            await connection.execute(SQL["save_time_zone"], user, time_zone)

    async def budget(self, user_id: str, agent_id: str) -> Budget | None:
        """What an agent has used, holds and has left, and when room returns; None for no agent."""
        async with self._db.acting_for(user_id) as connection:
            if not await connection.fetchval(SQL["has_agent"], user_id, agent_id):
                return None
            rows = await connection.fetch(SQL["budgets"], user_id, agent_id)
        return _budget(_converted(LimitState, rows))

    async def limits(self) -> list[Limit]:
        """Every limit that operators set, the widest first."""
        return await self._rows(Limit, SQL["limits"])

    async def spent(self, limits: Sequence[Limit]) -> list[LimitState | None]:
        """The last 24 hours under each limit; None for one of each user or each agent."""
        asked = SQL.given(
            "spent",
            kinds=[one.kind for one in limits],
            users=[one.user_id for one in limits],
            agents=[one.agent_id for one in limits],
        )
        found: list[LimitState | None] = [None] * len(limits)
        async with self._db.transaction() as connection:
            for row in await connection.fetch(*asked):
                told: dict[str, Any] = dict(row)
                place: int = told.pop("place")
                found[place - 1] = LimitState(**told, back_at=None)
        return found

    async def set_limit(self, change: LimitChange) -> None:
        """Set or lift one limit; missions it refused are looked at again."""
        tokens, micros = change.tokens, change.micros
        async with self._db.transaction() as connection:
            await connection.execute(
                *SQL.given(
                    "set_limit",
                    kind=change.kind,
                    user=change.user_id,
                    agent=change.agent_id,
                    tokens=None if tokens is msgspec.UNSET else tokens,
                    micros=None if micros is msgspec.UNSET else micros,
                    sets_tokens=tokens is not msgspec.UNSET,
                    sets_micros=micros is not msgspec.UNSET,
                ),
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    async def _rows(self, kind: type[Row], statement: str, *values: Any) -> list[Row]:
        async with self._db.connection() as connection:
            rows = await connection.fetch(statement, *values)
        return _converted(kind, rows)


def _placed(kind: type[Listed], row: asyncpg.Record) -> Placed[Listed]:
    found: dict[str, Any] = dict(row)
    place: float = found.pop("place")
    made = kind(**found)
    user, name = made.key
    return Placed(made, (place, user, name))


def _budget(limits: list[LimitState]) -> Budget:
    own = limits[0]
    rooms = [left for one in limits if (left := room(one.cap, one.used, one.held)) is not None]
    return Budget(
        cap=own.cap,
        cap_source=own.source,
        used=own.used,
        held=own.held,
        left=min(rooms, default=None),
        back_at=own.back_at,
        cost_micros_used=own.micros_used,
        limits=tuple(limits),
    )


_receipt = msgspec.json.Decoder(tuple[ReceiptLine, ...]).decode


def _run(row: asyncpg.Record) -> RunRow:
    found: dict[str, Any] = dict(row)
    found["receipt"] = _receipt(found["receipt"])
    return RunRow(**found)


def _converted(kind: type[Row], rows: Sequence[Any]) -> list[Row]:
    return [kind(**dict(row.items())) for row in rows]
