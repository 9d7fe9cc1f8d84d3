"""What a bench found: a figure, what it was measured beside in the same run, and the target."""

import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

Say = Callable[[str], None]
"""Shows how far a bench is."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table; `value` and `other` are in the same unit, `ratio` is their quotient.

    `low` and `high` are the extremes of which `value` is the median.
    """

    name: str
    value: float
    unit: str
    beside: str = ""
    other: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    low: float | None = None
    high: float | None = None


def median(values: Sequence[float]) -> float:
    """The middle value; a shared machine makes some of them long."""
    return statistics.median(values)


def in_five(name: str, values: Sequence[float], unit: str, **more: Any) -> Figure:
    """The median of some rounds and how far they spread."""
    low, high = min(values), max(values)
    return Figure(name=name, value=median(values), unit=unit, low=low, high=high, **more)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (above 0, up to 1) of all do not exceed."""
    ranked = sorted(values)
    return ranked[math.ceil(share * len(ranked)) - 1]


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """How many milliseconds it took."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def side_by_side(
    works: Sequence[Callable[[], Awaitable[object]]], times: int, warm_up: int = 5
) -> list[float]:
    """The median milliseconds of each, taken in turns so that noise meets all alike."""
    for work in works:
        for _ in range(warm_up):
            await work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for place, work in enumerate(works):
            taken[place].append(await timed(work))
    return [median(one) for one in taken]
