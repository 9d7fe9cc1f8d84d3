"""Model calls with their price: a hold before, usage and answer durable after (P2, P5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mana_actors.agent.job import Job
from mana_actors.agent.persisting import retried
from mana_actors.agent.planner.exchange import (
    ModelAnswer,
    ModelRequest,
    decode_answer,
    encode_answer,
    request_bytes,
    request_hash,
)
from mana_actors.crash import CrashPoint
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings, Count
from state.budgets import hold_size
from state.store.agents import AgentStore, CallStart


class Tally:
    """What one run spent and counted so far."""

    def __init__(self) -> None:
        self.tokens = 0
        self.model_calls = 0
        self.counts: list[Count] = []
        self.asked = self.left = 0
        self.only_holds_in_the_way = False

    def refused(self, hold: int, start: CallStart) -> None:
        """Remember why the last call had no room."""
        free = (start.cap or 0) - (start.used or 0)
        self.asked, self.left = hold, max(0, free - (start.held or 0))
        self.only_holds_in_the_way = hold <= free


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
        digest = request_hash(request)
        hold = hold_size(
            len(request_bytes(request)), request.max_output, self._settings.bytes_per_token
        )
        deadline_ms = int(self._settings.call_deadline_s * 1000) + 30_000
        start = await retried(
            lambda: self._store.begin_call(
                job.run_id, job.attempt, number, digest, hold, deadline_ms
            )
        )
        if start.outcome == "journaled" and start.answer is not None:
            return decode_answer(start.answer.encode())
        if start.outcome != "go":
            tally.refused(hold, start)
            raise BudgetExhausted(
                self._agent_id,
                hold,
                max(0, (start.cap or 0) - (start.used or 0) - (start.held or 0)),
            )
        self._crash("after_hold")
        tally.model_calls += 1
        began = asyncio.get_running_loop().time()
        try:
            self._crash("before_model_call")
            answer = await self._provider.complete(
                request, deadline_s=self._settings.call_deadline_s, exposure=job.exposure
            )
        except ProviderError as exc:
            # Refused: nothing was spent. Not heard from: it may have been, so the hold is charged.
            spent = None if exc.kind in ("timeout", "network", "invalid_answer", "truncated") else 0
            tally.tokens += await self._settle(start.call_id, job.attempt, digest, None, spent)
            raise
        finally:
            tally.counts.append(
                Count(
                    "planner_request_duration_seconds",
                    (),
                    asyncio.get_running_loop().time() - began,
                    observe=True,
                )
            )
        self._crash("after_answer")
        tokens = answer.total_tokens if answer.usage_reported else None
        tally.tokens += await self._settle(
            start.call_id, job.attempt, digest, encode_answer(answer).decode(), tokens
        )
        self._crash("after_journal")
        return answer

    async def _settle(
        self, call_id: Any, attempt: int, digest: str, answer: str | None, tokens: int | None
    ) -> int:
        charged = await retried(
            lambda: self._store.end_call(call_id, attempt, digest, answer, tokens)
        )
        self._spent(charged)
        return charged
