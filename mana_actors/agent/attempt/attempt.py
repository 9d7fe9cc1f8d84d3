"""One attempt at an order, read from top to bottom: gate, claim, inputs, plan, ending.

The caller may rely on this: whatever happens at any step, the occurrence is either served once, or
its run row says that it is open, waiting or closed, and another attempt picks it up from there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_never
from zoneinfo import ZoneInfo

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
    iteration_of,
)
from mana_actors.agent.attempt.job import FinalFailure, Job, Pinned, Tally
from mana_actors.agent.attempt.knowledge import Known
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.attempt.plan import make_plan, plan_input, tools_of
from mana_actors.agent.inputs.reader import InputReader
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.model.calls import ModelCalls
from mana_actors.agent.planner.guardrails import after_plan, before_plan
from mana_actors.agent.planner.loop import PlanOutcome, opening
from mana_actors.agent.planner.prompt import latest_iterations, loop_input
from mana_actors.agent.retries import backoff_s, retried
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.keys.client import KeyHolderUnreachable
from mana_actors.messages import Count, Order
from state.log import merge
from state.log.records import agent_from_record, default_agent, mission_from_record
from state.log.stamps import text_of
from state.rules.budgets import shortfall_reason
from state.rules.exposure import exposure_allowed
from state.runs.commit import CommitFacts, Withdrawal, commit_of
from state.runs.gate import CONCURRENCY_FALLBACK, gate
from state.runs.occurrence import Occurrence
from state.runs.outcome import (
    Early,
    Failed,
    Held,
    Interrupted,
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
from state.sealing.derived_text import Place, sealed_iteration, tells_derived_text
from state.sealing.values import IV_BYTES, KEY_BYTES, DataKey
from state.store.agent import Claim, Closing, Ended, MissionNow, PlanNote
from state.store.connect import Refused, Superseded

log = logging.getLogger("mana.run")

_LOOK_SOON = timedelta(seconds=2)
_LOOK_AFTER_WITHDRAWAL_S = 2.0
_DECIDES = 5
_COMMITS = 10
_LOOK_AFTER_STOP_S = 0.2


class Attempt:
    """An order under way: what was claimed, what it spent and counted, and its stop signal.

    Before the claim a stop is only noted, since a claim whose answer nobody hears would last for a
    lease. While the attempt plans, its task is cancelled. Once it ends, the database decides.
    """

    def __init__(self, means: Means, order: Order) -> None:
        self._means, self.order, self.tally = means, order, Tally()
        self.version = order.version  # of the mission that was decided on
        self._run_id: Any = None  # once it is claimed
        self._plan: PlanOutcome | None = None  # once the loop has ended
        self._stop_reason: str | None = None
        self._planning: asyncio.Task[Any] | None = None
        self._is_ending = False
        self._clock = DatabaseClock()

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
        for number in range(_DECIDES):
            outcome = await self._decided(is_anew=number > 0)
            if outcome is not None:
                return outcome
        return Interrupted()

    async def _decided(self, *, is_anew: bool) -> Outcome | None:
        """What came of one decision, None where the claim knew something newer."""
        means, mission_id = self._means, self.order.mission_id
        known = await retried(lambda: means.knowledge.about(mission_id, anew=is_anew))
        if known is None:
            return NotWanted()
        self.version, now = known.mission.version, known.facts.now
        self._clock.told(now)
        answer = gate(known.facts)
        means.crash("after_gate")
        due_at = answer.due_at
        if answer.action == "move":
            return Moves()
        if answer.decision is not None:
            return Skipped(answer.decision, answer.reason, due_at, answer.look_at)
        if answer.action != "run" or due_at is None:
            return Later(answer.look_at)
        pinned = Pinned(text_of(now), known.facts.used, secrets.token_hex(8), known.facts.cap)
        pinned_json = msgspec.json.encode(pinned).decode()
        claim_id = uuid.UUID(bytes=secrets.token_bytes(16))
        claim = await retried(
            lambda: means.store.claim(
                mission_id,
                due_at,
                means.settings.lease_ms,
                means.holder,
                pinned_json,
                claim_id=claim_id,
                decided_by=known.basis,
            )
        )
        self._clock.told(claim.now)
        if claim.outcome == "changed":
            return None
        if claim.outcome != "claimed":
            return _unclaimed(claim, now)
        means.crash("after_claim")
        job = self._job(known, claim)
        self._run_id, calls = job.run_id, ModelCalls(means, job, self.tally)
        with means.leases.held(job.run_id, job.attempt):
            try:
                ending: Ending = await self._planned(job, calls)
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
                ending = GaveUp(exc.kind, f"the model service failed: {exc.kind}")
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
                assert calls.short is not None, "only a refusal raises BudgetExhausted"
                ending = NoRoom(*calls.short)
            finally:
                calls.journal.wipe()
            found = MissionNow(
                merge.decode_record(known.mission.record, exists=True, complete=True),
                known.mission.agent_id,
                known.agent and {"hidden": known.agent.hidden, "state": known.agent.state},
                known.mission.time_zone,
                claim.now,
                known.basis,
            )
            return await self._end(job, calls, ending, found)

    def _job(self, known: Known, claim: Claim) -> Job:
        """The claimed run with what its plan depends on."""
        assert claim.due_at is not None
        assert claim.attempt is not None
        assert claim.pinned is not None
        means = self._means
        user_id, agent_id, mission_id = means.user_id, means.agent_id, self.order.mission_id
        record = msgspec.json.decode(known.mission.record, type=dict[str, Any])
        mission = mission_from_record(user_id, mission_id, record)
        agent, is_known = default_agent(user_id), False
        if known.agent is not None:
            written = msgspec.json.decode(known.agent.record)
            whole = agent_from_record(user_id, agent_id, written)
            is_known = known.agent.complete and not known.agent.hidden
            # A deleted agent still may only what its owner said.
            agent = whole if is_known else msgspec.structs.replace(agent, policy=whole.policy)
        return Job(
            run_id=claim.run_id,
            attempt=claim.attempt,
            failures=claim.failures or 0,
            lost=claim.lost or 0,
            occurrence=Occurrence(
                user_id, agent_id, mission_id, claim.due_at, requested=bool(claim.requested)
            ),
            pinned=msgspec.json.decode(claim.pinned, type=Pinned),
            mission=mission,
            agent=agent,
            zone=ZoneInfo(known.mission.time_zone or means.settings.time_zone),
            exposure=exposure_allowed(record, means.settings.exposure),
            is_known=is_known,
            seen=frozenset(i["id"] for i in mission.iterations if isinstance(i.get("id"), str)),
        )

    async def _planned(self, job: Job, calls: ModelCalls) -> Planned:
        """Read the inputs, and think up a plan that the guardrails let through.

        Its task can be cancelled meanwhile; one that was told to stop before does not begin.
        """
        self._planning = asyncio.current_task()
        if self._stop_reason is not None:
            raise asyncio.CancelledError
        means, tally = self._means, self.tally
        if job.lost >= means.settings.run_attempts:
            raise FinalFailure("process-died", f"its process died {job.lost} times in this run")

        async def require_room() -> None:
            """A key is asked for only where not even a prompt without inputs lacks room."""
            tools = tools_of(job, (), means.store, means.settings, lambda _sighting: None)
            least = plan_input(job, (), tools, means.settings)
            await calls.require_room(opening(loop_input(least)))

        read = await InputReader(means, job, calls.journal, require_room).read()
        calls.exposure = read.exposure
        tally.counts.extend(read.counts)
        blocked = before_plan(item.content for item in read.items).blocked
        if blocked is not None:
            raise FinalFailure(blocked.name, blocked.reason)
        tools = tools_of(job, read.items, means.store, means.settings, tally.saw)
        model = await means.provider.facts(means.settings.model, calls.exposure)
        given = plan_input(job, read.items, tools, means.settings, model.context_tokens)
        plan, counts = await make_plan(given, calls.ask, tools.executor)
        self._plan = plan
        tally.counts.extend(counts)
        if plan.stop_reason == "budget" and not plan.steps and calls.short is not None:
            raise BudgetExhausted(means.agent_id, calls.short[1].asked, 0)
        if not plan.steps and not (plan.summary or "").strip():
            why = "the model answered with neither a plan nor a summary"
            if plan.stop_reason == "max-rounds":
                why = "the model made no call that could be accepted before its rounds were used up"
            elif plan.stop_reason in ("length", "content-filter"):
                why = f"the model was cut off ({plan.stop_reason}) before it planned anything"
            tally.counts.append(Count("parse_failures_total"))
            raise FinalFailure("empty-plan", why)
        judged = after_plan(plan.steps)
        if judged.blocked is not None:
            raise FinalFailure(judged.blocked.name, judged.blocked.reason)
        is_derived = read.is_secret or tells_derived_text(latest_iterations(job.mission))
        return Planned(plan, tuple(each.reason for each in judged.objections), is_derived)

    async def _end(self, job: Job, calls: ModelCalls, ending: Ending, found: MissionNow) -> Outcome:
        """Tell the database how it ended, too late to be stopped; what came of that."""
        self._is_ending = True
        store, counts, plan = self._means.store, self.tally.counts, self._plan
        due_at, note = job.occurrence.due_at, PlanNote()
        if plan is not None:
            note = PlanNote(
                "{}", plan.stop_reason, plan.duplicates, plan.dropped_calls, plan.refused
            )
        note = msgspec.structs.replace(note, answers=calls.receipt.as_json())
        closing = Closing(job.run_id, job.attempt, note)
        match ending:
            case Planned() | GaveUp():
                outcome = await self._commit(job, closing, ending, found)
            case ComesAgain(reason=reason):
                settings, chance = self._means.settings, secrets.SystemRandom().random()
                delay_s = backoff_s(
                    ending.failed,
                    settings.backoff_min_s,
                    settings.backoff_max_s,
                    chance,
                    ending.asked_s,
                )
                ended = await retried(
                    lambda: store.wait(
                        closing, reason, delay_s, "back-off", failed=ending.is_failure
                    )
                )
                _standing(ended)
                # The supervisor may have looked before the report comes, and put it off by 30 s.
                outcome = Waits(due_at, ended.look_at or ended.now, reason)
            case NoRoom(hold=hold, short=short):
                reason = shortfall_reason(short)
                ended = await retried(lambda: store.wait_for_room(closing, reason, hold))
                _standing(ended)
                outcome = WaitsForRoom(due_at, reason, bool(ended.is_news))
            case Blind(unreadable=unreadable):
                reason, again_s = unreadable.reason, unreadable.again_s
                counts += [Count("grant_skips_total", (unreadable.code,)), *unreadable.counts]
                ended = await retried(lambda: store.skip(closing, reason, _LOOK_AFTER_STOP_S))
                _standing(ended)
                look_at = None
                if again_s is not None:
                    look_at = ended.now + timedelta(seconds=again_s)
                outcome = SkippedForGrant(due_at, reason, look_at, bool(ended.is_news))
            case Stopped(reason=reason):
                ended = await retried(lambda: store.withdraw(closing, reason, _LOOK_AFTER_STOP_S))
                log.info(
                    "run_stopped agent=%s/%s mission=%s",
                    self._means.user_id,
                    self._means.agent_id,
                    self.order.mission_id,
                )
                outcome = Withdrawn(due_at, reason, ended.outcome != "superseded")
            case _:
                assert_never(ending)
        self._means.crash("after_commit_before_reply")
        return outcome

    async def _commit(
        self, job: Job, closing: Closing, ending: Planned | GaveUp, found: MissionNow
    ) -> Outcome:
        """Write plan or failure and the next run, unless its owner wants it no longer by then."""
        means, store, ours = self._means, self._means.store, job.occurrence
        is_derived = isinstance(ending, Planned) and ending.is_derived
        for _ in range(_COMMITS):
            now, basis = self._clock.now(), found.basis
            iteration, state = iteration_of(ending, job, now)
            if is_derived:
                owner = await retried(store.owner_key)
                basis = msgspec.structs.replace(basis, owner_key="" if owner is None else owner.id)
                iteration = {**iteration, "usedEncryptedInputs": True}
                if owner is not None:
                    place = Place(ours.user_id, ours.mission_id, ours.iteration_id)
                    with DataKey(bytearray(secrets.token_bytes(KEY_BYTES))) as key:
                        iteration = sealed_iteration(iteration, owner, place, key, _new_iv)
            decided = commit_of(
                CommitFacts(
                    occurrence=ours,
                    snapshot=found.snapshot,
                    agent=found.agent,
                    agent_name=job.agent.name,
                    zone=ZoneInfo(found.time_zone or means.settings.time_zone),
                    now=now,
                    seen=job.seen,
                ),
                iteration,
                state=state,
                steps=ending.steps,
                reason=ending.reason or None,
            )
            if isinstance(decided, Withdrawal):
                why = decided.reason
                withdraw = partial(store.withdraw, closing, why, _LOOK_AFTER_WITHDRAWAL_S)
                _standing(await retried(withdraw))
                return Withdrawn(ours.due_at, why)
            means.crash("in_commit")
            ended = await retried(partial(store.commit, closing, decided, basis))
            _standing(ended)
            self._clock.told(ended.now)
            if ended.newer is None:
                if isinstance(ending, GaveUp):
                    return Failed(ours.due_at, ours.iteration_id, ending.reason)
                return Ran(ours.due_at, ours.iteration_id, ending.steps, ending.reason)
            found = ended.newer
        why = "the mission was changed again and again while its plan was written"
        delay_s = means.settings.backoff_min_s
        waits = partial(store.wait, closing, why, delay_s, "back-off", failed=False)
        ended = await retried(waits)
        _standing(ended)
        return Waits(ours.due_at, ended.look_at or ended.now, why)


def _standing(ended: Ended) -> None:
    """Raises Superseded or Refused where this attempt could not end its run so."""
    if ended.outcome == "superseded":
        raise Superseded
    if ended.outcome == "refused":
        raise Refused("22000")


def _new_iv() -> bytes:
    return secrets.token_bytes(IV_BYTES)


def _unclaimed(claim: Claim, now: datetime) -> Outcome:
    """What the database's refusal of a claim means."""
    soon = claim.look_at or now + _LOOK_SOON
    match claim.outcome:
        case "concurrency":
            reason = "another mission of this agent is running"
            in_a_minute = now + CONCURRENCY_FALLBACK
            return Skipped("skipped-concurrency", reason, claim.due_at, in_a_minute)
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
