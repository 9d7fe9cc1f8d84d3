"""What a run reads: its inputs in order, encrypted ones through the key holder (P7)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from mana_actors.agent.attempt.job import FinalFailure, Job
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.attempt.plan import plan_input, tools_of
from mana_actors.agent.inputs.resolvers import resolve_inputs
from mana_actors.agent.inputs.sealed_inputs import (
    CopiesWanted,
    Unreadable,
    open_sealed,
)
from mana_actors.agent.inputs.sources import distinct, read_sources
from mana_actors.agent.model.calls import ModelCalls
from mana_actors.agent.planner.loop import opening
from mana_actors.agent.planner.prompt import ResolvedInput, loop_input
from mana_actors.keys.client import HeldKey, KeyHolderUnreachable, KeyWithheld
from mana_actors.messages import Count
from state.log.merge import Change
from state.log.records import InputRef
from state.rules.exposure import Exposure, lower_of
from state.runs.reason_words import ReasonCode
from state.runs.reasons import told
from state.store.agent import (
    ReadRecord,
    keys_capability,
    note_outcomes,
    request_copies,
    sealed_copies,
)

log = logging.getLogger("mana.run")

OF_THE_GRANT: dict[str, ReasonCode] = {
    "expired": "grant-expired",
    "malformed": "grant-malformed",
    "no-grant": "grant-gone",
    "not-configured": "grant-not-configured",
    "wrap-rejected": "grant-rejected",
}
"""Refusals that only a new grant or an operator ends; all others pass by themselves."""


class Inputs(msgspec.Struct, frozen=True):
    """What the prompt gets; `is_secret`: some of it was encrypted."""

    items: tuple[ResolvedInput, ...]
    exposure: Exposure
    is_secret: bool
    counts: tuple[Count, ...]


class InputReader:
    """Reads the inputs of one claimed run; its journal is sealed before anything is opened."""

    def __init__(self, means: Means, job: Job, calls: ModelCalls) -> None:
        self._means, self._job, self._calls = means, job, calls

    async def read(self) -> Inputs:
        """All inputs; raises Unreadable, and KeyHolderUnreachable where it is worth a retry.

        Raises FinalFailure once the run has used up its requests for a key, and BudgetExhausted
        where it has no tokens left for what would be decrypted.
        """
        job, store, resolvers = self._job, self._means.store, self._means.resolvers
        refs = distinct(job.mission.inputs)
        own = [ref for ref in refs if ref.module in resolvers]
        others = [ref for ref in refs if ref.module not in resolvers]
        sources = await read_sources(self._changes, others)
        try:
            copies = partial(sealed_copies, self._means.store, self._means.user_id, job.mission.id)
            opened = await open_sealed(sources, job.mission.grant, copies, self._key, self._note)
        except CopiesWanted as exc:
            answer = await request_copies(store, job.run_id, job.attempt)
            raise CopiesWanted(exc.lacking, answer, exc.counts) from None
        except KeyWithheld as exc:
            if exc.reason == "too-many":  # no attempt of this run will ever get one
                raise FinalFailure(exc.reason, told("key-too-often")) from None
            if exc.reason not in OF_THE_GRANT:
                raise KeyHolderUnreachable(exc.reason) from None
            raise Unreadable(exc.reason, told(OF_THE_GRANT[exc.reason])) from None
        resolved = await resolve_inputs(resolvers, self._changes, own, self._failed)
        found = resolved | sources.plain | opened.inputs
        return Inputs(
            items=tuple(found[ref] for ref in refs if ref in found),
            exposure=job.exposure
            if opened.exposure is None
            else lower_of(opened.exposure, job.exposure),
            is_secret=bool(opened.inputs),
            counts=opened.counts,
        )

    async def _changes(self, app: str, table: str, id_: str) -> list[Change]:
        """The rows of a record: as they came with the claim, else read now."""
        claimed = self._job.inputs.get((app, table, id_))
        return (
            await self._means.store.input_changes(app, table, id_) if claimed is None else claimed
        )

    @asynccontextmanager
    async def _key(self) -> AsyncGenerator[HeldKey]:
        means, job = self._means, self._job
        if means.key_holder is None:
            raise KeyWithheld("not-configured")
        # A key is asked for only where a model call can follow, be it without inputs.
        tools = tools_of(
            job,
            (),
            means.store,
            means.settings,
            saw=lambda _sighting: None,
            before=self._calls.settle,
        )
        model = await means.provider.facts(means.settings.model, self._calls.exposure)
        least = plan_input(job, (), tools, means.settings, model.context_tokens)
        await self._calls.require_room(opening(loop_input(least)))
        capability = await keys_capability(means.store, job.run_id, job.attempt)
        asked = job.run_id, job.attempt, job.mission.id
        async with means.key_holder.data_key(capability, *asked) as held:
            means.crash("after_key")
            self._calls.journal.seal(held.key, job.run_id)
            yield held

    async def _note(self, held: HeldKey, records: Sequence[ReadRecord]) -> None:
        """Write the audit of what was opened."""
        self._means.crash("after_decrypt")
        if records:
            id_ = self._job.occurrence.iteration_id
            await note_outcomes(self._means.store, held.release_id, id_, records)
        self._means.crash("after_audit")

    def _failed(self, ref: InputRef, exc: Exception) -> None:
        log.warning(
            "input_not_resolved agent=%s/%s module=%s error=%s",
            self._means.user_id,
            self._means.agent_id,
            ref.module,
            type(exc).__name__,
        )
