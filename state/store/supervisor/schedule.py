"""What the supervisor does besides folding: its shard, what is due, decisions, capabilities."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from state.log.records import InputRef, input_refs
from state.rules.policy import DENY_ALL, AiPolicy, parse_policy
from state.runs.decision import Decision
from state.runs.gate import MISSED_AFTER
from state.runs.occurrence import RunState
from state.runs.reasons import told
from state.runs.versions import Versions
from state.runs.withdrawal import why_unwanted
from state.store.connect import Database
from state.store.sql import statements_of
from state.store.supervisor.snapshots import Lease

SQL = statements_of("supervisor.sql")


MissionKey = tuple[str, str]
"""(user id, mission id)"""


class DueMission(msgspec.Struct, frozen=True):
    """One mission to look at now, with all that the gate asks; aware instants, tokens of 24 h."""

    user_id: str
    mission_id: str
    agent_id: str
    version: int
    next_run_at: datetime | None
    wake_at: datetime
    state: str
    hidden: bool
    complete: bool
    readable: bool
    heal: bool
    decision: str | None
    space_id: str | None
    agent_known: bool
    agent_state: str | None
    max_concurrent: int | None
    max_tokens_per_day: int | None
    agent_version: int | None
    run_state: RunState | None
    lease_until: datetime | None
    not_before: datetime | None
    run_due_at: datetime | None
    requested_at: datetime | None
    slot_state: str | None
    browser_since: datetime | None
    used: int
    back_at: datetime | None
    full_scope: str | None
    full_unit: str | None
    full_back_at: datetime | None
    running: int
    slots_from: datetime | None
    now: datetime
    agent_hidden: bool = False
    has_left_space: bool = False  # its owner is no member of its space any more
    agent_of_another: bool = False  # the agent that it names is another member's
    leaves_missed: bool | None = False  # its slot is late, and its owner wants none then
    time_zone: str | None = None
    limits: str | None = None  # caps of agent, user and installation as they were

    @property
    def versions(self) -> Versions:
        """What is decided about it now is decided by this."""
        return Versions(
            mission=self.version,
            agent=self.agent_version,
            time_zone=self.time_zone,
            cap=self.max_tokens_per_day,
            requested_at=self.requested_at,
        )


class Look(msgspec.Struct, frozen=True):
    """When to look at a mission again, if its snapshot still has this version.

    `was` is the time that this look replaces: where somebody set another meanwhile, theirs stays.
    Without it, a mission that is due stays due. `decided_by`, the cap in it where it `is_capped`,
    and `limits` are what it was decided by: where that has changed, `settle` drops the word.
    """

    user_id: str
    mission_id: str
    version: int
    at: datetime | None
    was: datetime | None = None
    decided_by: Versions | None = None
    is_capped: bool = False
    limits: str | None = None


class Decided(msgspec.Struct, frozen=True):
    """What the gate said about a mission."""

    user_id: str
    mission_id: str
    agent_id: str
    due_at: datetime | None
    decision: Decision
    reason: str


class EndedSession(msgspec.Struct, frozen=True):
    """A session of agents that was ended for its age: what it called itself, and whose it was.

    `pairs` (owner, agent) are proven by what it held; empty where it held nothing that shows it.
    """

    pid: int
    application: str
    age_s: float
    pairs: frozenset[tuple[str, str]]


class RowHolder(msgspec.Struct, frozen=True):
    """A session whose open transaction locks rows of ours."""

    pid: int
    login: str


class Settled(msgspec.Struct, frozen=True):
    """Decisions that were news, and missions that are as they were.

    They are `held` by somebody, or what was decided about them was `overtaken` by a change.
    """

    noted: list[Decision]
    held: set[MissionKey]
    overtaken: set[MissionKey] = set()


class ScheduleStore:
    """Scheduling, as the supervisor's role. Nothing here waits for a row that an agent can hold."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take_shard(self, shard: str, lo: int, hi: int, holder: str) -> Lease:
        """Become the one supervisor of buckets [lo, hi); the one before stands down."""
        async with self._db.connection() as connection:
            epoch = await connection.fetchval(SQL["take_shard"], shard, lo, hi, holder)
        return Lease(shard, epoch, lo, hi)

    async def beat(
        self, lease: Lease, *, folded_at: datetime | None = None, ticked_at: datetime | None = None
    ) -> bool:
        """Say that this supervisor lives and how far it is; False if its epoch is over."""
        async with self._db.connection() as connection:
            done = await connection.execute(
                SQL["beat"], lease.shard, lease.epoch, folded_at, ticked_at
            )
        return done != "UPDATE 0"

    async def feed_backlog(self, lease: Lease) -> int:
        """Changes that wait to be folded, counted up to 100,000."""
        async with self._db.connection() as connection:
            return int(await connection.fetchval(SQL["feed_backlog"], lease.lo, lease.hi))

    async def due(
        self, lease: Lease, limit: int, held: Sequence[MissionKey] = ()
    ) -> list[DueMission]:
        """Up to `limit` missions to look at now, one of each user before the second of any.

        Those that were just found to be `held` are left out.
        """
        async with self._db.connection() as connection:
            if not await connection.fetchval(SQL["is_due"], lease.lo, lease.hi):
                return []
            users, missions = [user for user, _ in held], [mission for _, mission in held]
            asked = SQL.given(
                "due",
                lo=lease.lo,
                hi=lease.hi,
                limit=limit,
                users=users,
                missions=missions,
                missed_after=MISSED_AFTER,
            )
            rows = await connection.fetch(*asked)
        return [DueMission(**dict(row)) for row in rows]

    async def agents_due_soon(self, lease: Lease, within_s: float) -> int:
        """How many agents fall due within `within_s` seconds."""
        async with self._db.connection() as connection:
            return int(
                await connection.fetchval(SQL["agents_due_soon"], lease.lo, lease.hi, within_s)
            )

    async def has_grants(self, lease: Lease) -> bool:
        """Whether any mission has a grant, so that a key is needed."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(SQL["has_grants"], lease.lo, lease.hi))

    async def holders(self, keys: Sequence[tuple[str, str]]) -> list[RowHolder]:
        """The sessions that lock the snapshots of these (user, record), as far as rows tell."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                SQL["holders"], [key[0] for key in keys], [key[1] for key in keys]
            )
        return [RowHolder(**dict(row)) for row in rows]

    async def wake_deferred(self, lease: Lease) -> tuple[int, int]:
        """Look now at what waited for room on a disk; how many those are, and how many are held."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["wake_deferred"], lease.lo, lease.hi)
        assert row is not None
        return row["woken"], row["held"]

    async def settle(self, looks: Sequence[Look], decided: Sequence[Decided]) -> Settled:
        """Look again and note decisions in one transaction: both for a mission, or neither.

        Neither where what it was decided by has changed: a refusal that came late would put the
        mission to sleep though nothing stands against it any more. Locks are a statement of their
        own, so that the next one compares with all that was committed before they were taken.
        """
        known = [(look, by) for look in looks if (by := look.decided_by) is not None]
        async with self._db.transaction() as connection:
            users, missions = [k.user_id for k in looks], [k.mission_id for k in looks]
            rows = await connection.fetch(SQL["lock_missions"], users, missions)
            held = {(row["user_id"], row["record_id"]) for row in rows}
            rows = await connection.fetch(
                *SQL.given(
                    "overtaken",
                    users=[look.user_id for look, _ in known],
                    missions=[look.mission_id for look, _ in known],
                    versions=[by.mission for _, by in known],
                    agent_versions=[by.agent for _, by in known],
                    time_zones=[by.time_zone for _, by in known],
                    requested=[by.requested_at for _, by in known],
                    capped=[look.is_capped for look, _ in known],
                    caps=[by.cap for _, by in known],
                    limits=[look.limits for look, _ in known],
                )
            )
            overtaken = {(row["user_id"], row["mission_id"]) for row in rows} - held
            left = held | overtaken
            await _look_again(
                connection, [k for k in looks if (k.user_id, k.mission_id) not in left]
            )
            told = [one for one in decided if (one.user_id, one.mission_id) not in left]
            return Settled(await _note_decisions(connection, told), held, overtaken)

    async def look_again(self, looks: Sequence[Look]) -> set[MissionKey]:
        """Set when to look at each mission again; those that somebody holds stay as they are."""
        async with self._db.connection() as connection:
            return await _look_again(connection, looks)

    async def wake_blocked(self, user_id: str, agent_id: str) -> bool:
        """Look again at the user's oldest mission that waits for a place, this agent's first.

        True where somebody holds all of them: it is to be asked for again.
        """
        async with self._db.connection() as connection:
            return await connection.fetchval(SQL["wake_blocked"], user_id, agent_id)

    async def wake_missions(self, user_id: str, missions: Sequence[str]) -> set[MissionKey]:
        """Look at these at once, their orders got lost; those that somebody holds stay."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["wake_missions"], user_id, list(missions))
        return {(row["user_id"], row["mission_id"]) for row in rows}

    async def withdraw_unwanted(self, user_id: str, missions: Sequence[str]) -> int:
        """End these missions' runs that only wait and are wanted no longer; returns how many.

        One that somebody holds goes on waiting: it is to be asked for again.
        """
        withdrawn = 0
        async with self._db.connection() as connection:
            for run in await connection.fetch(SQL["waiting_runs"], user_id, list(missions)):
                reason = why_unwanted(
                    hidden=run["hidden"],
                    state=run["state"],
                    agent_hidden=run["agent_hidden"],
                    agent_state=run["agent_state"],
                )
                if reason is not None:
                    versions = run["version"], run["agent_version"]
                    withdrawn += await connection.fetchval(
                        SQL["withdraw_waiting"], user_id, run["run_id"], reason, *versions
                    )
        return withdrawn

    async def wake_ordered(self, lease: Lease, within_s: float) -> set[MissionKey]:
        """Look at once at what would be looked at within `within_s` s; what is held stays."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["wake_ordered"], lease.lo, lease.hi, within_s)
        return {(row["user_id"], row["mission_id"]) for row in rows}

    async def note_decisions(self, decided: Sequence[Decided]) -> list[Decision]:
        """Keep decisions that differ from the mission's last; the labels of those are counted."""
        async with self._db.connection() as connection:
            return await _note_decisions(connection, decided)

    async def sign_capability(
        self, user_id: str, agent_id: str, spaces: Sequence[str], scope: Sequence[str], ttl_s: int
    ) -> str:
        """A capability for one agent's process, valid for `ttl_s` s; raises CapabilityTooLong."""
        async with self._db.connection() as connection:
            return await connection.fetchval(
                *SQL.given(
                    "sign_capability",
                    user=user_id,
                    agent=agent_id,
                    spaces=list(spaces),
                    scope=list(scope),
                    ttl_s=ttl_s,
                )
            )

    async def reach_of_agent(
        self, user_id: str, agent_id: str
    ) -> tuple[list[InputRef], list[str], AiPolicy]:
        """What the agent's active missions read, their spaces, and what its owner allows it.

        Nothing is allowed to an agent that is unknown or deleted.
        """
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["reach_of_agent"], user_id, agent_id)
        policy = DENY_ALL
        refs, spaces = list[InputRef](), set[str]()
        for row in rows:
            if row["is_agent"]:
                policy = parse_policy(msgspec.json.decode(row["said"] or "null"))[0]
                continue
            refs += input_refs(msgspec.json.decode(row["said"] or "[]"))
            if row["space_id"]:
                spaces.add(row["space_id"])
        return refs, sorted(spaces), policy

    async def mission_record(self, user_id: str, mission_id: str) -> tuple[str, str | None] | None:
        """A mission's record as JSON text and its owner's time zone."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["mission_record"], user_id, mission_id)
        return (row["record"], row["time_zone"]) if row else None

    async def move_slot(
        self,
        user_id: str,
        mission_id: str,
        due_at: datetime,
        next_run_at: str | None,
        stamp: str,
        actor: str,
    ) -> bool:
        """Write the next run of a slot that nobody has to serve any more."""
        async with self._db.transaction() as connection:
            return bool(
                await connection.fetchval(
                    *SQL.given(
                        "move_slot",
                        user=user_id,
                        mission=mission_id,
                        due_at=due_at,
                        next_run_at=next_run_at,
                        stamp=stamp,
                        actor=actor,
                        missed_after=MISSED_AFTER,
                        missed=told("slot-missed"),
                    )
                )
            )

    async def release_holder(self, holder: str) -> tuple[list[MissionKey], list[MissionKey]]:
        """Free the claims of a process known to be dead; what was freed, and what is held still."""
        freed: list[MissionKey] = []
        left: list[MissionKey] = []
        async with self._db.connection() as connection:
            for row in await connection.fetch(SQL["release_holder"], holder):
                (freed if row["is_freed"] else left).append((row["user_id"], row["mission_id"]))
        return freed, left

    async def charge_expired_holds(self) -> int:
        """Charge the holds whose call deadline passed; returns how many."""
        async with self._db.connection() as connection:
            return int((await connection.execute(SQL["charge_expired_holds"])).rsplit(" ", 1)[-1])

    async def wake_after_limits(self) -> int:
        """Look again at missions refused room before a limit changed; returns how many."""
        async with self._db.connection() as connection:
            return int((await connection.execute(SQL["wake_after_limits"])).rsplit(" ", 1)[-1])

    async def end_sessions(self, lease: Lease, older_s: float) -> list[EndedSession]:
        """End agents' sessions whose transaction is older, unless they wait for somebody's lock.

        Another shard's agents are left to its supervisor, which remembers them, for as long again.
        """
        async with self._db.connection() as connection:
            old = await connection.fetch(SQL["old_sessions"], older_s)
            pids = [
                row["pid"]
                for row in old
                if row["bucket"] is None
                or lease.lo <= row["bucket"] < lease.hi
                or row["age_s"] > 2 * older_s
            ]
            if not pids:
                return []
            ended = {row[0] for row in await connection.fetch(SQL["end_sessions"], older_s, pids)}
        return [
            EndedSession(
                pid,
                next(row["application"] for row in old if row["pid"] == pid),
                next(row["age_s"] for row in old if row["pid"] == pid),
                frozenset(
                    (row["user_id"], row["agent_id"])
                    for row in old
                    if row["pid"] == pid and row["user_id"] is not None
                ),
            )
            for pid in sorted(ended)
        ]

    async def suspend_runs(self, user_id: str, agent_id: str) -> None:
        """Let the agent's open runs wait: whoever holds its capability cannot renew it."""
        async with self._db.connection() as connection:
            await connection.execute(SQL["suspend_runs"], user_id, agent_id)

    async def live_holders(self) -> list[str]:
        """Names of the processes that hold an unexpired claim."""
        async with self._db.connection() as connection:
            return [row["holder"] for row in await connection.fetch(SQL["live_holders"])]


async def _look_again(connection: asyncpg.Connection, looks: Sequence[Look]) -> set[MissionKey]:
    if not looks:
        return set()
    asked = SQL.given(
        "look_again",
        users=[k.user_id for k in looks],
        missions=[k.mission_id for k in looks],
        versions=[k.version for k in looks],
        at=[k.at for k in looks],
        was=[k.was for k in looks],
    )
    rows = await connection.fetch(*asked)
    return {(row["user_id"], row["mission_id"]) for row in rows}


async def _note_decisions(
    connection: asyncpg.Connection, decided: Sequence[Decided]
) -> list[Decision]:
    if not decided:
        return []
    columns: list[list[Any]] = [
        list(c) for c in zip(*(msgspec.structs.astuple(d) for d in decided), strict=True)
    ]
    return [row["decision"] for row in await connection.fetch(SQL["note_decisions"], *columns)]
