"""One run of one mission, step by step: gate, claim, resolve, plan, commit, report.

The caller may rely on this: whatever happens at any step, the occurrence is either served once, or
its run row says that it is open, waiting or closed, and another attempt picks it up from there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent import closing
from mana_actors.agent.backoff import backoff_s
from mana_actors.agent.calls import ModelCalls, Tally, plan_note
from mana_actors.agent.closing import Closing, Run, Withdrawal, now_text
from mana_actors.agent.gate import Standing, verdict
from mana_actors.agent.granting import InputReader
from mana_actors.agent.inputs.granted import Unreadable
from mana_actors.agent.inputs.registry import Resolver
from mana_actors.agent.job import FinalFailure, Job, Pinned
from mana_actors.agent.kit import Kit, kit_of
from mana_actors.agent.lease import LeaseKeeper
from mana_actors.agent.mending import Mender
from mana_actors.agent.persisting import retried, retried_close
from mana_actors.agent.planner.compaction import CompactionSettings
from mana_actors.agent.planner.guardrails import after_plan, before_plan
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.planner.prompt import PlanInput, ResolvedInput
from mana_actors.agent.planner.reminders import Allowance
from mana_actors.agent.planning import make_plan
from mana_actors.agent.stopping import Stops
from mana_actors.agent.wanted import why_unwanted
from mana_actors.crash import CrashPoint
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.keys.errors import KeyHolderUnreachable
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings, Count, Order, Report
from state.browser_runs import browser_since
from state.budgets import refusal_reason
from state.consent import exposure_allowed
from state.errors import StateError
from state.iterations import (
    PlannedStep,
    failed_iteration,
    iteration_from_plan,
    iteration_id,
)
from state.records import Agent, Mission, agent_from_record, default_agent, mission_from_record
from state.stamps import instant_of
from state.store.agents import (
    AgentStore,
    AgentView,
    Claim,
    MissionNow,
    MissionView,
    Usage,
)
from state.store.connect import CapabilityInvalid, Superseded

log = logging.getLogger("mana.run")
T = TypeVar("T")

_DATABASE_TRIES = 8
_LOOK_SOON = timedelta(seconds=2)
_LOOK_AFTER_STOP_S = 0.2


class Runner:
    """Runs missions of one agent; the time is the database's, randomness comes from `secrets`."""

    def __init__(
        self,
        *,
        user_id: str,
        agent_id: str,
        holder: str,
        store: AgentStore,
        provider: ModelProvider,
        settings: AgentSettings,
        leases: LeaseKeeper,
        resolvers: Mapping[str, Resolver],
        crash: CrashPoint = lambda _point: None,
        spent: Callable[[int], None] = lambda _tokens: None,
    ) -> None:
        self._user_id, self._agent_id, self._holder = user_id, agent_id, holder
        self._store, self._settings, self._provider = store, settings, provider
        self._leases, self._crash = leases, crash
        self._inputs = InputReader(store, settings.key_socket, resolvers, self._input_failed)
        self._calls = ModelCalls(
            agent_id=agent_id,
            store=store,
            provider=provider,
            settings=settings,
            crash=crash,
            spent=spent,
        )
        self._mender = Mender(store, user_id, agent_id)
        self._stops = Stops()

    async def run(self, order: Order) -> Report:
        """Carry out one order; never raises but for cancellation."""
        with self._stops.under_way(order.mission_id):
            return await self._run_safely(order)

    def stop(self, mission_id: str, reason: str, run_id: str | None = None) -> None:
        """End a mission's run at once; nothing happens where it does not run, or closes already."""
        self._stops.stop(mission_id, reason, run_id)

    async def recheck(self, mission_id: str) -> None:
        """Stop a mission's run if mission or agent want it no longer; its commit asks again."""
        try:
            found = await self._store.standing(mission_id)
        except StateError as exc:
            log.warning(
                "recheck_failed agent=%s/%s mission=%s error=%s",
                self._user_id,
                self._agent_id,
                mission_id,
                exc,
            )
            return
        reason = "the mission is gone" if found is None else self._unwanted(found[0], found[1])
        if reason is not None:
            self.stop(mission_id, reason)

    def _unwanted(self, mission: MissionView, agent: AgentView | None) -> str | None:
        return why_unwanted(
            hidden=mission.hidden,
            state=mission.state,
            is_ours=mission.agent_id == self._agent_id,
            agent_hidden=agent is not None and agent.hidden,
            agent_state=agent.state if agent else None,
        )

    async def _run_safely(self, order: Order) -> Report:
        try:
            return await self._run(order)
        except Superseded:
            return self._report(order, "superseded")
        except CapabilityInvalid:
            log.warning(
                "capability_invalid agent=%s/%s mission=%s",
                self._user_id,
                self._agent_id,
                order.mission_id,
            )
            return self._report(order, "capability-invalid")
        except StateError as exc:
            log.warning(
                "run_interrupted agent=%s/%s mission=%s error=%s",
                self._user_id,
                self._agent_id,
                order.mission_id,
                exc,
            )
            return self._report(order, "interrupted")

    async def heal(self, order: Order) -> Report:
        """Put back what a client's write erased; never raises but for cancellation."""
        try:
            return self._report(order, await self._mender.mend(order.mission_id))
        except StateError as exc:
            log.warning(
                "heal_interrupted agent=%s/%s mission=%s error=%s",
                self._user_id,
                self._agent_id,
                order.mission_id,
                exc,
            )
            return self._report(order, "interrupted")

    async def _run(self, order: Order) -> Report:
        found = await retried(lambda: self._store.standing(order.mission_id))
        if found is None:
            return self._report(order, "unwanted")
        view, agent_view, usage = found
        mission = mission_from_record(
            self._user_id, order.mission_id, msgspec.json.decode(view.record)
        )
        at = _standing(view, agent_view, usage, mission)
        gate = verdict(at)
        self._crash("after_gate")
        if gate.action != "run" or gate.due_at is None:
            return self._report(
                order,
                gate.action,
                view=view,
                decision=gate.decision,
                reason=gate.reason,
                due_at=gate.due_at,
                look_at=gate.look_at,
            )
        pinned = Pinned(now_text(view.now), usage.used, secrets.token_hex(8), usage.cap)
        claim = await retried(lambda: self._claim(order.mission_id, gate.due_at, pinned))
        if claim.outcome != "claimed":
            return self._unclaimed(order, view, claim)
        self._crash("after_claim")
        return await self._held(order, self._job(view, agent_view, mission, claim))

    async def _claim(self, mission_id: str, due_at: datetime | None, pinned: Pinned) -> Claim:
        assert due_at is not None
        return await self._store.claim(
            mission_id,
            due_at,
            self._settings.lease_ms,
            self._holder,
            msgspec.json.encode(pinned).decode(),
        )

    def _job(
        self, view: MissionView, agent_view: AgentView | None, mission: Mission, claim: Claim
    ) -> Job:
        assert claim.due_at is not None
        assert claim.attempt is not None
        assert claim.pinned is not None
        agent, is_known = self._agent(agent_view)
        seen = frozenset(i["id"] for i in mission.iterations if isinstance(i.get("id"), str))
        run = Run(
            self._user_id, self._agent_id, mission.id, claim.due_at, bool(claim.requested), seen
        )
        pinned = msgspec.json.decode(claim.pinned, type=Pinned)
        return Job(
            run_id=claim.run_id,
            attempt=claim.attempt,
            failures=claim.failures or 0,
            lost=claim.lost or 0,
            run=run,
            pinned=pinned,
            mission=mission,
            agent=agent,
            view=view,
            is_known=is_known,
            exposure=exposure_allowed(
                msgspec.json.decode(view.record, type=dict[str, Any]), self._settings.exposure
            ),
        )

    def _agent(self, view: AgentView | None) -> tuple[Agent, bool]:
        """The agent, and whether it is known; a deleted one still may only what its owner said."""
        if view is None:
            return default_agent(self._user_id), False
        agent = agent_from_record(self._user_id, self._agent_id, msgspec.json.decode(view.record))
        if view.complete and not view.hidden:
            return agent, True
        default = default_agent(self._user_id)
        return msgspec.structs.replace(default, policy=agent.policy), False

    def _unclaimed(self, order: Order, view: MissionView, claim: Claim) -> Report:
        if claim.outcome == "concurrency":
            return self._report(
                order,
                "skip",
                view=view,
                decision="skipped-concurrency",
                due_at=claim.due_at,
                reason="another mission of this agent is running",
                look_at=view.now + timedelta(seconds=60),
            )
        return self._report(
            order,
            claim.outcome,
            view=view,
            due_at=claim.due_at,
            look_at=claim.look_at or view.now + _LOOK_SOON,
        )

    async def _held(self, order: Order, job: Job) -> Report:
        self._leases.hold(job.run_id, job.attempt)
        tally, live = Tally(), self._stops[order.mission_id]
        try:
            return await self._settled(order, job, tally)
        except asyncio.CancelledError:
            reason = live.heard()
            if reason is None:
                raise
            return await self._stopped(order, job, tally, reason)
        finally:
            self._leases.drop(job.run_id)

    async def _settled(self, order: Order, job: Job, tally: Tally) -> Report:
        try:
            self._stops[order.mission_id].plan(str(job.run_id))
            return await self._planned(order, job, tally)
        except ProviderError as exc:
            tally.counts.append(Count("provider_errors_total", (exc.provider, exc.kind)))
            return await self._failed(
                order,
                job,
                tally,
                FinalFailure(exc.kind, f"the model service failed: {exc.kind}"),
                again=exc.retryable,
                after_s=exc.retry_after_s,
            )
        except KeyHolderUnreachable as exc:
            return await self._without_keys(order, job, tally, str(exc))
        except Unreadable as exc:
            return await self._unreadable(order, job, tally, exc)
        except FinalFailure as exc:
            return await self._failed(order, job, tally, exc, again=False)
        except BudgetExhausted:
            return await self._out_of_budget(order, job, tally)

    async def _stopped(self, order: Order, job: Job, tally: Tally, reason: str) -> Report:
        """Withdraw it; a cancelled run is closed already, and its decision written."""
        decision = "withdrawn"
        try:
            await retried(
                lambda: self._store.stop(
                    job.run_id, job.attempt, reason, _LOOK_AFTER_STOP_S, plan_note(tally)
                )
            )
        except Superseded:
            decision = None
        log.info(
            "run_stopped agent=%s/%s mission=%s", self._user_id, self._agent_id, order.mission_id
        )
        return self._report(
            order,
            "withdrawn",
            decision=decision,
            reason=reason,
            due_at=job.run.due_at,
            tally=tally,
        )

    async def _planned(self, order: Order, job: Job, tally: Tally) -> Report:
        if job.lost >= self._settings.run_attempts:
            raise FinalFailure("process-died", f"its process died {job.lost} times in this run")
        read = await self._inputs.read(job, _iteration_id(job.run))
        job, inputs = msgspec.structs.replace(job, exposure=read.exposure), read.items
        tally.used_secrets = read.is_secret
        tally.counts.extend(read.counts)
        blocked = before_plan(item.content for item in inputs).blocked
        if blocked is not None:
            raise FinalFailure(blocked.name, blocked.reason)
        kit = kit_of(job, inputs, self._store, self._settings, tally.saw)
        facts = await self._provider.facts(self._settings.model, job.exposure)
        outcome, counts = await make_plan(
            self._plan_input(job, inputs, kit, facts.context_tokens),
            lambda request, n: self._calls.ask(job, tally, request, n),
            kit.executor,
        )
        tally.outcome = outcome
        tally.counts.extend(counts)
        if outcome.stop_reason == "budget" and not outcome.steps and tally.refused is not None:
            raise BudgetExhausted(self._agent_id, tally.refused[1].asked, 0)
        if not outcome.steps and not (outcome.summary or "").strip():
            raise FinalFailure("empty-plan", _why_empty(outcome.stop_reason))
        judged = after_plan(outcome.steps)
        if judged.blocked is not None:
            raise FinalFailure(judged.blocked.name, judged.blocked.reason)
        warnings = [finding.reason for finding in judged.findings]
        return await self._commit(order, job, tally, outcome, warnings)

    def _plan_input(
        self, job: Job, inputs: tuple[ResolvedInput, ...], kit: Kit, model_context: int
    ) -> PlanInput:
        settings, agent = self._settings, job.agent
        ceiling = settings.compact_max_ctx
        return PlanInput(
            mission=job.mission,
            agent=agent,
            inputs=inputs,
            policy=agent.policy,
            boundary=job.pinned.boundary,
            model=settings.model,
            now=job.pinned.now,
            max_rounds=settings.max_rounds,
            max_output=settings.max_output_tokens,
            allowance=Allowance(agent.name, job.pinned.cap, job.pinned.used),
            compaction=CompactionSettings(ceiling, model_context=model_context)
            if ceiling
            else None,
            toolbox=kit.toolbox,
            was_seen=kit.seen.was_seen,
        )

    async def _commit(
        self, order: Order, job: Job, tally: Tally, outcome: PlanOutcome, warnings: list[str]
    ) -> Report:
        steps = [
            PlannedStep(call.name, dict(call.arguments), rationale=call.rationale)
            for call in outcome.steps
        ]
        cut_short = outcome.cut_short
        reason = "; ".join(filter(None, [cut_short, *warnings])) or None
        id_ = _iteration_id(job.run)

        def iteration(now: datetime) -> dict[str, Any]:
            summary = outcome.summary or ""
            written = iteration_from_plan(steps, summary, id_, now_text(now), cut_short)
            return {**written, "usedEncryptedInputs": True} if tally.used_secrets else written

        return await self._close(
            order, job, tally, iteration, failed=False, steps=len(steps), reason=reason
        )

    async def _failed(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        failure: FinalFailure,
        *,
        again: bool,
        after_s: float | None = None,
    ) -> Report:
        """Back off, or after the last try write a failed iteration that the owner sees."""
        settings = self._settings
        tally.counts.append(Count("parse_failures_total"))
        if again and job.failures + 1 < settings.run_attempts:
            delay = backoff_s(
                job.failures,
                settings.backoff_min_s,
                settings.backoff_max_s,
                secrets.SystemRandom().random(),
                after_s,
            )
            return await self._wait(
                order, job, tally, delay, "back-off", failure.message, failed=True
            )
        id_ = _iteration_id(job.run)

        def iteration(now: datetime) -> dict[str, Any]:
            return failed_iteration(id_, now_text(now), failure.name, failure.message)

        return await self._close(
            order, job, tally, iteration, failed=True, steps=0, reason=failure.message
        )

    async def _wait(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        delay_s: float,
        what: str,
        reason: str,
        *,
        failed: bool,
    ) -> Report:
        usage_now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        look_at = usage_now + timedelta(seconds=delay_s)
        self._stops[order.mission_id].close()
        await retried(
            lambda: self._store.wait(
                job.run_id,
                job.attempt,
                look_at,
                what,
                reason,
                failed=failed,
                note=plan_note(tally),
            )
        )
        # The supervisor may have looked before this report came, and put the mission off by 30 s.
        return self._report(
            order, "waiting", due_at=job.run.due_at, look_at=look_at, reason=reason, tally=tally
        )

    async def _without_keys(self, order: Order, job: Job, tally: Tally, reason: str) -> Report:
        """Come again, however often: an absent key holder is no failure of this mission."""
        settings, chance = self._settings, secrets.SystemRandom().random()
        least, most = settings.backoff_min_s, settings.backoff_max_s
        delay = backoff_s(job.attempt, least, most, chance)
        return await self._wait(order, job, tally, delay, "back-off", reason, failed=False)

    async def _unreadable(
        self, order: Order, job: Job, tally: Tally, unreadable: Unreadable
    ) -> Report:
        """Skip rather than plan blind; a new row of the owner's makes it run (D-46)."""
        tally.counts.append(Count("grant_skips_total", (unreadable.code,)))
        if unreadable.code == "scope-violation":
            tally.counts.append(Count("grant_scope_violations_total", ("other",)))
        now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        self._stops[order.mission_id].close()
        await retried(
            lambda: self._store.stop(
                job.run_id, job.attempt, unreadable.reason, _LOOK_AFTER_STOP_S, plan_note(tally)
            )
        )
        again = unreadable.again_s
        return self._report(
            order,
            "skip",
            view=job.view,
            decision="skipped-grant",
            reason=unreadable.reason,
            due_at=job.run.due_at,
            look_at=None if again is None else now + timedelta(seconds=again),
            tally=tally,
        )

    async def _out_of_budget(self, order: Order, job: Job, tally: Tally) -> Report:
        """Nothing was planned yet: come again when room returns or a cap changes, and say so."""
        assert tally.refused is not None, "only a refusal raises BudgetExhausted"
        hold, refusal = tally.refused
        reason = refusal_reason(refusal)
        self._stops[order.mission_id].close()
        await retried(
            lambda: self._store.wait_for_room(
                job.run_id, job.attempt, hold, reason, plan_note(tally)
            )
        )
        return self._report(
            order,
            "waiting",
            due_at=job.run.due_at,
            decision="skipped-budget",
            reason=reason,
            tally=tally,
        )

    async def _close(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        iteration: Callable[[datetime], dict[str, Any]],
        *,
        failed: bool,
        steps: int,
        reason: str | None,
    ) -> Report:
        self._stops[order.mission_id].close()
        ended = await retried_close(
            lambda: self._close_once(
                job, tally, iteration, failed=failed, steps=steps, reason=reason
            ),
            lambda: self._store.landed(job.run_id, job.attempt),
        )
        self._crash("after_commit_before_reply")
        if isinstance(ended, Withdrawal):
            return self._report(
                order,
                "withdrawn",
                decision="withdrawn",
                reason=ended.reason,
                due_at=job.run.due_at,
                tally=tally,
            )
        return self._report(
            order,
            "failed" if failed else "ran",
            decision="failed" if failed else "ran",
            reason=reason or "",
            due_at=job.run.due_at,
            iteration_id=_iteration_id(job.run),
            steps=steps,
            tally=tally,
        )

    async def _close_once(
        self,
        job: Job,
        tally: Tally,
        iteration: Callable[[datetime], dict[str, Any]],
        *,
        failed: bool,
        steps: int,
        reason: str | None,
    ) -> Withdrawal | None:
        async with self._store.closing(job.run_id, job.attempt) as (now, connection):
            note = plan_note(tally)
            await self._store.note_plan(connection, job.run_id, job.attempt, note)
            ended = closing.close(
                self._closing(job, now),
                iteration(now.now),
                failed=failed,
                steps=steps,
                reason=reason,
            )
            if isinstance(ended, Withdrawal):
                await self._store.withdraw(
                    connection, job.run_id, job.attempt, ended.reason, now.now + _LOOK_SOON
                )
                return ended
            await self._store.commit(connection, job.run_id, job.attempt, ended)
            self._crash("in_commit")
        return None

    def _closing(self, job: Job, now: MissionNow) -> Closing:
        zone = ZoneInfo(now.time_zone or self._settings.time_zone)
        return Closing(job.run, now.snapshot, now.agent, job.agent.name, zone, now.now)

    def _input_failed(self, ref: Any, exc: Exception) -> None:
        log.warning(
            "input_not_resolved agent=%s/%s module=%s error=%s",
            self._user_id,
            self._agent_id,
            ref.module,
            type(exc).__name__,
        )

    def _report(
        self,
        order: Order,
        outcome: str,
        *,
        view: MissionView | None = None,
        tally: Tally | None = None,
        **fields: Any,
    ) -> Report:
        known = tally or Tally()
        return Report(
            holder=self._holder,
            user_id=self._user_id,
            agent_id=self._agent_id,
            mission_id=order.mission_id,
            version=view.version if view else order.version,
            outcome=outcome,
            tokens=known.tokens,
            model_calls=known.model_calls,
            counts=tuple(known.counts),
            **fields,
        )


def _standing(
    view: MissionView, agent: AgentView | None, usage: Usage, mission: Mission
) -> Standing:
    known = agent is not None and agent.complete and not agent.hidden
    return Standing(
        now=view.now,
        state=view.state,
        agent_id=view.agent_id,
        hidden=view.hidden,
        complete=view.complete,
        readable=view.readable,
        next_run_at=view.next_run_at,
        requested_at=view.requested_at,
        agent_known=known,
        agent_state=agent.state if agent else None,
        max_concurrent=agent.max_concurrent if agent and known else 1,
        cap=usage.cap,
        used=usage.used,
        back_at=usage.back_at,
        slots_from=view.slots_from,
        browser_since=browser_since(mission.iterations),
    )


def _why_empty(stop_reason: str) -> str:
    if stop_reason == "max-rounds":
        return "the model made no call that could be accepted before its rounds were used up"
    if stop_reason in ("length", "content-filter"):
        return f"the model was cut off ({stop_reason}) before it planned anything"
    return "the model answered with neither a plan nor a summary"


def _iteration_id(run: Run) -> str:
    return iteration_id(run.user_id, run.mission_id, instant_of(run.due_at) // 1000)
