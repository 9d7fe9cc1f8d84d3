"""One run of one mission, step by step: gate, claim, read, plan, commit, report.

The caller may rely on this: whatever happens at any step, the occurrence is either served once, or
its run row says that it is open, waiting or closed, and another attempt picks it up from there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from mana_actors.agent.attempt.attempt import Attempt, FinalFailure, Job, Pinned
from mana_actors.agent.attempt.endings import Endings
from mana_actors.agent.attempt.lease import LeaseKeeper
from mana_actors.agent.attempt.plan import Tools, make_plan, tools_of
from mana_actors.agent.attempt.repair import heal
from mana_actors.agent.inputs.reader import InputReader
from mana_actors.agent.inputs.resolvers import Resolver
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.model.calls import ModelCalls
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
from state.log.records import Mission, agent_from_record, default_agent, mission_from_record
from state.log.stamps import text_of
from state.rules.exposure import exposure_allowed
from state.runs.gate import CONCURRENCY_FALLBACK, facts, gate
from state.runs.occurrence import Occurrence
from state.runs.outcome import (
    CapabilityRefused,
    Early,
    Held,
    Interrupted,
    Later,
    Moves,
    NotWanted,
    Outcome,
    Served,
    Skipped,
    Stale,
    TakenOver,
    Waits,
)
from state.runs.withdrawal import browser_since, why_unwanted
from state.store.agent import AgentStore, AgentView, Claim, MissionView
from state.store.connect import CapabilityInvalid, Superseded

log = logging.getLogger("mana.run")

_LOOK_SOON = timedelta(seconds=2)


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
        self._endings = Endings(store=store, settings=settings, crash=crash)
        self._under_way: dict[str, Attempt] = {}

    @property
    def held_a_key(self) -> bool:
        """True once a run here held decrypted text.

        Such a process must not be used again, because Python cannot wipe memory.
        """
        return self._inputs.held_a_key

    async def aclose(self) -> None:
        """Close its connections; the next use opens them again."""
        await self._provider.aclose()
        await self.store.close()

    async def run(self, order: Order) -> Report:
        """Carry out one order; never raises but for cancellation."""
        attempt = self._under_way[order.mission_id] = Attempt(order)
        who = self._user_id, self._agent_id, order.mission_id
        try:
            ended = await self._attempted(attempt)
        except Superseded:
            ended = TakenOver()
        except CapabilityInvalid:
            log.warning("capability_invalid agent=%s/%s mission=%s", *who)
            ended = CapabilityRefused()
        except StateError as exc:
            log.warning("run_interrupted agent=%s/%s mission=%s error=%s", *who, exc)
            ended = Interrupted()
        finally:
            self._under_way.pop(order.mission_id, None)
        return self._report(attempt, ended)

    async def heal(self, order: Order) -> Report:
        """Put back what a client's write erased; never raises but for cancellation."""
        who = self._user_id, self._agent_id, order.mission_id
        try:
            ended = await heal(self.store, *who)
        except StateError as exc:
            log.warning("heal_interrupted agent=%s/%s mission=%s error=%s", *who, exc)
            ended = Interrupted()
        return self._report(Attempt(order), ended)

    def stop(self, mission_id: str, reason: str, run_id: str | None = None) -> None:
        """End a mission's run at once; nothing happens where it does not run, or closes already."""
        attempt = self._under_way.get(mission_id)
        if attempt is not None:
            attempt.stop(reason, run_id)

    async def recheck(self, mission_id: str) -> None:
        """Stop a mission's run if mission or agent want it no longer; its commit asks again."""
        who = self._user_id, self._agent_id, mission_id
        try:
            found = await self.store.for_gate(mission_id)
        except StateError as exc:
            log.warning("recheck_failed agent=%s/%s mission=%s error=%s", *who, exc)
            return
        reason: str | None = "the mission is gone"
        if found is not None:
            mission, agent, _ = found
            reason = why_unwanted(
                hidden=mission.hidden,
                state=mission.state,
                is_ours=mission.agent_id == self._agent_id,
                agent_hidden=agent is not None and agent.hidden,
                agent_state=agent.state if agent else None,
            )
        if reason is not None:
            self.stop(mission_id, reason)

    async def _attempted(self, attempt: Attempt) -> Outcome:
        """Ask the gate, claim the occurrence, and carry it through; or why nothing ran."""
        mission_id = attempt.order.mission_id
        found = await retried(lambda: self.store.for_gate(mission_id))
        if found is None:
            return NotWanted()
        view, agent, usage = found
        attempt.version = view.version
        mission = mission_from_record(self._user_id, mission_id, msgspec.json.decode(view.record))
        known = agent is not None and agent.complete and not agent.hidden
        answer = gate(
            facts(
                view,
                agent_known=known,
                agent_state=agent.state if agent else None,
                max_concurrent=agent.max_concurrent if agent else None,
                cap=usage.cap,
                used=usage.used,
                back_at=usage.back_at,
                browser_since=browser_since(mission.iterations),
            )
        )
        self._crash("after_gate")
        due_at = answer.due_at
        if answer.action == "move":
            return Moves()
        if answer.decision is not None:
            return Skipped(answer.decision, answer.reason, due_at, answer.look_at)
        if answer.action != "run" or due_at is None:
            return Later(answer.look_at)
        pinned = Pinned(text_of(view.now), usage.used, secrets.token_hex(8), usage.cap)
        pinned_json = msgspec.json.encode(pinned).decode()
        lease_ms = self._settings.lease_ms
        claim = await retried(
            lambda: self.store.claim(mission_id, due_at, lease_ms, self._holder, pinned_json)
        )
        if claim.outcome != "claimed":
            return _unclaimed(claim, view)
        self._crash("after_claim")
        attempt.job = self._job(view, agent, mission, claim)
        return await self._held(attempt)

    def _job(
        self, view: MissionView, agent_view: AgentView | None, mission: Mission, claim: Claim
    ) -> Job:
        assert claim.due_at is not None
        assert claim.attempt is not None
        assert claim.pinned is not None
        agent, is_known = default_agent(self._user_id), False
        if agent_view is not None:
            record = msgspec.json.decode(agent_view.record)
            written = agent_from_record(self._user_id, self._agent_id, record)
            is_known = agent_view.complete and not agent_view.hidden
            # A deleted agent still may only what its owner said.
            agent = written if is_known else msgspec.structs.replace(agent, policy=written.policy)
        who = self._user_id, self._agent_id, mission.id
        return Job(
            run_id=claim.run_id,
            attempt=claim.attempt,
            failures=claim.failures or 0,
            lost=claim.lost or 0,
            occurrence=Occurrence(*who, due_at=claim.due_at, requested=bool(claim.requested)),
            pinned=msgspec.json.decode(claim.pinned, type=Pinned),
            mission=mission,
            agent=agent,
            view=view,
            is_known=is_known,
            exposure=exposure_allowed(
                msgspec.json.decode(view.record, type=dict[str, Any]), self._settings.exposure
            ),
            seen=frozenset(i["id"] for i in mission.iterations if isinstance(i.get("id"), str)),
        )

    async def _held(self, attempt: Attempt) -> Outcome:
        """Renew the claim until it has ended, and end it where it is stopped."""
        self._leases.hold(attempt.job.run_id, attempt.job.attempt)
        try:
            return await self._ended(attempt)
        except asyncio.CancelledError:
            reason = attempt.why_stopped()
            if reason is None:
                raise
            return await self._endings.stop(attempt, reason)
        finally:
            attempt.tally.journal.wipe()
            self._leases.drop(attempt.job.run_id)

    async def _ended(self, attempt: Attempt) -> Outcome:
        """Plan and commit, or the ending that what went wrong asks for."""
        try:
            attempt.begin()
            return await self._planned(attempt)
        except ProviderError as exc:
            attempt.tally.counts.append(Count("provider_errors_total", (exc.provider, exc.kind)))
            failure = FinalFailure(exc.kind, f"the model service failed: {exc.kind}")
            return await self._endings.fail(
                attempt, failure, again=exc.retryable, after_s=exc.retry_after_s
            )
        except KeyHolderUnreachable as exc:
            return await self._endings.wait_for_keys(attempt, str(exc))
        except Unreadable as exc:
            return await self._endings.skip(attempt, exc)
        except FinalFailure as exc:
            return await self._endings.fail(attempt, exc, again=False)
        except BudgetExhausted:
            return await self._endings.wait_for_room(attempt)

    async def _planned(self, attempt: Attempt) -> Outcome:
        """Read the inputs, think up a plan, and write it where the guardrails let it through."""
        job, tally = attempt.job, attempt.tally
        if job.lost >= self._settings.run_attempts:
            raise FinalFailure("process-died", f"its process died {job.lost} times in this run")
        read = await self._inputs.read(job, tally.journal, lambda: self._require_room(attempt))
        attempt.job = job = msgspec.structs.replace(job, exposure=read.exposure)
        tally.used_secrets = read.is_secret
        tally.counts.extend(read.counts)
        blocked = before_plan(item.content for item in read.items).blocked
        if blocked is not None:
            raise FinalFailure(blocked.name, blocked.reason)
        tools = tools_of(job, read.items, self.store, self._settings, tally.saw)
        model = await self._provider.facts(self._settings.model, job.exposure)
        plan, counts = await make_plan(
            self._plan_input(job, read.items, tools, model.context_tokens),
            lambda request, number: self._calls.ask(attempt, request, number),
            tools.executor,
        )
        tally.outcome = plan
        tally.counts.extend(counts)
        if plan.stop_reason == "budget" and not plan.steps and tally.refused is not None:
            raise BudgetExhausted(self._agent_id, tally.refused[1].asked, 0)
        if not plan.steps and not (plan.summary or "").strip():
            why = "the model answered with neither a plan nor a summary"
            if plan.stop_reason == "max-rounds":
                why = "the model made no call that could be accepted before its rounds were used up"
            elif plan.stop_reason in ("length", "content-filter"):
                why = f"the model was cut off ({plan.stop_reason}) before it planned anything"
            raise FinalFailure("empty-plan", why)
        judged = after_plan(plan.steps)
        if judged.blocked is not None:
            raise FinalFailure(judged.blocked.name, judged.blocked.reason)
        warnings = [each.reason for each in judged.objections]
        return await self._endings.commit(attempt, plan, warnings)

    async def _require_room(self, attempt: Attempt) -> None:
        """Raises BudgetExhausted where not even a prompt without inputs has room.

        A key is asked for only where a model call can follow.
        """
        tools = tools_of(attempt.job, (), self.store, self._settings, lambda _sighting: None)
        least = opening(loop_input(self._plan_input(attempt.job, (), tools, 0)))
        await self._calls.require_room(attempt, least)

    def _plan_input(
        self, job: Job, inputs: tuple[ResolvedInput, ...], tools: Tools, model_context: int
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
            toolbox=tools.toolbox,
            was_seen=tools.seen.was_seen,
        )

    def _input_failed(self, ref: Any, exc: Exception) -> None:
        log.warning(
            "input_not_resolved agent=%s/%s module=%s error=%s",
            self._user_id,
            self._agent_id,
            ref.module,
            type(exc).__name__,
        )

    def _report(self, attempt: Attempt, ended: Outcome) -> Report:
        """Ids, the ending and numbers: never a text of the owner's."""
        tally = attempt.tally
        return Report(
            holder=self._holder,
            user_id=self._user_id,
            agent_id=self._agent_id,
            mission_id=attempt.order.mission_id,
            version=attempt.version,
            ended=ended,
            tokens=tally.tokens,
            model_calls=tally.model_calls,
            counts=tuple(tally.counts),
        )


def _unclaimed(claim: Claim, view: MissionView) -> Outcome:
    """What the database's refusal of a claim means."""
    soon = claim.look_at or view.now + _LOOK_SOON
    match claim.outcome:
        case "concurrency":
            reason = "another mission of this agent is running"
            in_a_minute = view.now + CONCURRENCY_FALLBACK
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
