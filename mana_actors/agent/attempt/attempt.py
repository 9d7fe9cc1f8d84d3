"""One attempt at an order, read from top to bottom: gate, claim, inputs, plan, ending.

The caller may rely on this: whatever happens at any step, the occurrence is either served once, or
its run row says that it is open, waiting or closed, and another attempt picks it up from there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, assert_never

import msgspec

from mana_actors.agent.attempt.clock import DatabaseClock
from mana_actors.agent.attempt.endings import (
    Blind,
    ComesAgain,
    Ending,
    GaveUp,
    NoRoom,
    Planned,
    Stopped,
    failure_in_words,
    iteration_of,
    why_empty,
)
from mana_actors.agent.attempt.job import FinalFailure, Job, Pinned, Tally
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.attempt.plan import make_plan, plan_input, tools_of
from mana_actors.agent.inputs.reader import InputReader
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.inputs.sources import records_of
from mana_actors.agent.model.calls import ModelCalls
from mana_actors.agent.planner.guardrails import after_plan, before_plan
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.planner.prompt import latest_iterations
from mana_actors.agent.recall import Known
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.keys.client import KeyHolderUnreachable
from mana_actors.messages import Count, Order
from state.log import merge
from state.log.records import agent_from_record, default_agent, mission_from_record
from state.log.stamps import text_of
from state.rules.budgets import shortfall_reason
from state.rules.exposure import exposure_allowed
from state.runs.backoff import backoff_s
from state.runs.commit import CommitFacts, Withdrawal, commit_of
from state.runs.gate import PLACE_PATIENCE, GateAnswer, gate
from state.runs.occurrence import Occurrence
from state.runs.outcome import (
    Early,
    Failed,
    Held,
    Later,
    Moves,
    NotWanted,
    Outcome,
    Ran,
    Served,
    Skipped,
    SkippedForGrant,
    Stale,
    Waits,
    WaitsForRoom,
    Withdrawn,
)
from state.runs.reasons import told
from state.runs.versions import Versions
from state.sealing.derived_text import Place, sealed_iteration, tells_derived_text
from state.sealing.values import IV_BYTES, KEY_BYTES, DataKey
from state.store.agent import Claim, Closing, Ended, MissionNow, PlanNote, RecordName
from state.store.connect import Refused, Superseded
from state.zones import zone_of

log = logging.getLogger("mana.run")

_LOOK_SOON = timedelta(seconds=2)
_LOOK_AT_TAKEN = timedelta(seconds=5)
_LOOK_AFTER_STOP_S = 0.2
_DECISIONS = 5
"""How often a claim is asked for that finds something else than was decided by."""
_COMMITS = 10
"""How often a commit is; its plan waits in the journal then."""


class Attempt:
    """An order under way: what was claimed, what it spent and counted, and its stop signal.

    Before the claim a stop is only noted, since a claim whose answer nobody hears would last for a
    lease. While the attempt plans, its task is cancelled. Once it ends, the database decides.
    """

    _job: Job  # these two once it is claimed
    _calls: ModelCalls

    def __init__(self, means: Means, order: Order) -> None:
        self._means, self.order, self.tally = means, order, Tally()
        self.version = order.version  # of the mission that was decided on
        self.decided_by: Versions | None = None
        self._run_id: Any = None  # once it is claimed
        self._plan: PlanOutcome | None = None  # once the loop has ended
        self._stop_reason: str | None = None
        self._planning: asyncio.Task[Any] | None = None
        self._is_ending = False
        self._clock = DatabaseClock()
        self._patient_until_s = asyncio.get_running_loop().time() + PLACE_PATIENCE.total_seconds()

    def stop(self, reason: str, run_id: str | None = None) -> None:
        """End it, unless it ends already; `run_id` None: whichever run it has."""
        if run_id is not None and str(self._run_id) != run_id:
            return
        if self._stop_reason is not None or self._is_ending:
            return
        self._stop_reason = reason
        if self._planning is not None:
            self._planning.cancel()

    async def carry_out(self) -> Outcome:
        """Serve the occurrence that is due, or say why not; raises StateError."""
        means, store, mission_id = self._means, self._means.store, self.order.mission_id
        claim_id = uuid.UUID(bytes=secrets.token_bytes(16))  # asked again, it is the same claim
        for again in range(_DECISIONS):
            decided = await self._decided(anew=again > 0)
            if not isinstance(decided, tuple):
                return decided
            known, answer = decided
            self.version, now = known.versions.mission, known.facts.now
            self.decided_by = known.versions
            self._clock.told(now)
            means.crash("after_gate")
            due_at = answer.due_at
            if answer.action == "move":
                return Moves()
            if answer.decision is not None:
                return Skipped(answer.decision, answer.reason, due_at, answer.look_at)
            if answer.action != "run" or due_at is None:
                return Later(answer.look_at)
            means.recall.begins(mission_id)
            pinned = Pinned(text_of(now), known.facts.used, secrets.token_hex(8), known.facts.cap)
            asked = records_of(ref for ref in known.inputs if ref.module not in means.resolvers)
            claim = await store.claim(
                mission_id,
                due_at,
                means.settings.lease_ms,
                means.holder,
                msgspec.json.encode(pinned).decode(),
                claim_id=claim_id,
                decided_by=known.basis,
                inputs=asked,
            )
            self._clock.told(claim.now)
            if claim.outcome == "claimed":
                break
            if claim.outcome != "changed":
                return _unclaimed(claim)
        else:
            return Later(self._clock.now() + _LOOK_SOON)  # its owner is writing it
        means.crash("after_claim")
        self._job = job = await self._claimed(known, claim, asked)
        self._run_id, self._calls = job.run_id, ModelCalls(means, job, self.tally)
        with means.leases.held(job.run_id, job.attempt):
            try:
                ending: Ending = await self._planned()
            except asyncio.CancelledError:
                if self._stop_reason is None or self._planning is None:
                    raise
                self._planning.uncancel()  # it may await again
                ending = Stopped(self._stop_reason)
            except ProviderError as exc:
                self.tally.counts.append(Count("provider_errors_total", (exc.provider, exc.kind)))
                if exc.kind in ("invalid_answer", "truncated"):
                    # The model made no sense; one that was out of reach is no parse failure.
                    self.tally.counts.append(Count("parse_failures_total"))
                ending = GaveUp(exc.kind, failure_in_words(exc))
                if exc.retryable and job.failures + 1 < means.settings.run_attempts:
                    ending = ComesAgain(
                        job.failures,
                        ending.reason,
                        is_failure=True,
                        asked_s=exc.retry_after_s,
                    )
            except KeyHolderUnreachable as exc:
                ending = ComesAgain(job.attempt, str(exc), is_failure=False)
            except Unreadable as exc:
                ending = Blind(exc)
            except FinalFailure as exc:
                ending = GaveUp(exc.name, exc.message)
            except BudgetExhausted:
                assert self._calls.short is not None, "only a refusal raises BudgetExhausted"
                ending = NoRoom(*self._calls.short)
            finally:
                self._calls.journal.wipe()
            return await self._end(ending)

    async def _decided(self, *, anew: bool) -> tuple[Known, GateAnswer] | NotWanted | Later:
        """What the gate says, and by what; a mission without a place waits for one before."""
        recall, order = self._means.recall, self.order
        known = await recall.about(order, anew=anew)
        while known is not None:
            answer = gate(known.facts)
            if answer.decision != "skipped-concurrency":
                return known, answer
            place = await recall.place(order.mission_id, self._patient_until_s)
            if place == "none":
                return known, answer
            # What the process may read was signed for what the order was decided by.
            if place == "give-back" or self._means.held_a_key or not recall.agrees(order):
                return Later(recall.now)
            known = await recall.about(order)
        return NotWanted()

    async def _claimed(self, known: Known, claim: Claim, asked: Sequence[RecordName]) -> Job:
        """The claimed run with what its plan depends on."""
        assert claim.due_at is not None
        assert claim.attempt is not None
        assert claim.pinned is not None
        means = self._means
        user_id, agent_id, mission_id = means.user_id, means.agent_id, self.order.mission_id
        record, basis = claim.record, claim.basis
        if record is None:  # too large to come with the claim
            view = await means.store.mission(mission_id)
            assert view is not None, "a claimed mission's snapshot stays, if only as a tombstone"
            record = view.record
            basis = msgspec.structs.replace(basis, mission_version=view.version)
        snapshot = merge.decode_record(record, complete=True)
        mission = mission_from_record(user_id, mission_id, snapshot.fields)
        agent, is_known, state = default_agent(user_id), False, None
        if known.agent is not None:
            written = msgspec.json.decode(known.agent.record)
            whole = agent_from_record(user_id, agent_id, written)
            is_known = known.facts.agent_known
            # A deleted agent still may only what its owner said.
            agent = whole if is_known else msgspec.structs.replace(agent, policy=whole.policy)
            state = {"hidden": known.agent.hidden, "state": known.agent.state}
        zone = claim.time_zone
        return Job(
            run_id=claim.run_id,
            attempt=claim.attempt,
            failures=claim.failures or 0,
            lost=claim.lost or 0,
            occurrence=Occurrence(
                user_id, agent_id, mission_id, claim.due_at, requested=bool(claim.requested)
            ),
            pinned=msgspec.json.decode(claim.pinned, type=Pinned),
            found=MissionNow(snapshot, state, zone, claim.now, basis),
            mission=mission,
            agent=agent,
            zone=zone_of(zone, means.settings.time_zone),
            exposure=exposure_allowed(snapshot.fields, means.settings.exposure),
            inputs={
                name: rows
                for name, rows in zip(asked, claim.inputs, strict=True)
                if rows is not None
            },
            is_known=is_known,
            seen=frozenset(i["id"] for i in mission.iterations if isinstance(i.get("id"), str)),
        )

    async def _planned(self) -> Planned | GaveUp:
        """Read the inputs, and think up a plan that the guardrails let through.

        Its task can be cancelled meanwhile; one that was told to stop before does not begin.
        """
        self._planning = asyncio.current_task()
        if self._stop_reason is not None:
            raise asyncio.CancelledError
        means, job, calls, tally = self._means, self._job, self._calls, self.tally
        if job.lost >= means.settings.run_attempts:
            raise FinalFailure("process-died", told("process-died", count=job.lost))
        read = await InputReader(means, job, calls).read()
        calls.exposure = read.exposure
        tally.counts.extend(read.counts)
        blocked = before_plan(item.content for item in read.items).blocked
        if blocked is not None:
            raise FinalFailure(blocked.name, blocked.reason)
        tools = tools_of(
            job, read.items, means.store, means.settings, saw=tally.saw, before=calls.settle
        )
        model = await means.provider.facts(means.settings.model, calls.exposure)
        given = plan_input(job, read.items, tools, means.settings, model.context_tokens)
        plan, counts = await make_plan(given, calls.ask, tools.executor, calls.receipt)
        self._plan = plan
        tally.counts.extend(counts)
        if plan.stop_reason == "budget" and not plan.steps and calls.short is not None:
            raise BudgetExhausted(means.agent_id, calls.short[1].asked, 0)
        is_derived = read.is_secret or tells_derived_text(latest_iterations(job.mission))
        if plan.stop_reason == "refused" and not plan.steps:
            words = plan.summary or ""
            return GaveUp("refused", told("refused"), words=words, is_derived=is_derived)
        if not plan.steps and not (plan.summary or "").strip():
            tally.counts.append(Count("parse_failures_total"))
            raise FinalFailure("empty-plan", told(why_empty(plan)))
        judged = after_plan(plan.steps)
        if judged.blocked is not None:
            raise FinalFailure(judged.blocked.name, judged.blocked.reason)
        return Planned(plan, tuple(each.reason for each in judged.objections), is_derived)

    async def _end(self, ending: Ending) -> Outcome:
        """Tell the database how it ended, too late to be stopped; what came of that.

        The last answer goes along, and is paid whatever becomes of the ending.
        """
        self._is_ending = True
        store, settings, ours = self._means.store, self._means.settings, self._job.occurrence
        closing, due_at = self._closing(), ours.due_at
        match ending:
            case Planned() | GaveUp():
                outcome = await self._commit(ending)
            case ComesAgain(reason=reason):
                chance = secrets.SystemRandom().random()
                least_s, most_s = settings.backoff_min_s, settings.backoff_max_s
                wait_s = backoff_s(ending.failed, least_s, most_s, chance, ending.asked_s)
                ended = await store.wait(
                    closing, reason, wait_s, "back-off", failed=ending.is_failure
                )
                self._heard(ended)
                # The supervisor may have looked before the report comes, and put it off by 30 s.
                outcome = Waits(due_at, ended.look_at or ended.now, reason)
            case NoRoom(hold=hold, short=short):
                reason = shortfall_reason(short)
                ended = await store.wait_for_room(closing, reason, hold)
                self._heard(ended)
                outcome = WaitsForRoom(due_at, reason, bool(ended.is_news))
            case Blind(unreadable=unreadable):
                reason, again_s = unreadable.reason, unreadable.again_s
                self.tally.counts.append(Count("grant_skips_total", (unreadable.code,)))
                self.tally.counts.extend(unreadable.counts)
                ended = await store.skip(closing, reason, _LOOK_AFTER_STOP_S)
                self._heard(ended)
                look_at = None if again_s is None else ended.now + timedelta(seconds=again_s)
                outcome = SkippedForGrant(due_at, reason, look_at, bool(ended.is_news))
            case Stopped(reason=reason):
                ended = await store.withdraw(closing, reason, _LOOK_AFTER_STOP_S)
                self._calls.settled(ended.charged)
                who = ours.user_id, ours.agent_id, ours.mission_id
                log.info("run_stopped agent=%s/%s mission=%s", *who)
                outcome = Withdrawn(due_at, reason, is_news=ended.outcome != "superseded")
            case _:
                assert_never(ending)
        self._means.crash("after_commit_before_reply")
        return outcome

    async def _commit(self, ending: Planned | GaveUp) -> Outcome:
        """Write plan or failure and the next run, unless its owner wants it no longer by then.

        It is decided on what the claim brought, and anew on what the database has instead.
        """
        means, store, job = self._means, self._means.store, self._job
        ours, found = job.occurrence, job.found
        for _ in range(_COMMITS):
            now, basis = self._clock.now(), found.basis
            iteration, state = iteration_of(ending, job, now, means.settings.language)
            if ending.is_derived:
                owner = await store.owner_key()
                iteration = {**iteration, "usedEncryptedInputs": True}
                basis = msgspec.structs.replace(basis, owner_key="" if owner is None else owner.id)
                if owner is not None:
                    place = Place(ours.user_id, ours.mission_id, ours.iteration_id)
                    with DataKey(bytearray(secrets.token_bytes(KEY_BYTES))) as key:
                        iteration = sealed_iteration(
                            iteration, owner, place, key, partial(secrets.token_bytes, IV_BYTES)
                        )
            decided = commit_of(
                CommitFacts(
                    occurrence=ours,
                    snapshot=found.snapshot,
                    agent=found.agent,
                    agent_name=job.agent.name,
                    zone=zone_of(found.time_zone, means.settings.time_zone),
                    now=now,
                    seen=job.seen,
                ),
                iteration,
                state=state,
                steps=ending.steps,
                reason=ending.reason or None,
            )
            closing = self._closing()
            if isinstance(decided, Withdrawal):
                ended = await store.withdraw(closing, decided.reason, _LOOK_SOON.total_seconds())
                self._heard(ended)
                return Withdrawn(ours.due_at, decided.reason)
            means.crash("in_commit")
            ended = await store.commit(closing, decided, basis)
            if ended.outcome == "refused" and (isinstance(ending, Planned) or ending.words):
                self._calls.settled(ended.charged)
                ending = GaveUp("not-storable", told("not-storable"))
                continue
            self._heard(ended)
            if ended.newer is None and isinstance(ending, GaveUp):
                return Failed(ours.due_at, ours.iteration_id, ending.reason)
            if ended.newer is None:
                return Ran(ours.due_at, ours.iteration_id, ending.steps, ending.reason)
            found = ended.newer
        return await self._end(ComesAgain(job.failures, told("always-changing"), is_failure=False))

    def _closing(self) -> Closing:
        """What every ending carries: what the run row keeps of its thinking, its last answer."""
        plan, note = self._plan, PlanNote(self._calls.receipt.as_json())
        if plan is not None:
            note = PlanNote(
                note.answers, plan.stop_reason, plan.duplicates, plan.dropped_calls, plan.refused
            )
        return Closing(self._job.run_id, self._job.attempt, note, self._calls.unsettled)

    def _heard(self, ended: Ended) -> None:
        """Note what an ending came to; raises Superseded, and Refused for a value of ours."""
        self._clock.told(ended.now)
        self._calls.settled(ended.charged)
        if ended.outcome == "superseded":
            raise Superseded
        if ended.outcome == "refused":
            raise Refused("22000")


def _unclaimed(claim: Claim) -> Outcome:
    """What the database's refusal of a claim means."""
    soon = claim.look_at or claim.now + _LOOK_SOON
    match claim.outcome:
        case "concurrency":
            # Another process's run may end before this is noted, and wakes nobody then.
            again = claim.now + _LOOK_AT_TAKEN
            return Skipped("skipped-concurrency", told("agent-taken"), claim.due_at, again)
        case "held":
            return Held(soon)
        case "waiting":
            return Waits(claim.due_at, soon)
        case "early":
            return Early(soon)
        case "served":
            return Served()
        case "stale":
            return Stale()
        case _:
            return NotWanted(soon)
