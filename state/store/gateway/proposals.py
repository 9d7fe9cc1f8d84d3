"""Proposals: made once, answered once, carried out at most once, as the role `mana_gateway`.

Everything that belongs to one answer is one transaction: the answer, what it writes into the log,
and the mission's record that shows it. It holds the person's lock from its first read on, so two
answers to one proposal take turns and the second finds it answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from state.log import merge
from state.log.iterations import DEFAULT_AUTHOR, Author
from state.log.own_changes import ChangeRefused, RecordAt, Writer, owner_writes
from state.log.principals import DEFAULT_AGENT_ID, agent_actor
from state.log.records import Agent, Mission, agent_from_record, mission_from_record
from state.proposals.answers import (
    Answer,
    AnswerRefused,
    Approve,
    NotNow,
    Reject,
    check_answer,
    is_expired,
    is_repeated,
)
from state.proposals.effects import CannotCarryOut, NeedsDevice
from state.proposals.obstacles import StandingApproval, obstacle
from state.proposals.proposal import Decision, Proposal, Written
from state.proposals.staging import commented, mirrored, new_proposals, same, told_by_device
from state.proposals.tool_handlers import HANDLERS
from state.proposals.undo import CannotTakeBack, inherited, take_back
from state.store.connect import Database
from state.store.gateway.carry_out import Answering, ToolShelf, carry_out
from state.store.gateway.own_log import NoSuchRecord, OwnLog, OwnRecord, OwnWrites
from state.store.gateway.proposal_rows import (
    approval_of,
    columns_that_change,
    columns_when_made,
    proposal_of,
)
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

CLAIM_LASTS = timedelta(minutes=10)


class Answered(msgspec.Struct, frozen=True):
    """A proposal after an answer; `changed` False: nothing happened, and `refusal` may say why."""

    proposal: Proposal
    changed: bool
    refusal: AnswerRefused | None = None


class ProposalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which proposals a list shows; `due` leaves out those that wait for a later time."""

    state: str | None = None
    mission: str | None = None
    agent: str | None = None
    due: bool = False


def never(_point: str) -> None:
    """No crash is wanted."""


async def proposals_in(
    own: OwnWrites, limit: int, wanted: ProposalFilter, before: tuple[Any, Any] | None = None
) -> list[Proposal]:
    """This person's, the newest first, those before a key (created_at, id)."""
    before_at, before_id = before or (None, None)
    rows = await own.connection.fetch(
        *SQL.given(
            "proposals",
            user=own.user,
            state=wanted.state,
            mission=wanted.mission,
            agent=wanted.agent,
            due=wanted.due,
            before_at=before_at,
            before_id=before_id,
            limit=limit,
        )
    )
    return [proposal_of(row) for row in rows]


async def approvals_in(own: OwnWrites, *, revoked: bool = False) -> list[StandingApproval]:
    """What this person always allows, the newest first."""
    rows = await own.connection.fetch(SQL["standing_approvals"], own.user, revoked)
    return [approval_of(row) for row in rows]


async def commented_in(own: OwnWrites, mission_id: str, iteration_id: str, words: str) -> bool:
    """The owner's words on a plan, which the agent reads before its next; False: no such plan.

    Raises AnswerRefused where they are too long, and NoSuchRecord.
    """
    # Held as a plan's commit holds it: neither writes over the other's array.
    record = await own.existing(RecordAt("ai", "aiMissions", mission_id), "plan")
    mission = mission_from_record(record.owner, mission_id, record.fields)
    shown = commented(mission.iterations, iteration_id, words)
    if shown is not None:
        await own.update(record, {"iterations": shown}, owner_writes(own.user))
    return shown is not None


