"""What a run reads: its inputs in order, encrypted ones through the key holder (P7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from mana_actors.agent.inputs.granted import (
    Opened,
    Unreadable,
    distinct,
    open_granted,
    read_sources,
)
from mana_actors.agent.inputs.registry import Resolver, resolve_inputs
from mana_actors.agent.job import Job
from mana_actors.agent.persisting import retried
from mana_actors.agent.planner.prompt import ResolvedInput
from mana_actors.keys.client import HeldKey, KeyHolder
from mana_actors.keys.errors import KeyHolderUnreachable, KeyWithheld
from mana_actors.messages import Count
from state.consent import Exposure, lower_of
from state.records import InputRef
from state.store.agents import AgentStore
from state.store.audit import ReadRecord, keys_capability, note_outcomes
from state.store.copies import sealed_copies

OF_THE_GRANT = frozenset({"expired", "malformed", "no-grant", "not-configured", "wrap-rejected"})
"""Refusals that a new grant, or an operator, ends; all others pass by themselves."""


class Inputs(msgspec.Struct, frozen=True):
    """What the prompt gets; `is_secret`: some of it was encrypted."""

    items: tuple[ResolvedInput, ...]
    exposure: Exposure
    is_secret: bool
    counts: tuple[Count, ...]


class InputReader:
    """Reads the inputs of one agent's runs; keeps nothing of any."""

    def __init__(
        self,
        store: AgentStore,
        key_socket: str | None,
        resolvers: Mapping[str, Resolver],
        failed: Callable[[InputRef, Exception], None],
    ) -> None:
        self._store, self._resolvers, self._failed = store, resolvers, failed
        self._holder = None if key_socket is None else KeyHolder(key_socket)

    async def read(
        self, job: Job, iteration_id: str, require_room: Callable[[], Awaitable[None]]
    ) -> Inputs:
        """All inputs; raises Unreadable, and KeyHolderUnreachable where it is worth a retry.

        `require_room` is asked before a key is: what it raises comes out of here (D-39).
        """
        refs = distinct(job.mission.inputs)
        own = [ref for ref in refs if ref.module in self._resolvers]
        others = [ref for ref in refs if ref.module not in self._resolvers]
        sources = await retried(lambda: read_sources(self._store.input_changes, others))
        opened = await self._opened(job, sources.sealed, iteration_id, require_room)
        shown = await resolve_inputs(self._resolvers, self._store.input_changes, own, self._failed)
        found = shown | sources.plain | opened.inputs
        return Inputs(
            tuple(found[ref] for ref in refs if ref in found),
            job.exposure if opened.exposure is None else lower_of(opened.exposure, job.exposure),
            bool(opened.inputs),
            opened.counts,
        )

    async def _opened(
        self,
        job: Job,
        refs: Sequence[InputRef],
        iteration_id: str,
        require_room: Callable[[], Awaitable[None]],
    ) -> Opened:
        async def copies(wanted: Sequence[InputRef]) -> Mapping[tuple[str, str], dict[str, Any]]:
            mission = job.run.user_id, job.run.mission_id
            return await retried(lambda: sealed_copies(self._store, *mission, wanted))

        async def note(held: HeldKey, records: Sequence[ReadRecord]) -> None:
            if records:
                await retried(
                    lambda: note_outcomes(self._store, held.release_id, iteration_id, records)
                )

        try:
            ask = partial(self._key, job, require_room)
            return await open_granted(refs, job.mission.grant, copies, ask, note)
        except KeyWithheld as exc:
            if exc.reason not in OF_THE_GRANT:
                raise KeyHolderUnreachable(exc.reason) from None
            raise Unreadable(exc.reason, f"its grant cannot be used: {exc.reason}") from None

    @asynccontextmanager
    async def _key(
        self, job: Job, require_room: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[HeldKey]:
        if self._holder is None:
            raise KeyWithheld("not-configured")
        await require_room()
        capability = await retried(lambda: keys_capability(self._store, job.run_id, job.attempt))
        asked = job.run_id, job.attempt, job.run.mission_id
        async with self._holder.data_key(capability, *asked) as held:
            yield held
