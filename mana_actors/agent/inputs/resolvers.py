"""Resolvers that code adds, by module name. Our own modules have `record_texts` instead.

Each turns one input reference into text for the prompt. It reads what the agent's capability shows
it: records of the modules in `state.log.tables` that are inputs of the agent's missions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mana_actors.agent.planner.prompt import ResolvedInput
from state.errors import StateError
from state.log.merge import Change
from state.log.records import InputRef

ReadChanges = Callable[[str, str, str], Awaitable[list[Change]]]
"""(app, table, record id) → the record's log rows, as the capability shows them."""

Resolver = Callable[[ReadChanges, InputRef], Awaitable[ResolvedInput | None]]


def default_resolvers() -> dict[str, Resolver]:
    """The resolvers of a fresh installation: none. Code adds its own to this copy."""
    return {}


async def resolve_inputs(
    resolvers: Mapping[str, Resolver],
    read: ReadChanges,
    inputs: Sequence[InputRef],
    failed: Callable[[InputRef, Exception], None],
) -> dict[InputRef, ResolvedInput]:
    """What the resolvers found, by input; all are asked at once.

    An unknown module, a missing record or a failing resolver drops that input only; errors of the
    database propagate.
    """

    async def one(ref: InputRef) -> ResolvedInput | None:
        resolver = resolvers.get(ref.module)
        if resolver is None:
            return None
        try:
            return await resolver(read, ref)
        except StateError:
            raise
        except Exception as exc:  # noqa: BLE001 - may be a deployment's own: costs its input only
            failed(ref, exc)
            return None

    found = await asyncio.gather(*(one(ref) for ref in inputs))
    return {ref: item for ref, item in zip(inputs, found, strict=True) if item is not None}
