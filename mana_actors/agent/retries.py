"""Trying again: how long to wait, and calls to the database that outlive its absence."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from state.store.connect import Unavailable

T = TypeVar("T")

_TRIES = 8
_LEAST_S, _MOST_S = 0.05, 5.0


def backoff_s(
    failures: int, least_s: float, most_s: float, chance: float, asked_s: float | None = None
) -> float:
    """Capped exponential delay in seconds after `failures` earlier ones, jittered above half.

    `chance` is a random number in [0, 1); `asked_s` is what a provider asked for (Retry-After):
    never sooner, but capped.
    """
    ceiling = min(most_s, least_s * 2 ** min(failures, 30))
    delay = ceiling * (0.5 + chance / 2)
    return min(max(delay, asked_s or 0.0), most_s) if most_s > 0 else 0.0


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result, asked for again while the database is away; raises Unavailable at last.

    The call has to be one that is harmless to repeat.
    """
    for attempt in range(_TRIES - 1):
        try:
            return await call()
        except Unavailable:
            chance = secrets.SystemRandom().random()
            await asyncio.sleep(backoff_s(attempt, _LEAST_S, _MOST_S, chance))
    return await call()