class ProposalStore:
    """One person's proposals and standing approvals at a time.

    `crash` is told of each point between a claim and its end, for tests.
    """

    def __init__(
        self, database: Database, tools: ToolShelf, crash: Callable[[str], None] = never
    ) -> None:
        self._db, self._log = database, OwnLog(database)
        self._tools, self._crash = tools, crash

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    # --- staging ----------------------------------------------------------------------------------

    async def unstaged(
        self, limit: int, after: tuple[str, str] | None = None
    ) -> list[tuple[str, str, int]]:
        """Whose missions have plans that nobody was asked about yet: user, mission, version."""
        async with self._db.transaction() as connection:
            rows = await connection.fetch(SQL["unstaged"], *(after or (None, None)), limit)
        return [(row["user_id"], row["mission_id"], row["version"]) for row in rows]

    async def late(self, limit: int) -> list[tuple[str, str]]:
        """User and mission of proposals that nobody answered in time; `stage` lets them expire."""
        async with self._db.transaction() as connection:
            rows = await connection.fetch(SQL["late_proposals"], limit)
        return [(row["user_id"], row["mission_id"]) for row in rows]

    async def stage_all(self, asked: Answering) -> None:
        """Put every plan of this person to them, and expire what nobody answered in time."""
        async with self._log.acting(asked.user) as writes:
            rows = await writes.connection.fetch(SQL["to_stage_of_user"], asked.user)
        for mission in (row["mission_id"] for row in rows):
            await self.stage(asked, mission)

    async def stage(self, asked: Answering, mission_id: str) -> int:
        """Make the proposals of a mission's new plans, and approve what always is; how many."""
        async with self._log.acting(asked.user, asked.spaces) as writes:
            scene = await self._mission(writes, mission_id)
            new = new_proposals(scene.mission, scene.author, scene.known, scene.record.now)
            for proposal in new:
                await writes.connection.execute(
                    *SQL.given("add_proposal", **columns_when_made(proposal))
                )
            self._crash("staged_before_mirror")
            scene.known.update({one.step_id: one for one in new})
            await self._heard(writes, scene)
            for proposal in [p for p in scene.known.values() if is_expired(p, scene.record.now)]:
                await self._save(writes, scene, _expired(proposal, scene))
            await self._mirror(writes, scene, _agent_writer(scene, new))
        await self._approve_standing(asked, mission_id)
        return len(new)

    # --- answers ----------------------------------------------------------------------------------

    async def find(self, user: str, id_: str) -> Proposal | None:
        """One proposal of this person."""
        async with self._log.acting(user) as writes:
            row = await writes.connection.fetchrow(SQL["find_proposal"], user, UUID(id_))
        return None if row is None else proposal_of(row)

    async def list(
        self, user: str, limit: int, wanted: ProposalFilter, before: tuple[Any, Any] | None = None
    ) -> list[Proposal]:
        """The newest first, those before a key (created_at, id)."""
        async with self._log.acting(user) as writes:
            return await proposals_in(writes, limit, wanted, before)

    async def answer(self, asked: Answering, id_: str, answer: Answer) -> Answered | None:
        """The owner's answer, carried out where it approves; None without such a proposal."""
        return await self._answer(asked, id_, answer, None)

    async def claim(self, asked: Answering, id_: str, device: str) -> Answered | None:
        """A device takes a proposal that only it can carry out, for ten minutes."""
        async with self._log.acting(asked.user, asked.spaces) as writes:
            scene, proposal = await self._locked(writes, id_)
            if scene is None or proposal is None:
                return None
            now = scene.record.now
            if proposal.state != "waiting-for-device":
                return _refused(proposal, "answered", f"it is {proposal.state}")
            is_held = proposal.claimed_until is not None and proposal.claimed_until > now
            if is_held and proposal.claimed_by != device:
                return _refused(proposal, "claimed", "another device is carrying it out")
            why = obstacle(
                proposal, scene.mission, scene.agent, self._tools.rule(proposal.tool)
            ) or await self._revoked(writes, proposal)
            if why:
                proposal = msgspec.structs.replace(proposal, state="refused", reason=why)
            else:
                proposal = msgspec.structs.replace(
                    proposal, claimed_by=device, claimed_until=now + CLAIM_LASTS
                )
            await self._save(writes, scene, proposal)
            self._crash("claim_saved")
            await self._mirror(writes, scene, owner_writes(asked.user))
            self._crash("claim_mirrored")
        self._crash("claim_committed")
        refusal = AnswerRefused("not-carried-out", why) if why else None
        return Answered(proposal, changed=True, refusal=refusal)

    async def finish(
        self, asked: Answering, id_: str, device: str, problem: str | None
    ) -> Answered | None:
        """A device says what became of what it claimed: nothing wrong, or a problem."""
        async with self._log.acting(asked.user, asked.spaces) as writes:
            scene, proposal = await self._locked(writes, id_)
            if scene is None or proposal is None:
                return None
            if proposal.state == "done" and proposal.claimed_by == device and problem is None:
                return Answered(proposal, changed=False)
            if proposal.state != "waiting-for-device" or proposal.claimed_by != device:
                return _refused(proposal, "not-claimed", "this device has not claimed it")
            proposal = msgspec.structs.replace(
                proposal,
                state="done" if problem is None else "refused",
                reason=problem or "",
                claimed_until=None,
            )
            await self._save(writes, scene, proposal)
            self._crash("told_saved")
            await self._mirror(writes, scene, owner_writes(asked.user))
            self._crash("told_mirrored")
        self._crash("told_committed")
        return Answered(proposal, changed=True)

    # --- undo -------------------------------------------------------------------------------------

    async def undo(self, asked: Answering, id_: str) -> Answered | None:
        """Take back what carrying out wrote, all of it or nothing; None without such a proposal."""
        async with self._log.acting(asked.user, asked.spaces) as writes:
            scene, proposal = await self._locked(writes, id_)
            if scene is None or proposal is None:
                return None
            if proposal.state == "undone":
                return Answered(proposal, changed=False)
            if proposal.state != "done":
                return _refused(proposal, "not-done", f"it is {proposal.state}")
            if not proposal.written:
                return _refused(proposal, "no-undo", "nothing was written here to take back")
            by = owner_writes(asked.user)
            records = [
                await writes.record(RecordAt(one.app, one.table, one.id))
                for one in proposal.written
            ]
            try:
                backs = [
                    take_back(one, record.snapshot)
                    for one, record in zip(proposal.written, records, strict=True)
                ]
            except CannotTakeBack as exc:
                return _refused(proposal, "changed-since", exc.why)
            undone = list(zip(proposal.written, records, backs, strict=True))
            for one, record, back in reversed(undone):
                if back.op == "update":
                    after = await writes.update(record, back.fields, by)
                    await self._inherit(writes, scene, one, after.snapshot.stamps)
                elif back.op == "delete":
                    await writes.delete(record, by)
            proposal = msgspec.structs.replace(proposal, state="undone")
            await self._save(writes, scene, proposal)
            await self._mirror(writes, scene, by)
            return Answered(proposal, changed=True)

    async def revert(self, asked: Answering, iteration_id: str) -> list[Answered]:
        """Take back everything of one iteration that was carried out, the last first."""
        async with self._log.acting(asked.user) as writes:
            rows = await writes.connection.fetch(
                SQL["proposals_of_iteration"], asked.user, iteration_id
            )
        done = [proposal_of(row) for row in rows if row["state"] == "done"]
        results = [await self.undo(asked, one.id) for one in done]
        return [result for result in results if result is not None]

    # --- words ------------------------------------------------------------------------------------

    async def comment(
        self, asked: Answering, mission_id: str, iteration_id: str, words: str
    ) -> bool:
        """The owner's words on a plan, which the agent reads before its next; False: no such plan.

        Raises AnswerRefused where they are too long, and NoSuchRecord.
        """
        async with self._log.acting(asked.user, asked.spaces) as writes:
            return await commented_in(writes, mission_id, iteration_id, words)

    # --- standing approvals -----------------------------------------------------------------------

    async def approvals(self, user: str, *, revoked: bool = False) -> list[StandingApproval]:
        """What this person always allows, the newest first."""
        async with self._log.acting(user) as writes:
            return await approvals_in(writes, revoked=revoked)

    async def add_approval(self, asked: Answering, approval: StandingApproval) -> StandingApproval:
        """Allow it from now on; one of that id stays as it is. What waits already is up to them."""
        async with self._log.acting(asked.user) as writes:
            await writes.connection.execute(
                *SQL.given(
                    "add_standing_approval",
                    user=asked.user,
                    id=UUID(approval.id),
                    agent=approval.agent_id,
                    tool=approval.tool,
                    module=approval.module,
                    until=approval.until,
                    per_day=approval.per_day,
                    address=asked.address,
                    client=asked.client,
                )
            )
            rows = await approvals_in(writes, revoked=True)
        return next(one for one in rows if one.id == approval.id)

    async def revoke_approval(self, asked: Answering, id_: str) -> bool:
        """End it; once this returns nothing more is approved by it. False without such a one."""
        async with self._log.acting(asked.user) as writes:
            # Whoever is carrying out by it has this lock: wait for them, and let nobody begin.
            await writes.record(RecordAt("ai", "standing-approvals", id_))
            done = await writes.connection.execute(
                SQL["revoke_standing_approval"], asked.user, UUID(id_)
            )
        return done == "UPDATE 1"

    # --- the one executor -------------------------------------------------------------------------

    async def _answer(
        self, asked: Answering, id_: str, answer: Answer, approval: str | None
    ) -> Answered | None:
        async with self._log.acting(asked.user, asked.spaces) as writes:
            scene, proposal = await self._locked(writes, id_)
            if scene is None or proposal is None:
                return None
            self._crash("claimed")
            by = owner_writes(asked.user)
            now = scene.record.now
            if await self._heard(writes, scene):
                await self._mirror(writes, scene, by)
                proposal = scene.known[proposal.step_id]
            if is_expired(proposal, now):
                await self._save(writes, scene, _expired(proposal, scene))
                await self._mirror(writes, scene, by)
                proposal = scene.known[proposal.step_id]
                return _refused(proposal, "expired", "it has expired")
            if is_repeated(proposal, answer):
                return Answered(proposal, changed=False)
            decision = Decision("user", now, asked.address, asked.client)
            if approval is not None:
                if not await self._stands(writes, proposal, approval, scene):
                    return Answered(proposal, changed=False)
                decision = Decision("standing-approval", now, approval_id=approval)
            try:
                check_answer(proposal, answer, now)
                match answer:
                    case Reject(feedback=feedback):
                        after = msgspec.structs.replace(
                            proposal, state="rejected", feedback=feedback, decision=decision
                        )
                    case NotNow(until=until):
                        after = msgspec.structs.replace(proposal, not_before=until)
                    case Approve(params=params):
                        edited = None if params is None else self._checked(proposal, params)
                        wanted = msgspec.structs.replace(
                            proposal, edited=edited, decision=decision, reason=""
                        )
                        after = await self._carried_out(writes, scene, wanted, asked)
            except AnswerRefused as exc:
                return Answered(proposal, changed=False, refusal=exc)
            if approval is not None and after.state == "refused":
                return Answered(proposal, changed=False)  # then the owner decides
            self._crash("written")
            await self._save(writes, scene, after)
            self._crash("saved")
            await self._mirror(writes, scene, by)
            self._crash("mirrored")
        self._crash("committed")
        refusal = (
            AnswerRefused("not-carried-out", after.reason) if after.state == "refused" else None
        )
        return Answered(after, changed=True, refusal=refusal)

    async def _carried_out(
        self, writes: OwnWrites, scene: _Staged, proposal: Proposal, asked: Answering
    ) -> Proposal:
        """The proposal with what was written for it, or why nothing was."""
        why = obstacle(proposal, scene.mission, scene.agent, self._tools.rule(proposal.tool))
        if why:
            return msgspec.structs.replace(proposal, state="refused", reason=why)
        handler = HANDLERS.get(proposal.tool)
        if handler is None or proposal.params is None:  # only a device can do it, or read it
            return msgspec.structs.replace(proposal, state="waiting-for-device")
        try:
            async with writes.connection.transaction():  # all that it writes, or nothing
                written = await carry_out(
                    writes,
                    asked,
                    proposal,
                    handler,
                    params=self._tools.checked(proposal.tool, proposal.effective),
                    space=scene.record.space,
                    now=scene.record.now,
                )
        except NeedsDevice:
            return msgspec.structs.replace(proposal, state="waiting-for-device")
        except CannotCarryOut as exc:
            return msgspec.structs.replace(proposal, state="refused", reason=exc.why)
        except ChangeRefused as exc:
            return msgspec.structs.replace(proposal, state="refused", reason=str(exc))
        except NoSuchRecord:
            why = "a record it needs is gone"
            return msgspec.structs.replace(proposal, state="refused", reason=why)
        return msgspec.structs.replace(proposal, state="done", written=written)

    def _checked(self, proposal: Proposal, params: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._tools.checked(proposal.tool, params)
        except CannotCarryOut as exc:
            raise AnswerRefused("params", exc.why) from None

    # --- within a transaction ---------------------------------------------------------------------

    async def _locked(self, writes: OwnWrites, id_: str) -> tuple[_Staged | None, Proposal | None]:
        """A proposal as nobody else can change it until the end, with its mission."""
        row = await writes.connection.fetchrow(SQL["find_proposal"], writes.user, UUID(id_))
        if row is None:
            return None, None
        scene = await self._mission(writes, row["mission_id"])
        return scene, next((p for p in scene.known.values() if p.id == id_), None)

    async def _mission(self, writes: OwnWrites, mission_id: str) -> _Staged:
        """A mission, its agent and its proposals as they are now, held."""
        record = await writes.record(RecordAt("ai", "aiMissions", mission_id), "plan")
        fields = {} if merge.hidden(record.snapshot) else record.fields
        mission = mission_from_record(writes.user, mission_id, fields)
        if not fields or not record.snapshot.complete:
            mission = msgspec.structs.replace(mission, deleted=True)
        agent_id = mission.agent_id or DEFAULT_AGENT_ID
        held = await writes.record(RecordAt("ai", "agents", agent_id), "writers")
        agent = None
        if held.snapshot.exists:
            agent = agent_from_record(writes.user, agent_id, held.fields)
        rows = await writes.connection.fetch(SQL["proposals_of_mission"], writes.user, mission_id)
        known = {row["step_id"]: proposal_of(row) for row in rows}
        return _Staged(record, mission, agent, known)

    async def _heard(self, writes: OwnWrites, scene: _Staged) -> bool:
        """Take what a device wrote of a step for its answer; whether there was any."""
        told = told_by_device(scene.mission.iterations, scene.known)
        for step_id, status in told.items():
            proposal = scene.known[step_id]
            state = {"approved": "done", "failed": "refused"}.get(status, "rejected")
            heard = msgspec.structs.replace(
                proposal,
                state=state,
                reason="a device of yours carried it out itself" if state == "done" else "",
                decision=Decision("device", scene.record.now),
            )
            await self._save(writes, scene, heard)
        return bool(told)

    async def _save(self, writes: OwnWrites, scene: _Staged, proposal: Proposal) -> None:
        scene.known[proposal.step_id] = proposal
        await writes.connection.execute(
            *SQL.given("save_proposal", **columns_that_change(proposal))
        )

    async def _inherit(
        self, writes: OwnWrites, scene: _Staged, undone: Written, stamps: Mapping[str, str]
    ) -> None:
        """What the one taken back had overwritten counts as untouched again."""
        for proposal in list(scene.known.values()):
            written = tuple(inherited(older, undone, stamps) for older in proposal.written)
            if proposal.state == "done" and written != proposal.written:
                kept = msgspec.structs.replace(proposal, written=written)
                await self._save(writes, scene, kept)

    async def _mirror(self, writes: OwnWrites, scene: _Staged, by: Writer) -> None:
        """Show the states in the mission's record, where it does not show them yet."""
        if scene.mission.deleted:
            return
        shown = mirrored(scene.mission.iterations, scene.known)
        if same(shown, scene.mission.iterations):
            return
        scene.record = await writes.update(scene.record, {"iterations": shown}, by)
        scene.mission = msgspec.structs.replace(scene.mission, iterations=tuple(shown))

    async def _approve_standing(self, asked: Answering, mission_id: str) -> None:
        """Approve what waits and is always allowed, each on its own."""
        async with self._log.acting(asked.user) as writes:
            approvals = await approvals_in(writes)
            if not approvals:
                return
            rows = await writes.connection.fetch(
                SQL["proposals_of_mission"], asked.user, mission_id
            )
            now = await writes.connection.fetchval(SQL["now"])
        for proposal in map(proposal_of, rows):
            rule = self._tools.rule(proposal.tool)
            if rule is None or proposal.state != "pending":
                continue
            fitting = next((a for a in approvals if a.covers(proposal, rule, now)), None)
            if fitting is not None:
                await self._answer(asked, proposal.id, Approve(), fitting.id)

    async def _stands(
        self, writes: OwnWrites, proposal: Proposal, approval: str, scene: _Staged
    ) -> bool:
        """Whether the standing approval is still in force, and not used up, under the lock."""
        rule = self._tools.rule(proposal.tool)
        held = await approvals_in(writes)
        return (
            proposal.state == "pending"
            and rule is not None
            and any(a.id == approval and a.covers(proposal, rule, scene.record.now) for a in held)
        )

    async def _revoked(self, writes: OwnWrites, proposal: Proposal) -> str:
        """Why what a standing approval decided is not carried out any more; "" where it may be."""
        decision = proposal.decision
        if decision is None or decision.approval_id is None:
            return ""
        held = await approvals_in(writes)
        is_there = any(approval.id == decision.approval_id for approval in held)
        return "" if is_there else "its standing approval was revoked"


class _Staged(msgspec.Struct):
    """A mission with its proposals by step, within one transaction."""

    record: OwnRecord
    mission: Mission
    agent: Agent | None
    known: dict[str, Proposal]

    @property
    def author(self) -> Author:
        """Who signs: its agent, or the default one where that is gone."""
        agent = self.agent
        if agent is None or agent.deleted:
            return DEFAULT_AUTHOR
        return Author(agent.id, agent.name)


def _refused(proposal: Proposal, code: str, why: str) -> Answered:
    return Answered(proposal, changed=False, refusal=AnswerRefused(code, why))


def _expired(proposal: Proposal, scene: _Staged) -> Proposal:
    decision = Decision("auto-expire", scene.record.now)
    return msgspec.structs.replace(proposal, state="expired", decision=decision)


def _agent_writer(scene: _Staged, new: list[Proposal]) -> Writer:
    """The agent puts its plan to the owner; what else is shown is shown in its name too."""
    author = scene.author
    iteration = new[0].iteration_id if new else ""
    return Writer(
        agent_actor(
            author.id,
            author.name,
            mission_id=scene.mission.id,
            iteration_id=iteration,
            rationale=scene.mission.objective,
        ),
        "agent",
    )
