"""From the feed to snapshots: the fold, the late-row rule, the reconcile sweep.

A fold locks its shard's row with its epoch and the snapshots that it will write, takes their
changes, merges and saves them, all in one transaction. A row that sorts before what its snapshot
has seen makes its record be replayed from the log in the same transaction.

Nothing here waits for anybody's row: a record whose snapshot somebody holds is set aside with all
its changes, and its turn comes later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from state.errors import StateError, TerminalError
from state.log import merge
from state.log.deltas import (
    AGENT_FIELDS,
    MISSION_FIELDS,
    AgentColumns,
    C,
    MissionColumns,
    RecordDelta,
    delta_of,
    held_of,
)
from state.log.healing import needs_healing
from state.log.merge import Change, Snapshot
from state.log.principals import DEFAULT_AGENT_ID
from state.log.records import Agent, Mission, agent_from_record, mission_from_record
from state.log.tables import is_shared_space
from state.runs.withdrawal import browser_since
from state.store.connect import Database, Refused, Unavailable
from state.store.sql import statements_of

SQL = statements_of("supervisor.sql")

MISSIONS = "aiMissions"
AGENTS = "agents"
BATCH_BYTES = 32 * 1024 * 1024
SET_ASIDE = "statement failed on this row"
_MAX_INT4 = 2**31 - 1
_TOOK_TOO_LONG = "QueryCanceledError"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

RecordKey = tuple[str, str, str]
"""(owner's user id, table, record id)"""


class StoodDown(StateError, TerminalError):
    """Another supervisor has this shard: its epoch is newer."""

    def __init__(self, shard: str, epoch: int) -> None:
        super().__init__(shard, epoch)
        self.shard, self.epoch = shard, epoch

    def __str__(self) -> str:
        return f"shard {self.shard}: epoch {self.epoch} is over"


class Lease(msgspec.Struct, frozen=True):
    """One supervisor's hold on a shard of buckets [lo, hi)."""

    shard: str
    epoch: int
    lo: int = 0
    hi: int = 256


class MissionDelta(msgspec.Struct, frozen=True):
    """A mission's snapshot has a new version; `left` is the agent whose it was, if another."""

    user_id: str
    mission_id: str
    agent_id: str
    version: int
    delta: RecordDelta[MissionColumns]
    left: str | None = None


class AgentDelta(msgspec.Struct, frozen=True):
    """An agent's snapshot has a new version."""

    user_id: str
    agent_id: str
    version: int
    delta: RecordDelta[AgentColumns]


class Folded(msgspec.Struct, frozen=True):
    """What one fold did: rows taken, replayed, quarantined, versions to tell of.

    `floor` is the seq behind which the next page begins, if there `has_more`; `held` are records
    that were set aside because somebody's transaction holds what would have been written.
    """

    rows: int = 0
    replayed: int = 0
    quarantined: int = 0
    new_missions: int = 0
    floor: int = 0
    has_more: bool = False
    held: tuple[RecordKey, ...] = ()
    missions: tuple[MissionDelta, ...] = ()
    agents: tuple[AgentDelta, ...] = ()


class _Batch:
    """The records one transaction touches, before and after.

    `taken` are the rows from the feed, `changes` those that are folded: a replay's are more.
    """

    def __init__(self) -> None:
        self.before: dict[RecordKey, Snapshot] = {}
        self.after: dict[RecordKey, Snapshot] = {}
        self.versions: dict[RecordKey, int] = {}  # of those before
        self.owners: dict[RecordKey, str] = {}  # whose agents' they were
        self.taken: dict[RecordKey, list[Change]] = {}
        self.changes: dict[RecordKey, list[Change]] = {}
        self.adopting: set[RecordKey] = set()
        self.quarantined: list[tuple[Change, RecordKey, str]] = []
        self.replayed = 0


class SnapshotStore:
    """Folding and reconciling, as the supervisor's role."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._db = database
        self.lease = lease

    async def feed_waits(self, floor: int) -> bool:
        """Whether the feed holds anything after `floor` for this shard."""
        async with self._db.connection() as connection:
            return bool(
                await connection.fetchval(SQL["feed_waits"], floor, self.lease.lo, self.lease.hi)
            )

    async def fold(self, floor: int = 0, limit: int = 5000) -> Folded:
        """Fold the next `limit` rows after `floor`, and all others of the records they change.

        Where a statement fails on a value, smaller pages are tried until an unsavable row is alone.
        """
        size, is_whole = limit, True
        while True:
            try:
                return await self._fold(floor, size, is_whole=is_whole)
            except Refused as exc:
                if not exc.blames_a_value:
                    raise
                if size == 1 and not is_whole:
                    return await self._fold(floor, 1, is_whole=False, set_aside=True)
                size, is_whole = max(1, size // 2), False

    async def _fold(
        self, floor: int, limit: int, *, is_whole: bool, set_aside: bool = False
    ) -> Folded:
        async with self._db.transaction() as connection:
            lo, hi = await self._locked(connection)
            page = await connection.fetch(SQL["waiting_records"], lo, hi, floor, limit)
            if not page:
                return Folded(floor=floor)
            wanted: dict[RecordKey, bool] = {}  # and whether rows of members may belong to it
            for row in page:
                if row["owner_id"] is not None:
                    key = (row["owner_id"], row["table_name"], row["record_id"])
                    wanted[key] = wanted.get(key, False) or row["is_shared"]
            held = await self._held(connection, list(wanted))
            keys = [key for key in wanted if key not in held]
            rows = await connection.fetch(
                *SQL.given(
                    "take_changes",
                    lo=lo,
                    hi=hi,
                    users=[key[0] for key in keys],
                    tables=[key[1] for key in keys],
                    records=[key[2] for key in keys],
                    shared=[wanted[key] for key in keys],
                    seqs=None if is_whole else [row["seq"] for row in page],
                    bytes=BATCH_BYTES,
                )
            )
            batch = _Batch()
            _collect(batch, rows)
            if set_aside and rows:  # the one row cannot be saved, and no replay may take it
                for key, changes in batch.changes.items():
                    batch.changes[key] = [_skipped(change) for change in changes]
                batch.taken = {}
                culprits = [(c, key, c.problem) for key, cs in batch.changes.items() for c in cs]
                await connection.execute(SQL["quarantine"], *_quarantine_columns(culprits))
            await self._adopt(connection, batch)
            await self._load(connection, batch)
            await self._merge(connection, batch)
            is_cut = bool(rows and rows[0]["left_out"])
            return msgspec.structs.replace(
                await self._save(connection, batch),
                rows=len(rows),
                floor=floor if is_cut else page[-1]["seq"],
                has_more=is_cut or len(page) == limit,
                held=tuple(held),
            )

    async def _held(
        self, connection: asyncpg.Connection, keys: Sequence[RecordKey]
    ) -> set[RecordKey]:
        """Lock all that a change of these records is written to; those that somebody else holds."""
        held: set[RecordKey] = set()
        for table, statement in ((MISSIONS, SQL["lock_missions"]), (AGENTS, SQL["lock_agents"])):
            some = [key for key in keys if key[1] == table]
            if some:
                rows = await connection.fetch(statement, [k[0] for k in some], [k[2] for k in some])
                held |= {(row["user_id"], table, row["record_id"]) for row in rows}
        return held

    async def _locked(self, connection: asyncpg.Connection) -> tuple[int, int]:
        row = await connection.fetchrow(SQL["lock_shard"], self.lease.shard, self.lease.epoch)
        if row is None:
            raise StoodDown(self.lease.shard, self.lease.epoch)
        return row["lo"], row["hi"]

    async def _adopt(self, connection: asyncpg.Connection, batch: _Batch) -> None:
        """An insert into a shared space owns rows of members that were folded before it came."""
        if not batch.adopting:
            return
        ids = sorted({key[2] for key in batch.adopting})
        rows = await connection.fetch(SQL["orphans"], ids, self.lease.lo, self.lease.hi)
        orphans = {(row["user_id"], row["table_name"], row["record_id"]) for row in rows}
        orphans -= await self._held(connection, list(orphans))  # a sweep finds those
        adopted = {orphan[1:] for orphan in orphans}
        batch.adopting = {key for key in batch.adopting if key[1:] in adopted} | orphans
        for key in orphans:
            batch.changes.setdefault(key, [])

    async def _load(self, connection: asyncpg.Connection, batch: _Batch) -> None:
        for table, statement in ((MISSIONS, SQL["load_missions"]), (AGENTS, SQL["load_agents"])):
            keys = [key for key in batch.changes if key[1] == table]
            if keys:
                rows = await connection.fetch(statement, [k[0] for k in keys], [k[2] for k in keys])
                for row in rows:
                    key = (row["user_id"], table, row["record_id"])
                    batch.before[key] = merge.decode_record(
                        row["record"],
                        exists=row["present"],
                        complete=row["complete"],
                        newest_at=_micros(row["newest_at"]),
                        newest_id=str(row["newest_id"] or ""),
                        count=row["folded_count"],
                        digest=row["folded_digest"],
                    )
                    batch.versions[key], batch.owners[key] = row["version"], row["agent_id"]

    async def _merge(self, connection: asyncpg.Connection, batch: _Batch) -> None:
        late: list[RecordKey] = []
        for key, changes in batch.changes.items():
            before = batch.before.get(key)
            if key in batch.adopting or _must_replay(before, changes):
                late.append(key)
            else:
                batch.after[key] = merge.fold(before, changes)
        if late:
            await self._replay(connection, batch, late)

    async def _replay(
        self, connection: asyncpg.Connection, batch: _Batch, keys: Sequence[RecordKey]
    ) -> None:
        rows = await connection.fetch(
            SQL["replay_records"], [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
        )
        forced = await connection.fetch(
            SQL["forced_quarantine"], [row["change_id"] for row in rows]
        )
        skipped = {row["change_id"] for row in forced}
        replayed: dict[RecordKey, list[Change]] = {key: [] for key in keys}
        for row in rows:
            change = _change(row)
            if row["change_id"] in skipped:
                change = _skipped(change)
            replayed[(row["owner_id"], row["table_name"], row["record_id"])].append(change)
        for key, changes in replayed.items():
            batch.changes[key] = changes
            batch.after[key] = merge.fold(None, changes)
        batch.replayed += len(keys)

    async def _save(self, connection: asyncpg.Connection, batch: _Batch) -> Folded:
        for key, changes in batch.changes.items():
            batch.quarantined.extend(
                (change, key, reason) for change, reason in merge.defects(changes)
            )
        if batch.quarantined:
            await connection.execute(SQL["quarantine"], *_quarantine_columns(batch.quarantined))
        savable = {key: after for key, after in batch.after.items() if _is_savable(key)}
        agents = await self._save_agents(
            connection, batch, {k: a for k, a in savable.items() if k[1] == AGENTS}
        )
        missions = await self._save_missions(
            connection, batch, {k: a for k, a in savable.items() if k[1] == MISSIONS}
        )
        return Folded(
            replayed=batch.replayed,
            quarantined=len(batch.quarantined),
            new_missions=sum(
                1 for key in savable if key[1] == MISSIONS and key not in batch.before
            ),
            missions=missions,
            agents=agents,
        )

    async def _save_agents(
        self, connection: asyncpg.Connection, batch: _Batch, records: dict[RecordKey, Snapshot]
    ) -> tuple[AgentDelta, ...]:
        gone = [key for key, after in records.items() if after.count == 0]
        kept = {key: after for key, after in records.items() if after.count}
        dropped: list[asyncpg.Record] = []
        if gone:
            dropped = await connection.fetch(
                SQL["drop_agents"], [k[0] for k in gone], [k[2] for k in gone]
            )
        deltas = [
            AgentDelta(
                row["user_id"],
                row["agent_id"],
                row["after"],
                RecordDelta(row["agent_id"], row["before"], row["after"], gone=True),
            )
            for row in dropped
        ]
        if not kept:
            return tuple(deltas)
        read = {key: _agent_columns(key, after) for key, after in kept.items()}
        rows = await connection.fetch(
            SQL["save_agents"],
            *_columns([_agent_row(key, kept[key], *read[key]) for key in kept]),
        )
        await connection.execute(
            SQL["wake_missions_of_agents"], [k[0] for k in records], [k[2] for k in records]
        )
        for row in rows:
            key = row["user_id"], AGENTS, row["agent_id"]
            delta = _delta(batch, key, row["version"], read[key][1], AGENT_FIELDS)
            deltas.append(AgentDelta(row["user_id"], row["agent_id"], row["version"], delta))
        return tuple(deltas)

    async def _save_missions(
        self, connection: asyncpg.Connection, batch: _Batch, records: dict[RecordKey, Snapshot]
    ) -> tuple[MissionDelta, ...]:
        gone = [key for key, after in records.items() if after.count == 0]
        kept = {key: after for key, after in records.items() if after.count}
        dropped: list[asyncpg.Record] = []
        if gone:
            dropped = await connection.fetch(
                SQL["drop_missions"], [k[0] for k in gone], [k[2] for k in gone]
            )
        deltas = [
            MissionDelta(
                row["user_id"],
                row["mission_id"],
                row["agent_id"],
                row["after"],
                RecordDelta(row["mission_id"], row["before"], row["after"], gone=True),
            )
            for row in dropped
        ]
        if not kept:
            return tuple(deltas)
        read = {key: _mission_columns(key, after) for key, after in kept.items()}
        mission_rows = [
            _mission_row(key, after, *read[key], _needs_healing(batch, key))
            for key, after in kept.items()
        ]
        rows = await connection.fetch(SQL["save_missions"], *_columns(mission_rows))
        for row in rows:
            key = row["user_id"], MISSIONS, row["mission_id"]
            left = batch.owners.get(key)
            deltas.append(
                MissionDelta(
                    row["user_id"],
                    row["mission_id"],
                    row["agent_id"],
                    row["version"],
                    _delta(batch, key, row["version"], read[key][1], MISSION_FIELDS),
                    left=left if left != row["agent_id"] else None,
                )
            )
        return tuple(deltas)

    async def rebuild(self, keys: Sequence[RecordKey]) -> Folded:
        """Replay these records from the log, whatever their snapshots say, but for those `held`."""
        async with self._db.transaction() as connection:
            await self._locked(connection)
            held = await self._held(connection, keys)
            free = [key for key in keys if key not in held]
            batch = _Batch()
            batch.changes = {key: [] for key in free}
            await self._load(connection, batch)
            await self._replay(connection, batch, free)
            folded = await self._save(connection, batch)
            return msgspec.structs.replace(folded, held=tuple(held))

    async def differences(self, after: str, users: int) -> tuple[list[RecordKey], str | None]:
        """Records of the next `users` users whose snapshot differs from the log; the last user."""
        while True:
            try:
                async with self._db.connection() as connection:
                    rows = await connection.fetch(
                        SQL["reconcile"], after, users, self.lease.lo, self.lease.hi
                    )
                break
            except Unavailable as exc:
                if exc.kind != _TOOK_TOO_LONG or users == 1:
                    raise
                users = max(1, users // 8)  # people with more than we expected
        last = next((row["user_id"] for row in rows if row["table_name"] is None), None)
        found = [(row["user_id"], row["table_name"], row["record_id"]) for row in rows]
        return [key for key in found if key[1] is not None and _is_savable(key)], last

    async def reconciled_to(self) -> str:
        """The last user that a sweep under way compared; empty where none is under way."""
        async with self._db.connection() as connection:
            after = await connection.fetchval(
                SQL["reconciled_to"], self.lease.shard, self.lease.epoch
            )
        if after is None:
            raise StoodDown(self.lease.shard, self.lease.epoch)
        return after

    async def note_reconcile(
        self, after: str | None, *, started: bool = False, finished: bool = False
    ) -> None:
        """Remember how far the sweep came, so that a restart goes on from there."""
        noted = SQL.given(
            "reconcile_progress",
            shard=self.lease.shard,
            epoch=self.lease.epoch,
            after=after,
            started=started,
            finished=finished,
        )
        async with self._db.connection() as connection:
            await connection.execute(*noted)


def _collect(batch: _Batch, rows: Iterable[asyncpg.Record]) -> None:
    for row in rows:
        key = (row["owner_id"], row["table_name"], row["record_id"])
        batch.changes.setdefault(key, []).append(_change(row))
        if row["op"] == "insert" and is_shared_space(row["space_id"]):
            batch.adopting.add(key)
    batch.taken = {key: list(changes) for key, changes in batch.changes.items()}


def _is_savable(key: RecordKey) -> bool:
    """Whether the ids can be keys of a snapshot; rows of others stay in quarantine."""
    return not any(merge.too_long(part) for part in key)


def _must_replay(before: Snapshot | None, changes: Sequence[Change]) -> bool:
    """Whether a row sorts before what the snapshot has seen: only a replay puts it in its place."""
    return before is not None and merge.is_late(before, changes[0])


def _skipped(change: Change) -> Change:
    """A row on which a statement failed: counted and not merged, now and in every replay."""
    return msgspec.structs.replace(change, problem=SET_ASIDE, data=None, field_meta=None)


def _needs_healing(batch: _Batch, key: RecordKey) -> bool:
    before, after = batch.before.get(key), batch.after[key]
    if before is None or merge.hidden(after):
        return False
    rows = [change.data for change in batch.taken.get(key, ()) if change.data]
    writes = [data["iterations"] for data in rows if "iterations" in data]
    return needs_healing(before.fields.get("iterations"), writes, after.fields.get("iterations"))


def _change(row: asyncpg.Record) -> Change:
    return merge.read_change(
        str(row["change_id"]),
        _micros(row["created_at"]),
        row["op"],
        row["data"],
        row["field_meta"],
        user_id=row["owner_id"],
        record_id=row["record_id"],
    )


def _micros(at: datetime) -> int:
    delta = at.replace(tzinfo=UTC) - _EPOCH  # what the driver makes of infinity has no zone
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _delta(
    batch: _Batch, key: RecordKey, version: int, columns: C, names: tuple[str, ...]
) -> RecordDelta[C]:
    """How a record that was saved as this version changed."""
    before, after, old = batch.before.get(key), batch.after[key], None
    if before is not None:  # a delta carries the columns whole: what they were, nobody asks
        old = held_of(batch.versions[key], columns, before.fields, before.stamps, names)
    return delta_of(key[2], old, held_of(version, columns, after.fields, after.stamps, names))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _shared_columns(after: Snapshot) -> tuple[Any, ...]:
    seconds, micros = divmod(after.newest_at, 1_000_000)
    newest_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    return newest_at, after.newest_id or None, after.count, after.digest


def _agent_columns(key: RecordKey, after: Snapshot) -> tuple[Agent, AgentColumns]:
    agent = agent_from_record(key[0], key[2], after.fields)
    space = after.fields.get("spaceId")
    return agent, AgentColumns(
        state=agent.state,
        space_id=space if isinstance(space, str) else None,
        max_tokens_per_day=agent.max_tokens_per_day,
        max_concurrent=min(agent.max_concurrent, _MAX_INT4),
        complete=after.complete,
        present=after.exists,
        hidden=merge.hidden(after),
    )


def _agent_row(
    key: RecordKey, after: Snapshot, agent: Agent, columns: AgentColumns
) -> tuple[Any, ...]:
    return (
        key[0],
        key[2],
        merge.encode_record(after).decode(),
        columns.state,
        columns.space_id,
        columns.max_tokens_per_day,
        columns.max_concurrent,
        columns.complete,
        columns.present,
        columns.hidden,
        "\n".join(agent.problems),
        *_shared_columns(after),
    )


def _mission_columns(key: RecordKey, after: Snapshot) -> tuple[Mission, MissionColumns]:
    mission = mission_from_record(key[0], key[2], after.fields)
    return mission, MissionColumns(
        agent_id=mission.agent_id or DEFAULT_AGENT_ID,
        state=mission.state,
        space_id=mission.space_id,
        next_run_at=mission.next_run_at,
        complete=after.complete,
        present=after.exists,
        hidden=merge.hidden(after),
        readable=mission.readable,
        browser_since=browser_since(mission.iterations),
    )


def _mission_row(
    key: RecordKey, after: Snapshot, mission: Mission, columns: MissionColumns, heal: bool
) -> tuple[Any, ...]:
    # An unreadable one wakes once, to be told why.
    active = columns.state == "active" and not columns.hidden and columns.complete
    return (
        key[0],
        key[2],
        merge.encode_record(after).decode(),
        columns.state,
        columns.agent_id,
        columns.space_id,
        columns.next_run_at,
        columns.complete,
        columns.present,
        columns.hidden,
        columns.readable,
        "\n".join(mission.problems),
        *_shared_columns(after),
        columns.browser_since,
        heal,
        active,
    )


def _quarantine_columns(found: Sequence[tuple[Change, RecordKey, str]]) -> list[list[Any]]:
    rows = [
        (
            change.id,
            key[0][:512],
            key[1],
            key[2][:512],
            reason,
            reason == SET_ASIDE,
        )
        for change, key, reason in found
    ]
    return _columns(rows)
