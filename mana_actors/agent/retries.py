"""Calls to the database that outlive its absence; each of them is harmless to repeat."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mana_actors.agent.backoff import backoff_s
from state.store.connect import Superseded, Unavailable

T = TypeVar("T")

_TRIES = 8
_LEAST_S, _MOST_S = 0.05, 5.0


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result, tried again while the database is away; raises Unavailable at last."""
    for attempt in range(_TRIES - 1):
        try:
            return await call()
        except Unavailable:
            chance = secrets.SystemRandom().random()
            await asyncio.sleep(backoff_s(attempt, _LEAST_S, _MOST_S, chance))
    return await call()


async def retried_close(
    close: Callable[[], Awaitable[T]], has_landed: Callable[[], Awaitable[bool]]
) -> T | None:
    """A commit, tried again; one whose reply was lost comes back as superseded although it landed.

    None where it turns out that it had.
    """
    asked = 0

    async def once() -> T | None:
        nonlocal asked
        asked += 1
        try:
            return await close()
        except Superseded:
            if asked > 1 and await has_landed():
                return None
            raise

    return await retried(once)
