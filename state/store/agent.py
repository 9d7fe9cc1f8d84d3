"""What one agent's process reads and writes under its capability, as the role `mana_agent`.

What takes, holds, settles and ends a run is one statement each, with the capability among its
values, and its own transaction; other reads are a transaction that presents it first. None holds a
connection after.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from state.log import merge
from state.log.deltas import (
    AGENT_FIELDS,
    MISSION_FIELDS,
    AgentColumns,
    HeldRecord,
    MissionColumns,
)
from state.log.healing import Version
from state.log.merge import Change, Snapshot, TableRows
from state.log.records import InputRef, agent_from_record
from state.rules.budgets import Charge, Hold, OpenHold
from state.runs.commit import Commit
from state.runs.found import Found
from state.sealing.copies import KeptCopy
from state.sealing.key_pairs import OwnerKey
from state.store.connect import CapabilityInvalid, Database, patiently
from state.store.rows import logged_change, stored_snapshot, unfolded_changes
from state.store.sql import statements_of

SQL = statements_of("agent.sql")

Json = dict[str, Any]
RecordName = tuple[str, str, str]
"""App, table and id of a record of the log."""

MAX_RECORD_BYTES = 256 * 1024
MAX_TABLE_BYTES = 2 * 1024 * 1024


class MissionView(msgspec.Struct, frozen=True):
    """A mission's snapshot as the agent reads it; `record` is JSON text, `now` the database's."""

    record: str
    version: int
    hidden: bool
    now: datetime


class AgentView(msgspec.Struct, frozen=True):
    """The agent's own snapshot; `record` is JSON text."""

    record: str
    version: int
    state: str
    hidden: bool


class Basis(msgspec.Struct, frozen=True):
    """By what a decision was made: a commit that finds anything else says what is newer.

    `merged` are rows that were not folded yet and went into it. No record of the agent is version
    0, no zone is "". `owner_key` is compared where it is given: the key it was sealed for, or "".
    """

    mission_version: int
    agent_version: int
    time_zone: str
    merged: tuple[str, ...] = ()
    owner_key: str | msgspec.UnsetType = msgspec.UNSET


class Claim(msgspec.Struct, frozen=True):
    """`claimed`, or why not: `held waiting served stale early concurrency unwanted changed`.

    `changed`: versions or zone are not those it was decided by, so nothing was taken. What was
    claimed comes with the mission's record (JSON text) and the rows of the inputs asked for, each
    None where all together are over 64 KiB. `now` is the database's.
    """

    outcome: str
    now: datetime
    run_id: Any = None
    attempt: int | None = None
    due_at: datetime | None = None
    look_at: datetime | None = None
    pinned: str | None = None
    failures: int | None = None
    lost: int | None = None
    requested: bool | None = None
    mission_version: int | None = None
    agent_version: int | None = None
    time_zone: str | None = None
    record: str | None = None
    inputs: tuple[list[Change] | None, ...] = ()

    @property
    def basis(self) -> Basis:
        """What a decision on the claimed record is made by."""
        return Basis(self.mission_version or 0, self.agent_version or 0, self.time_zone or "")


class CallStart(msgspec.Struct, frozen=True):
    """Outcome of `begin_call`: `go` with a call id, `journaled` with the answer, or `no-room`.

    Without room: which `scope` (agent, user, installation) and `unit` (tokens, money in micros),
    and what can change that (`until`: change, window, holds). Other users' sums are not told.
    """

    outcome: str
    call_id: Any = None
    answer: str | None = None
    used: int | None = None
    held: int | None = None
    cap: int | None = None
    scope: str | None = None
    unit: str | None = None
    until: str | None = None


class MissionNow(msgspec.Struct, frozen=True):
    """The mission as of one statement: snapshot and rows not folded yet, merged.

    `agent` has `state` and `hidden`, None where no record of it came in.
    """

    snapshot: Snapshot
    agent: dict[str, Any] | None
    time_zone: str | None
    now: datetime
    basis: Basis


