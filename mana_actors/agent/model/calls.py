"""The model calls of one attempt, with their price: a hold before, answer and usage after."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from mana_actors.agent.attempt.job import Job, Tally
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.model.charges import charge_of_answer, charge_of_failure
from mana_actors.agent.model.journal import Journal
from mana_actors.agent.model.receipt import Receipt
from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest
from mana_actors.errors import BudgetExhausted, ProviderError, ProviderRefused
from mana_actors.llm.failures.cause import Lack
from mana_actors.llm.provider import AliasFacts
from mana_actors.messages import Count
from state.errors import StateError
from state.rules.budgets import Hold, Shortfall, cost_micros, hold_size
from state.rules.exposure import Exposure
from state.store.agent import CallStart, Unsettled

log = logging.getLogger("mana.run")


class ModelCalls:
    """Asks the model within the owner's budget, one call at a time.

    An answer is `unsettled` until the database has its price: it goes along with what ends the run,
    unless something else comes first. `short` is the hold that had no room last, and why.
    `exposure` may be lowered while it lasts.
    """

    def __init__(self, means: Means, job: Job, tally: Tally) -> None:
        self._means, self._job, self._tally = means, job, tally
        self.exposure: Exposure = job.exposure
        self.journal, self.receipt = Journal(), Receipt()
        self.short: tuple[Hold, Shortfall] | None = None
        self.unsettled: Unsettled | None = None
        self._held = 0  # tokens, for the call that is unsettled
        self._noted = "{}"  # who answered it, and which tools that called
        self._settling = asyncio.Lock()

    @property
    def _deadline_s(self) -> float:
        """After so long a hold that nobody settled is charged whole."""
        return self._means.settings.call_deadline_s + 30.0

    async def ask(self, request: ModelRequest, number: int) -> ModelAnswer:
        """The answer; one to the same request that is in the journal is free.

        Raises BudgetExhausted where the call has no room, and ProviderError; a prompt that is too
        long for every model is known before anything is spent.
        """
        await self.settle()
        means, job = self._means, self._job
        facts = await means.provider.facts(request.model, self.exposure)
        require_context(request, facts)
        hold, digest = self._hold_for(request, facts), self.journal.digest(request)
        start = await self._begun(number, digest, hold)
        if start.outcome == "journaled" and start.answer is not None:
            kept = self.journal.read(digest, start.answer)
            if kept is not None:
                charge = charge_of_answer(kept, hold, facts)
                self.receipt.answered(number, request, kept, charge.of(hold))
                return kept
            # What was kept is damaged. It is asked again, within the caps and never in silence;
            # the new answer takes its place under the digest of the request.
            self._tally.counts.append(Count("journal_unreadable_total"))
            log.warning("journal_unreadable run=%s call=%s", job.run_id, number)
            start = await self._begun(number, f"{digest}:anew", hold)
        if start.outcome != "go":
            raise self._refused(hold, start)
        means.crash("after_hold")
        self._tally.model_calls += 1
        self._held, self._noted = hold.tokens, "{}"
        means.recall.holds(str(start.call_id), hold.tokens, self._deadline_s)
        call = Unsettled(start.call_id, job.attempt, digest)
        began = asyncio.get_running_loop().time()
        try:
            means.crash("before_model_call")
            answer = await means.provider.complete(
                request, deadline_s=means.settings.call_deadline_s, exposure=self.exposure
            )
        except asyncio.CancelledError:  # stopped: what the provider did of it, nobody hears
            self.unsettled = call
            self.receipt.failed(number, job.attempt, "unknown", hold.tokens)
            raise
        except ProviderError as exc:
            charge = charge_of_failure(exc, hold)
            self.unsettled = msgspec.structs.replace(
                call, tokens=charge.tokens, micros=charge.micros
            )
            self.receipt.failed(number, job.attempt, exc.provider, charge.of(hold))
            raise
        finally:
            took_s = asyncio.get_running_loop().time() - began
            self._tally.counts.append(
                Count("planner_request_duration_seconds", (), took_s, observe=True)
            )
        means.crash("after_answer")
        charge = charge_of_answer(answer, hold, facts)
        self.unsettled = msgspec.structs.replace(
            call,
            answer=self.journal.written(digest, answer),
            tokens=charge.tokens,
            micros=charge.micros,
        )
        self.receipt.answered(number, request, answer, charge.of(hold), round(took_s * 1000))
        self._noted = self.receipt.of_call(number)
        if job.lost > 0:
            await self.settle()  # one that ends its reader is paid for once, and kept
        return answer

    async def settle(self) -> None:
        """Make the last answer and its price durable, if nothing has yet.

        It comes before what an answer causes, and before the next call.
        """
        async with self._settling:  # readers of one turn start together
            if self.unsettled is not None:
                self._means.crash("before_settle")
                self.settled(await self._means.store.end_call(self.unsettled, self._noted))
                self._means.crash("after_journal")

    def settled(self, charged: int | None) -> None:
        """The database charged this for the answer that was unsettled; None: it had none."""
        call, self.unsettled = self.unsettled, None
        if charged is not None and call is not None:
            if charged > self._held:
                self._tally.counts.append(Count("calls_above_hold_total"))
            self._tally.tokens += charged
            self._means.recall.charged(str(call.call_id), charged)

    async def require_room(self, request: ModelRequest) -> None:
        """Raises BudgetExhausted where a run without answers has no room even for `request`."""
        facts = await self._means.provider.facts(request.model, self.exposure)
        hold, job = self._hold_for(request, facts), self._job
        found = await self._means.store.room_for_call(job.run_id, job.attempt, hold)
        if found.outcome != "go":
            raise self._refused(hold, found)

    def _hold_for(self, request: ModelRequest, facts: AliasFacts) -> Hold:
        """The most this call may cost."""
        per_token = facts.bytes_per_token or self._means.settings.bytes_per_token
        tokens = hold_size(len(request.raw), request.max_output, per_token)
        micros = cost_micros(
            tokens - request.max_output,
            request.max_output,
            facts.micros_per_prompt_token,
            facts.micros_per_completion_token,
        )
        return Hold(tokens, micros)

    async def _begun(self, number: int, digest: str, hold: Hold) -> CallStart:
        """The call's hold, or its answer in the journal; heard to its end though it is stopped.

        A hold that nobody knows of would be charged whole at its deadline, for no call at all.
        """
        job = self._job
        beginning = asyncio.ensure_future(
            self._means.store.begin_call(
                job.run_id,
                job.attempt,
                number,
                digest,
                hold=hold,
                deadline_ms=int(self._deadline_s * 1000),
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with suppress(StateError):
                start = await beginning
                if start.outcome == "go":
                    self.unsettled = Unsettled(start.call_id, job.attempt, digest, tokens=0)
            raise

    def _refused(self, hold: Hold, start: CallStart) -> BudgetExhausted:
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
        self.short = hold, no
        left = max(0, (start.cap or 0) - (start.used or 0) - (start.held or 0))
        return BudgetExhausted(self._means.agent_id, no.asked, left)


def require_context(request: ModelRequest, facts: AliasFacts) -> None:
    """Raises ProviderRefused where no entry has room for the prompt: nothing is held or sent."""
    size = len(request.raw)
    if facts.longest_prompt_bytes and size > facts.longest_prompt_bytes:
        limit = facts.largest_context_tokens
        raise ProviderRefused(
            "capability",
            400,
            None,
            "context_length_exceeded",
            cause="too_long",
            lack=Lack("context", limit=limit, asked=facts.tokens_of(size)),
        )
