"""Model calls with their price: a hold before, usage and answer durable after (P2, P5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from mana_actors.agent.attempt.job import Job
from mana_actors.agent.model.journal import Journal
from mana_actors.agent.model.receipt import Receipt
from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest, request_bytes
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.retries import retried
from mana_actors.agent.tools.injection_watch import Sighting
from mana_actors.crash import CrashPoint
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.llm.provider import AliasFacts, ModelProvider
from mana_actors.messages import AgentSettings, Count
from state.rules.budgets import Hold, Shortfall, cost_micros, hold_size
from state.store.agent import AgentStore, CallStart, PlanNote

log = logging.getLogger("mana.run")


class Tally:
    """What one run spent and counted so far, and why its last call had no room."""

    def __init__(self) -> None:
        self.tokens = 0
        self.model_calls = 0
        self.counts: list[Count] = []
        self.refused: tuple[Hold, Shortfall] | None = None
        self.receipt = Receipt()
        self.used_secrets = False  # whether inputs were decrypted for it
        self.journal = Journal()
        self.outcome: PlanOutcome | None = None  # once the loop has ended

    def saw(self, sighting: Sighting) -> None:
        """Count text that reads like an instruction."""
        self.counts.append(Count("injection_markers_total", (sighting.place, sighting.marker)))


class _Call(msgspec.Struct, frozen=True):
    """A call under way: its hold is open until it is settled."""

    id: Any
    attempt: int
    digest: str
    hold: Hold


def plan_note(tally: Tally) -> PlanNote:
    """What the run row keeps of a run's thinking."""
    answers, outcome = tally.receipt.as_json(), tally.outcome
    if outcome is None:
        return PlanNote(answers)
    return PlanNote(
        answers, outcome.stop_reason, outcome.duplicates, outcome.dropped_calls, outcome.refused
    )


