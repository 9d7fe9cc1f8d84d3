"""Resolvers by module name: each turns one input reference into text for the prompt (tick §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mana_actors.agent.inputs.goals import goal_text
from mana_actors.agent.planner.prompt import ResolvedInput
from state import merge
from state.input_apps import INPUT_APPS
from state.merge import Change
from state.records import InputRef

ReadChanges = Callable[[str, str, str], Awaitable[list[Change]]]
"""(app, table, record id) → the record's log rows, as the capability shows them."""

Resolver = Callable[[ReadChanges, InputRef], Awaitable[ResolvedInput | None]]


async def resolve_goal(read: ReadChanges, ref: InputRef) -> ResolvedInput | None:
    """A goal's progress; goals are never encrypted."""
    snapshot = merge.fold(None, await read(INPUT_APPS["goals"], ref.table, ref.id))
    if merge.hidden(snapshot):
        return None
    title, content = goal_text(snapshot.fields)
    return ResolvedInput(ref.id, ref.module, ref.table, title, content)


def default_resolvers() -> dict[str, Resolver]:
    """The resolvers that ship; a deployment adds its own to a copy."""
    return {"goals": resolve_goal}


async def resolve_inputs(
    resolvers: Mapping[str, Resolver],
    read: ReadChanges,
    inputs: Sequence[InputRef],
    failed: Callable[[InputRef, Exception], None],
) -> tuple[ResolvedInput, ...]:
    """All inputs at once, order kept.

    An unknown module, a missing record or a failing resolver drops that input only.
    """

    async def one(ref: InputRef) -> ResolvedInput | None:
        resolver = resolvers.get(ref.module)
        if resolver is None:
            return None
        try:
            return await resolver(read, ref)
        except Exception as exc:  # noqa: BLE001 - may be a deployment's own: costs its input only
            failed(ref, exc)
            return None

    found = await asyncio.gather(*(one(ref) for ref in inputs))
    return tuple(item for item in found if item is not None)
