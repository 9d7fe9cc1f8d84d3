"""Model calls with their price: a hold before, usage and answer durable after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from mana_actors.agent.attempt.attempt import Attempt, Tally
from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest, request_bytes
from mana_actors.agent.retries import retried
from mana_actors.crash import CrashPoint
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.llm.provider import AliasFacts, ModelProvider
from mana_actors.messages import AgentSettings, Count
from state.rules.budgets import Hold, Shortfall, cost_micros, hold_size
from state.store.agent import AgentStore, CallStart

log = logging.getLogger("mana.run")


class _Call(msgspec.Struct, frozen=True):
    """A call under way: its hold is open until it is settled."""

    id: Any
    attempt: int
    digest: str
    hold: Hold


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

    async def ask(self, attempt: Attempt, request: ModelRequest, number: int) -> ModelAnswer:
        """One model call: hold, ask, settle; a journalled answer to the same request is free."""
        job, tally = attempt.job, attempt.tally
        digest = tally.journal.digest(request)
        facts = await self._provider.facts(request.model, job.exposure)
        hold = self._hold_for(request, facts)
        start = await self._begun(attempt, number, digest, hold)
        if start.outcome == "journaled" and start.answer is not None:
            answer = tally.journal.read(digest, start.answer)
            if answer is not None:
                tally.receipt.answered(number, answer, _spent_tokens(answer) or hold.tokens)
                return answer
            # What was kept is damaged. It is asked again, within the caps and never in silence;
            # the new answer takes its place under the digest of the request.
            tally.counts.append(Count("journal_unreadable_total"))
            log.warning("journal_unreadable run=%s call=%s", job.run_id, number)
            start = await self._begun(attempt, number, f"{digest}:anew", hold)
        if start.outcome != "go":
            raise self._refused(tally, hold, start)
        self._crash("after_hold")
        tally.model_calls += 1
        call = _Call(start.call_id, job.attempt, digest, hold)
        answer = await self._answered(attempt, call, number, request)
        self._crash("after_answer")
        written, tokens = tally.journal.written(digest, answer), _spent_tokens(answer)
        micros = answer.cost_micros  # as the router says, else by the alias's prices
        if micros is None and tokens is not None:
            micros = cost_micros(
                answer.prompt_tokens,
                tokens - answer.prompt_tokens,
                facts.micros_per_prompt_token,
                facts.micros_per_completion_token,
            )
        charged = await self._settle(tally, call, answer=written, tokens=tokens, micros=micros)
        tally.receipt.answered(number, answer, charged)
        self._crash("after_journal")
        return answer

    async def require_room(self, attempt: Attempt, request: ModelRequest) -> None:
        """Raises BudgetExhausted where a run without answers has no room even for `request`."""
        job = attempt.job
        facts = await self._provider.facts(request.model, job.exposure)
        hold = self._hold_for(request, facts)
        found = await retried(lambda: self._store.room_for_call(job.run_id, job.attempt, hold))
        if found.outcome != "go":
            raise self._refused(attempt.tally, hold, found)

    def _hold_for(self, request: ModelRequest, facts: AliasFacts) -> Hold:
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

    async def _begun(self, attempt: Attempt, number: int, digest: str, hold: Hold) -> CallStart:
        job = attempt.job
        deadline_ms = int(self._settings.call_deadline_s * 1000) + 30_000
        return await retried(
            lambda: self._store.begin_call(
                job.run_id,
                job.attempt,
                number,
                digest,
                hold=hold,
                deadline_ms=deadline_ms,
            )
        )

    def _refused(self, tally: Tally, hold: Hold, start: CallStart) -> BudgetExhausted:
        """Remember why the call had no room, and the error to raise."""
        no = Shortfall(
            scope=start.scope or "agent",
            unit=start.unit or "tokens",
            until=start.until or "holds",
            asked=hold.micros if start.unit == "money" else hold.tokens,
            cap=start.cap,
            used=start.used,
            held=start.held,
        )
        tally.refused = hold, no
        left = max(0, (start.cap or 0) - (start.used or 0) - (start.held or 0))
        return BudgetExhausted(self._agent_id, no.asked, left)

    async def _answered(
        self, attempt: Attempt, call: _Call, number: int, request: ModelRequest
    ) -> ModelAnswer:
        """The provider's answer; a call that brings none is settled here."""
        tally, began = attempt.tally, asyncio.get_running_loop().time()
        try:
            self._crash("before_model_call")
            return await self._provider.complete(
                request,
                deadline_s=self._settings.call_deadline_s,
                exposure=attempt.job.exposure,
            )
        except asyncio.CancelledError:  # stopped: what the provider did of it, nobody hears
            charged = await self._settle(tally, call)
            tally.receipt.failed(number, call.attempt, "unknown", charged)
            raise
        except ProviderError as exc:
            # Refused: nothing was spent. Not heard from: it may have been, so the hold is charged.
            spent = None if exc.kind in ("timeout", "network", "invalid_answer", "truncated") else 0
            charged = await self._settle(tally, call, tokens=spent)
            tally.receipt.failed(number, call.attempt, exc.provider, charged)
            raise
        finally:
            took_s = asyncio.get_running_loop().time() - began
            tally.counts.append(Count("planner_request_duration_seconds", (), took_s, observe=True))

    async def _settle(
        self,
        tally: Tally,
        call: _Call,
        *,
        answer: str | None = None,
        tokens: int | None = None,
        micros: int | None = None,
    ) -> int:
        """Make answer and usage durable; what is None, nobody reported: the hold is charged."""
        charged = await retried(
            lambda: self._store.end_call(
                call.id, call.attempt, call.digest, answer, tokens=tokens, micros=micros
            )
        )
        if charged > call.hold.tokens:
            tally.counts.append(Count("calls_above_hold_total"))
        tally.tokens += charged
        self._spent(charged)
        return charged


def _spent_tokens(answer: ModelAnswer) -> int | None:
    """What the provider reported, None if nothing: its own total, or its parts if they are more."""
    if not answer.usage_reported:
        return None
    return max(answer.total_tokens, answer.prompt_tokens + answer.completion_tokens)
