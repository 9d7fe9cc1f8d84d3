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

import msgspec

from mana_actors.agent.attempt.endings import Ending
from mana_actors.agent.attempt.job import FinalFailure, Job, Pinned
from mana_actors.agent.attempt.last_write import Run, now_text
from mana_actors.agent.attempt.lease import LeaseKeeper
from mana_actors.agent.attempt.plan import make_plan
from mana_actors.agent.attempt.repair import Mender
from mana_actors.agent.attempt.report import Reporter
from mana_actors.agent.attempt.stops import Stops
from mana_actors.agent.attempt.toolkit import Kit, kit_of
from mana_actors.agent.inputs.reader import InputReader
from mana_actors.agent.inputs.resolvers import Resolver
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.model.calls import ModelCalls, Tally
from mana_actors.agent.planner.compaction import CompactionSettings
from mana_actors.agent.planner.guardrails import after_plan, before_plan
from mana_actors.agent.planner.loop import opening
from mana_actors.agent.planner.prompt import PlanInput, ResolvedInput, loop_input
from mana_actors.agent.planner.reminders import Allowance
from mana_actors.agent.retries import retried
from mana_actors.crash import CrashPoint
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.keys.client import KeyHolderUnreachable
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings, Count, Order, Report
from state.errors import StateError
from state.log.records import Agent, Mission, agent_from_record, default_agent, mission_from_record
from state.rules.exposure import exposure_allowed
from state.runs.browser_runs import browser_since
from state.runs.gate import Standing, verdict
from state.runs.wanted import why_unwanted
from state.store.agent import (
    AgentStore,
    AgentView,
    Claim,
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
        self.store, self._settings, self._provider = store, settings, provider
        self._leases, self._crash = leases, crash
        key_holder = settings.key_address or settings.key_socket
        self._inputs = InputReader(store, key_holder, resolvers, self._input_failed, crash)
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
        self._report = Reporter(user_id, agent_id, holder)
        self._ending = Ending(
            store=store, settings=settings, stops=self._stops, report=self._report, crash=crash
        )

    @property
    def held_a_key(self) -> bool:
        """Whether a run of this process decrypted something: then it is to end, and soon."""
        return self._inputs.held_a_key

    async def aclose(self) -> None:
        """Close its connections; the next use opens them again."""
        await self._provider.aclose()
        await self.store.close()

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
            found = await self.store.standing(mission_id)
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
        found = await retried(lambda: self.store.standing(order.mission_id))
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
        return await self.store.claim(
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
            return await self._ending.stop(order, job, tally, reason)
        finally:
            tally.journal.wipe()
            self._leases.drop(job.run_id)

    async def _settled(self, order: Order, job: Job, tally: Tally) -> Report:
        try:
            self._stops[order.mission_id].plan(str(job.run_id))
            return await self._planned(order, job, tally)
        except ProviderError as exc:
            tally.counts.append(Count("provider_errors_total", (exc.provider, exc.kind)))
            return await self._ending.fail(
                order,
                job,
                tally,
                FinalFailure(exc.kind, f"the model service failed: {exc.kind}"),
                again=exc.retryable,
                after_s=exc.retry_after_s,
            )
        except KeyHolderUnreachable as exc:
            return await self._ending.wait_for_keys(order, job, tally, str(exc))
        except Unreadable as exc:
            return await self._ending.skip_unreadable(order, job, tally, exc)
        except FinalFailure as exc:
            return await self._ending.fail(order, job, tally, exc, again=False)
        except BudgetExhausted:
            return await self._ending.wait_for_room(order, job, tally)

    async def _planned(self, order: Order, job: Job, tally: Tally) -> Report:
        if job.lost >= self._settings.run_attempts:
            raise FinalFailure("process-died", f"its process died {job.lost} times in this run")
        read = await self._inputs.read(job, tally.journal, lambda: self._require_room(job, tally))
        job, inputs = msgspec.structs.replace(job, exposure=read.exposure), read.items
        tally.used_secrets = read.is_secret
        tally.counts.extend(read.counts)
        blocked = before_plan(item.content for item in inputs).blocked
        if blocked is not None:
            raise FinalFailure(blocked.name, blocked.reason)
        kit = kit_of(job, inputs, self.store, self._settings, tally.saw)
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
        warnings = [each.reason for each in judged.objections]
        return await self._ending.commit(order, job, tally, outcome, warnings)

    async def _require_room(self, job: Job, tally: Tally) -> None:
        """No key where not even a prompt without inputs has room (D-39)."""
        kit = kit_of(job, (), self.store, self._settings, lambda _sighting: None)
        least = opening(loop_input(self._plan_input(job, (), kit, 0)))
        await self._calls.require_room(job, tally, least)

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

    def _input_failed(self, ref: Any, exc: Exception) -> None:
        log.warning(
            "input_not_resolved agent=%s/%s module=%s error=%s",
            self._user_id,
            self._agent_id,
            ref.module,
            type(exc).__name__,
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