class ModelCalls:
    """Asks the model within the owner's budget; `spent` hears of every charge."""

    def __init__(
        self,
        *,
        agent_id: str,
        store: AgentStore,
        provider: ModelProvider,
        settings: AgentSettings,
        crash: CrashPoint,
        spent: Callable[[int], None],
    ) -> None:
        self._agent_id, self._store, self._provider = agent_id, store, provider
        self._settings, self._crash, self._spent = settings, crash, spent

    async def ask(self, job: Job, tally: Tally, request: ModelRequest, number: int) -> ModelAnswer:
        """One model call: hold, ask, settle; a journalled answer to the same request is free."""
        digest = tally.journal.digest(request)
        facts = await self._provider.facts(request.model, job.exposure)
        hold = self._bound(request, facts)
        start = await self._begun(job, number, digest, hold)
        if start.outcome == "journaled" and start.answer is not None:
            answer = tally.journal.read(digest, start.answer)
            if answer is not None:
                tally.receipt.answered(number, answer, _spent_tokens(answer) or hold.tokens)
                return answer
            start = await self._begun_anew(job, tally, number, digest, hold)
        if start.outcome != "go":
            raise self._refused(tally, hold, start)
        self._crash("after_hold")
        tally.model_calls += 1
        call = _Call(start.call_id, job.attempt, digest, hold)
        answer = await self._answered(job, tally, call, number, request)
        self._crash("after_answer")
        written, tokens = tally.journal.written(digest, answer), _spent_tokens(answer)
        charged = await self._settle(tally, call, written, tokens, _cost(answer, facts))
        tally.receipt.answered(number, answer, charged)
        self._crash("after_journal")
        return answer

    async def require_room(self, job: Job, tally: Tally, request: ModelRequest) -> None:
        """Raises BudgetExhausted where a run without answers has no room even for `request`."""
        facts = await self._provider.facts(request.model, job.exposure)
        hold = self._bound(request, facts)
        found = await retried(lambda: self._store.room_for_call(job.run_id, job.attempt, hold))
        if found.outcome != "go":
            raise self._refused(tally, hold, found)

    async def _begun(self, job: Job, number: int, digest: str, hold: Hold) -> CallStart:
        deadline_ms = int(self._settings.call_deadline_s * 1000) + 30_000
        return await retried(
            lambda: self._store.begin_call(
                job.run_id, job.attempt, number, digest, hold, deadline_ms
            )
        )

    async def _begun_anew(
        self, job: Job, tally: Tally, number: int, digest: str, hold: Hold
    ) -> CallStart:
        """A call whose kept answer is damaged: paid again, within the caps, and never in silence.

        What it brings takes the damaged one's place, under the digest of the request.
        """
        tally.counts.append(Count("journal_unreadable_total"))
        log.warning("journal_unreadable run=%s call=%s", job.run_id, number)
        return await self._begun(job, number, f"{digest}:anew", hold)

    def _bound(self, request: ModelRequest, facts: AliasFacts) -> Hold:
        """The most this call may cost."""
        per_token = facts.bytes_per_token or self._settings.bytes_per_token
        tokens = hold_size(len(request_bytes(request)), request.max_output, per_token)
        micros = cost_micros(
            tokens - request.max_output,
            request.max_output,
            facts.micros_per_prompt_token,
            facts.micros_per_completion_token,
        )
        return Hold(tokens, micros)

    def _refused(self, tally: Tally, hold: Hold, start: CallStart) -> BudgetExhausted:
        """Remember why the call had no room, and the error to raise."""
        asked = hold.micros if start.unit == "money" else hold.tokens
        no = Shortfall(
            start.scope or "agent",
            start.unit or "tokens",
            start.until or "holds",
            asked,
            start.cap,
            start.used,
            start.held,
        )
        tally.refused = hold, no
        left = max(0, (start.cap or 0) - (start.used or 0) - (start.held or 0))
        return BudgetExhausted(self._agent_id, asked, left)

    async def _answered(
        self, job: Job, tally: Tally, call: _Call, number: int, request: ModelRequest
    ) -> ModelAnswer:
        began = asyncio.get_running_loop().time()
        try:
            self._crash("before_model_call")
            return await self._provider.complete(
                request, deadline_s=self._settings.call_deadline_s, exposure=job.exposure
            )
        except asyncio.CancelledError:  # stopped: what the provider did of it, nobody hears
            charged = await self._settle(tally, call, None, None, None)
            tally.receipt.failed(number, call.attempt, "unknown", charged)
            raise
        except ProviderError as exc:
            # Refused: nothing was spent. Not heard from: it may have been, so the hold is charged.
            spent = None if exc.kind in ("timeout", "network", "invalid_answer", "truncated") else 0
            charged = await self._settle(tally, call, None, spent, None)
            tally.receipt.failed(number, call.attempt, exc.provider, charged)
            raise
        finally:
            took_s = asyncio.get_running_loop().time() - began
            tally.counts.append(Count("planner_request_duration_seconds", (), took_s, observe=True))

    async def _settle(
        self, tally: Tally, call: _Call, answer: str | None, tokens: int | None, micros: int | None
    ) -> int:
        charged = await retried(
            lambda: self._store.end_call(call.id, call.attempt, call.digest, answer, tokens, micros)
        )
        if charged > call.hold.tokens:
            tally.counts.append(Count("calls_above_hold_total"))
        tally.tokens += charged
        self._spent(charged)
        return charged


def _spent_tokens(answer: ModelAnswer) -> int | None:
    """What the provider reported, its own total where that is larger (D-26); None if nothing."""
    if not answer.usage_reported:
        return None
    return max(answer.total_tokens, answer.prompt_tokens + answer.completion_tokens)


def _cost(answer: ModelAnswer, facts: AliasFacts) -> int | None:
    """What the answer cost: as the router says, else by the alias's prices; None if unknown."""
    tokens = _spent_tokens(answer)
    if answer.cost_micros is not None or tokens is None:
        return answer.cost_micros
    return cost_micros(
        answer.prompt_tokens,
        tokens - answer.prompt_tokens,
        facts.micros_per_prompt_token,
        facts.micros_per_completion_token,
    )