class PlanNote(msgspec.Struct, frozen=True):
    """What a run knows of its thinking: `answers` is JSON text, `stop` why the model stopped."""

    answers: str = "{}"
    stop: str | None = None
    duplicates: int = 0
    dropped: int = 0
    refused: int = 0


class Unsettled(msgspec.Struct, frozen=True):
    """What a model call came to, while only its process knows that.

    None stands for what nobody reported: the hold is charged.
    """

    call_id: Any
    attempt: int
    digest: str
    answer: str | None = None
    tokens: int | None = None
    micros: int | None = None


class Closing(msgspec.Struct, frozen=True):
    """What every ending of a run carries: whose it is, its last answer's price, and its note."""

    run_id: Any
    attempt: int
    note: PlanNote = PlanNote()
    unsettled: Unsettled | None = None

    def values(self) -> dict[str, Any]:
        """The arguments that all of them share."""
        note = msgspec.structs.asdict(self.note) | {"answers": msgspec.Raw(self.note.answers)}
        return {
            "run": self.run_id,
            "attempt": self.attempt,
            "call": self.unsettled and msgspec.json.encode(self.unsettled).decode(),
            "note": msgspec.json.encode(note).decode(),
        }


class Ended(msgspec.Struct, frozen=True):
    """What asking for an ending came to; whatever that is, its answer is settled.

    `done`, or `landed` where an earlier asking was and only its reply was lost; `changed`: decide
    again on `newer`; `superseded`: another attempt has the run, or it is closed; `refused`: a value
    that cannot be stored. `charged` is None where nothing was to settle. `now` is the database's.
    """

    outcome: Literal["done", "landed", "changed", "superseded", "refused"]
    now: datetime
    charged: int | None = None
    look_at: datetime | None = None
    is_news: bool | None = None
    newer: MissionNow | None = None


class ReadRecord(msgspec.Struct, frozen=True):
    """How reading one record went."""

    table: str
    record_id: str
    status: Literal["ok", "failed", "scope-violation"]
    reason: str | None = None


