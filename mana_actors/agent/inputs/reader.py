"""What a run reads: its inputs in order, encrypted ones through the key holder (P7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from mana_actors.agent.attempt.attempt import FinalFailure, Job
from mana_actors.agent.inputs.copies import RecordKey
from mana_actors.agent.inputs.resolvers import Resolver, resolve_inputs
from mana_actors.agent.inputs.sealed_inputs import (
    AskForKey,
    CopiesWanted,
    OpenedInputs,
    Unreadable,
    open_sealed,
)
from mana_actors.agent.inputs.sources import Sources, distinct, read_sources
from mana_actors.agent.model.journal import Journal
from mana_actors.agent.planner.prompt import ResolvedInput
from mana_actors.agent.retries import retried
from mana_actors.crash import CrashPoint
from mana_actors.keys.client import HeldKey, KeyHolder, KeyHolderUnreachable, KeyWithheld
from mana_actors.keys.tls import TlsAddress
from mana_actors.messages import Count
from state.log.records import InputRef
from state.rules.exposure import Exposure, lower_of
from state.sealing.copies import KeptCopy
from state.store.agent import (
    AgentStore,
    ReadRecord,
    keys_capability,
    note_outcomes,
    request_copies,
    sealed_copies,
)

OF_THE_GRANT = frozenset({"expired", "malformed", "no-grant", "not-configured", "wrap-rejected"})
"""Refusals that only a new grant or an operator ends; all others pass by themselves."""


class Inputs(msgspec.Struct, frozen=True):
    """What the prompt gets; `is_secret`: some of it was encrypted."""

    items: tuple[ResolvedInput, ...]
    exposure: Exposure
    is_secret: bool
    counts: tuple[Count, ...]


class InputReader:
    """Reads the inputs of one agent's runs, and keeps nothing from one run to the next."""

    def __init__(
        self,
        store: AgentStore,
        key_holder: str | TlsAddress | None,
        resolvers: Mapping[str, Resolver],
        failed: Callable[[InputRef, Exception], None],
        crash: CrashPoint = lambda _point: None,
    ) -> None:
        self._store, self._resolvers, self._failed = store, resolvers, failed
        self._crash = crash
        self._holder = None if key_holder is None else KeyHolder(key_holder)

    @property
    def held_a_key(self) -> bool:
        """True once a data key was here. What it opened may still be in memory."""
        return self._holder is not None and self._holder.has_released

    async def read(
        self,
        job: Job,
        journal: Journal,
        require_room: Callable[[], Awaitable[None]],
    ) -> Inputs:
        """All inputs; raises Unreadable, and KeyHolderUnreachable where it is worth a retry.

        Raises FinalFailure once the run has used up its requests for a key. `journal` is sealed
        before anything is opened; the caller wipes it.
        `require_room` is asked before a key is, so that nothing is decrypted for a run that has no
        tokens left; what it raises comes out of here.
        """
        refs = distinct(job.mission.inputs)
        own = [ref for ref in refs if ref.module in self._resolvers]
        others = [ref for ref in refs if ref.module not in self._resolvers]
        sources = await retried(lambda: read_sources(self._store.input_changes, others))
        ask = partial(self._key, job, journal, require_room)
        opened = await self._opened(job, sources, ask)
        resolved = await resolve_inputs(
            self._resolvers, self._store.input_changes, own, self._failed
        )
        found = resolved | sources.plain | opened.inputs
        return Inputs(
            items=tuple(found[ref] for ref in refs if ref in found),
            exposure=job.exposure
            if opened.exposure is None
            else lower_of(opened.exposure, job.exposure),
            is_secret=bool(opened.inputs),
            counts=opened.counts,
        )

    async def _opened(self, job: Job, sources: Sources, ask: AskForKey) -> OpenedInputs:
        """Open the sealed inputs with the store's copies and audit; say what a refusal means."""

        async def copies(wanted: Sequence[InputRef]) -> Mapping[RecordKey, KeptCopy]:
            mission = job.occurrence.user_id, job.occurrence.mission_id
            return await retried(lambda: sealed_copies(self._store, *mission, wanted))

        async def note(held: HeldKey, records: Sequence[ReadRecord]) -> None:
            self._crash("after_decrypt")
            if records:
                iteration = job.occurrence.iteration_id
                await retried(
                    lambda: note_outcomes(self._store, held.release_id, iteration, records)
                )
            self._crash("after_audit")

        try:
            return await open_sealed(sources, job.mission.grant, copies, ask, note)
        except CopiesWanted as exc:
            answer = await retried(lambda: request_copies(self._store, job.run_id, job.attempt))
            raise CopiesWanted(exc.lacking, answer, exc.counts) from None
        except KeyWithheld as exc:
            if exc.reason == "too-many":  # no attempt of this run will ever get one
                raise FinalFailure(
                    exc.reason, "it asked for the key of its grant too often"
                ) from None
            if exc.reason not in OF_THE_GRANT:
                raise KeyHolderUnreachable(exc.reason) from None
            raise Unreadable(exc.reason, f"its grant cannot be used: {exc.reason}") from None

    @asynccontextmanager
    async def _key(
        self, job: Job, journal: Journal, require_room: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[HeldKey]:
        if self._holder is None:
            raise KeyWithheld("not-configured")
        await require_room()
        capability = await retried(lambda: keys_capability(self._store, job.run_id, job.attempt))
        asked = job.run_id, job.attempt, job.occurrence.mission_id
        async with self._holder.data_key(capability, *asked) as held:
            self._crash("after_key")
            journal.seal(held.key, job.run_id)
            yield held