class AgentStore:
    """The database as one (user, agent) may use it; `capability` is asked each time."""

    def __init__(
        self, database: Database, user_id: str, agent_id: str, capability: Callable[[], str]
    ) -> None:
        self._db = database
        self._user_id = user_id
        self._agent_id = agent_id
        self._capability = capability

    async def close(self) -> None:
        """Close its connections; the next use opens them again."""
        await self._db.close()

    @asynccontextmanager
    async def transaction(self, spaces: Sequence[str] = ()) -> AsyncGenerator[asyncpg.Connection]:
        """A transaction that has presented the capability."""
        async with self._db.transaction() as connection:
            await connection.execute(
                "SELECT set_config('app.capability', $1, true),"
                " set_config('app.current_user_id', $2, true),"
                " set_config('app.current_user_space_ids', $3, true)",
                self._capability(),
                self._user_id,
                ",".join(spaces),
            )
            yield connection

    async def asked(self, name: str, **values: Any) -> asyncpg.Record:
        """The row that a statement of its own gives, to which the capability is presented.

        Every such statement may be asked again, so it is, while the database is away.
        """

        async def once() -> asyncpg.Record | None:
            given = SQL.given(name, **{"capability": self._capability(), **values})
            return await self._db.fetchrow(*given)

        row = await patiently(once)
        assert row is not None  # a function always has its row
        return row

    async def read(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Rows as the capability shows them, asked for again while the database is away."""

        async def once() -> list[asyncpg.Record]:
            async with self.transaction() as connection:
                return await connection.fetch(statement, *values)

        return await patiently(once)

    async def mission(self, mission_id: str) -> MissionView | None:
        """One mission's snapshot, None if it is not this owner's."""
        rows = await self.read(SQL["mission_snapshot"], self._user_id, mission_id)
        return MissionView(**dict(rows[0])) if rows else None

    async def agent(self) -> AgentView | None:
        """This agent's snapshot, None where no record of it came in."""
        rows = await self.read(SQL["agent_snapshot"], self._user_id, self._agent_id)
        return AgentView(**dict(rows[0])) if rows else None

    async def claim(
        self,
        mission_id: str,
        due_at: datetime,
        lease_ms: int,
        holder: str,
        pinned: str,
        *,
        claim_id: uuid.UUID | None = None,
        decided_by: Basis | None = None,
        inputs: Sequence[RecordName] = (),
    ) -> Claim:
        """Take the occurrence, or learn why not; with the same `claim_id` it may be asked again."""
        row = await self.asked(
            "claim",
            claim=claim_id,
            mission=mission_id,
            due_at=due_at,
            lease_ms=lease_ms,
            holder=holder,
            pinned=pinned,
            mission_version=decided_by and decided_by.mission_version,
            agent_version=decided_by and decided_by.agent_version,
            time_zone=decided_by and decided_by.time_zone,
            inputs=msgspec.json.encode(inputs).decode(),
        )
        claim: Json = dict(row)
        read = msgspec.json.decode(row["inputs"] or "[]", type=list[list[Json] | None])
        claim["inputs"] = tuple(rows and unfolded_changes(rows, self._user_id) for rows in read)
        return Claim(**claim)

    async def renew(
        self, runs: Sequence[tuple[Any, int]], lease_ms: int
    ) -> tuple[set[Any], str | None]:
        """Extend leases; returns the runs still held and a capability that outlives them."""
        row = await self.asked(
            "renew",
            runs=[run for run, _ in runs],
            attempts=[attempt for _, attempt in runs],
            lease_ms=lease_ms,
        )
        return set(row["renewed"] or ()), row["capability"]

    async def begin_call(
        self,
        run_id: Any,
        attempt: int,
        round_: int,
        request_hash: str,
        hold: Hold,
        deadline_ms: int,
    ) -> CallStart:
        """Reserve `hold` for a model call, or get the same request's journalled answer.

        Raises Superseded where another attempt has the run, or it is closed.
        """
        row = await self.asked(
            "begin_call",
            run=run_id,
            attempt=attempt,
            round=round_,
            request_hash=request_hash,
            tokens=hold.tokens,
            deadline_ms=deadline_ms,
            micros=hold.micros,
        )
        return CallStart(**dict(row))

    async def room_for_call(self, run_id: Any, attempt: int, hold: Hold) -> CallStart:
        """Whether `hold` has room now, `go` or `no-room`; nothing is reserved."""
        row = await self.asked(
            "room_for_call", run=run_id, attempt=attempt, tokens=hold.tokens, micros=hold.micros
        )
        return CallStart(**dict(row))

    async def end_call(self, answered: Unsettled, noted: str = "{}") -> int:
        """Settle a call: answer and usage durable together; returns the tokens charged.

        `noted` is JSON as in `PlanNote.answers`, for whoever watches the run.
        """
        row = await self.asked(
            "end_call",
            call=answered.call_id,
            attempt=answered.attempt,
            request_hash=answered.digest,
            answer=answered.answer,
            tokens=answered.tokens,
            micros=answered.micros,
            answers=noted,
        )
        return int(row["charged"])

    async def input_changes(self, app: str, table: str, record_id: str) -> list[Change]:
        """The log rows of one input record, in fold order, as far as the capability shows them."""
        rows = await self.read(SQL["input_rows"], self._user_id, app, table, record_id)
        return [logged_change(row, self._user_id, record_id) for row in rows]

    async def table_changes(
        self, app: str, table: str, most_records: int, until: datetime
    ) -> TableRows:
        """The rows until then of the records of a table that changed last, 2 MB of them at most."""
        rows = await self.read(
            *SQL.given(
                "table_rows",
                user=self._user_id,
                app=app,
                table=table,
                until=until,
                most_records=most_records,
                record_bytes=MAX_RECORD_BYTES,
                table_bytes=MAX_TABLE_BYTES,
            )
        )
        changes: dict[str, list[Change]] = {}
        for row in rows:
            id_ = row["record_id"]
            changes.setdefault(id_, []).append(logged_change(row, self._user_id, id_))
        return TableRows(changes, rows[0]["left_out"] if rows else 0)

    async def commit(self, closing: Closing, commit: Commit, basis: Basis) -> Ended:
        """Plan, next run and run state together, where `basis` still is what there is.

        Else `changed`, with the mission to decide on anew.
        """
        row = await self.asked(
            "commit_run",
            **closing.values(),
            basis=msgspec.json.encode(basis).decode(),
            state=commit.state,
            data=commit.data,
            floor=commit.floor,
            actor=commit.actor,
            next_run_at=commit.next_run_at,
            iteration=commit.iteration_id,
            steps=commit.steps,
            reason=commit.reason,
        )
        newer = None
        if row["newer"] is not None:
            newer = self._merged(msgspec.json.decode(row["newer"]), row["now"])
        return Ended(row["outcome"], row["now"], row["charged"], newer=newer)

    def _merged(self, found: dict[str, Any], now: datetime) -> MissionNow:
        """Snapshots with the rows not folded yet, by the one merge, and by what that was made."""
        stored, agent = found["mission"], found["agent"]
        changes = unfolded_changes(found["mission_rows"], self._user_id)
        agent_changes = unfolded_changes(found["agent_rows"], self._user_id)
        mission = merge.fold(stored_snapshot(stored), changes)
        basis = Basis(
            stored["version"],
            0 if agent is None else agent["version"],
            found["time_zone"] or "",
            tuple(change.id for change in (*changes, *agent_changes)),
        )
        if agent_changes:
            after = merge.fold(stored_snapshot(agent), agent_changes)
            state = agent_from_record(self._user_id, self._agent_id, after.fields).state
            agent = {"hidden": merge.hidden(after), "state": state}
        return MissionNow(mission, agent, found["time_zone"], now, basis)

    async def owner_key(self) -> OwnerKey | None:
        """For whom to seal, None where no key is registered.

        Raises CapabilityInvalid rather than take a row that is hidden for one that is not there.
        """
        (row,) = await self.read(SQL["owner_key"], self._user_id)
        if row["seen_as"] != self._user_id:
            raise CapabilityInvalid
        return None if row["key_id"] is None else OwnerKey(row["key_id"], row["public_key"])

    async def withdraw(self, closing: Closing, reason: str, look_s: float) -> Ended:
        """Close a run that is wanted no longer; its mission is looked at again in `look_s`."""
        values = closing.values()
        return _ended(await self.asked("withdraw_run", **values, reason=reason, look_s=look_s))

    async def skip(self, closing: Closing, reason: str, look_s: float) -> Ended:
        """Close a run that has no usable grant; `is_news`: it differs from the last decision."""
        values = closing.values()
        return _ended(await self.asked("skip_run", **values, reason=reason, look_s=look_s))

    async def wait(
        self, closing: Closing, reason: str, wait_s: float, waiting_for: str, *, failed: bool
    ) -> Ended:
        """Give the place back and come again at `look_at`, after `wait_s`."""
        row = await self.asked(
            "wait_run",
            **closing.values(),
            reason=reason,
            wait_s=wait_s,
            waiting_for=waiting_for,
            failed=failed,
        )
        return _ended(row)

    async def wait_for_room(self, closing: Closing, reason: str, hold: Hold) -> Ended:
        """Give the place back until `hold` may fit; the database knows when that is.

        `is_news`: it tells the owner something else than the last decision.
        """
        row = await self.asked(
            "wait_for_room",
            **closing.values(),
            reason=reason,
            tokens=hold.tokens,
            micros=hold.micros,
        )
        return _ended(row)

    async def logged_iterations(self, mission_id: str) -> list[Version]:
        """The last `iterations` arrays the log holds of a mission, oldest first."""
        rows = await self.read(SQL["logged_iterations"], self._user_id, mission_id)
        return [Version(_decoded(row["iterations"]), row["is_ours"]) for row in rows]

    async def healable_iterations(self, mission_id: str) -> set[str]:
        """Ids of server iterations that may be put back once."""
        rows = await self.read(SQL["healable_iterations"], self._user_id, mission_id)
        return {row["iteration_id"] for row in rows}

    async def heal(
        self,
        mission_id: str,
        version: int,
        iterations: str,
        stamp: str,
        actor: str,
        restored: Sequence[str],
    ) -> bool:
        """Write the merged array made from `version` if any of `restored` is new to this."""
        (row,) = await self.read(
            *SQL.given(
                "heal_mission",
                mission=mission_id,
                version=version,
                iterations=iterations,
                stamp=stamp,
                actor=actor,
                restored=list(restored),
            )
        )
        return bool(row[0])

    async def memory(self, missions: Collection[str] | None = None) -> Found:
        """What its process holds, read at one moment; of these missions, None: of all its own.

        Raises CapabilityInvalid.
        """
        row = await self.asked(
            "load_memory",
            missions=None if missions is None else sorted(missions),
            mission_fields=MISSION_FIELDS,
            agent_fields=AGENT_FIELDS,
        )
        return Found(
            now=row["now"],
            agent=msgspec.json.decode(row["agent"] or "null", type=HeldRecord[AgentColumns] | None),
            missions=msgspec.json.decode(
                row["missions"] or "{}", type=dict[str, HeldRecord[MissionColumns]]
            ),
            time_zone=row["time_zone"],
            cap=row["cap"],
            slots_from=row["slots_from"],
            charges=msgspec.json.decode(row["charges"] or "[]", type=tuple[Charge, ...]),
            holds=msgspec.json.decode(row["holds"] or "[]", type=tuple[OpenHold, ...]),
            requested=msgspec.json.decode(row["requested"] or "{}", type=dict[str, datetime]),
            agent_record=row["agent_record"],
            forgotten=row["forgotten"] or 0,
        )


async def keys_capability(store: AgentStore, run_id: uuid.UUID, attempt: int) -> str:
    """A minute's leave to ask the key holder, for this attempt alone; raises Superseded."""
    row = await store.asked("keys_capability", run=run_id, attempt=attempt)
    return str(row["capability"])


async def note_outcomes(
    store: AgentStore, release_id: uuid.UUID, iteration_id: str, records: Sequence[ReadRecord]
) -> None:
    """Write how reading went, one row per record, all or none."""
    await store.asked(
        "audit_outcome",
        release=release_id,
        iteration=iteration_id,
        tables=[one.table for one in records],
        record_ids=[one.record_id for one in records],
        statuses=[one.status for one in records],
        reasons=[one.reason for one in records],
    )


async def sealed_copies(
    store: AgentStore, user_id: str, mission_id: str, refs: Sequence[InputRef]
) -> dict[tuple[str, str], KeptCopy]:
    """The copies there are, by table and record id."""
    tables, records = [ref.table for ref in refs], [ref.id for ref in refs]
    rows = await store.read(SQL["sealed_copies"], user_id, mission_id, tables, records)
    return {
        (row["table_name"], row["record_id"]): KeptCopy(
            msgspec.json.decode(row["data"]), row["source"], row["written_us"]
        )
        for row in rows
    }


async def request_copies(store: AgentStore, run_id: Any, attempt: int) -> str | None:
    """Ask whoever has the owner's key for copies; what the last request came to, None: nothing yet.

    Harmless to repeat. Raises Superseded where the run is over, or another attempt's.
    """
    row = await store.asked("request_copies", run=run_id, attempt=attempt)
    return row["told"]


def _ended(row: asyncpg.Record) -> Ended:
    return Ended(row["outcome"], row["now"], row["charged"], row["look_at"], row["is_news"])


def _decoded(text: str) -> object:
    """A logged array, None if it cannot be read: the fold set that row aside."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
