"""Charts as numbers that a template draws: no script, no inline style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log10

import msgspec

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 150, 44, 8, 24
MOST_SERIES = 5


class Gauge(msgspec.Struct, frozen=True):
    """How much of a whole is used and held, in hundredths of its width."""

    used: float
    held: float
    is_full: bool
    label: str


class Bar(msgspec.Struct, frozen=True):
    """A rectangle; `colour` counts the series."""

    x: float
    y: float
    width: float
    height: float
    colour: int = 0
    label: str = ""


class AxisLine(msgspec.Struct, frozen=True):
    """A line across, and the number it stands for."""

    y: float
    label: str


class AxisLabel(msgspec.Struct, frozen=True):
    """A text under a bar."""

    x: float
    text: str


class ChartRow(msgspec.Struct, frozen=True):
    """The numbers of one day, series by series."""

    day: str
    counts: list[int]


class BarChart(msgspec.Struct, frozen=True, kw_only=True):
    """Stacked bars with an axis, and the rows of the table beside it."""

    title: str
    names: list[str]
    bars: list[Bar]
    lines: list[AxisLine]
    labels: list[AxisLabel]
    rows: list[ChartRow]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


class Sparkline(msgspec.Struct, frozen=True):
    """A line of small bars, 72 by 18, as one path: a page has hundreds of them."""

    path: str
    label: str


def gauge(cap: int, used: int, held: int, label: str) -> Gauge:
    """What is used and held of a cap; more than all of it is all of it."""
    share = min(100.0, 100 * used / cap) if cap else 100.0
    beside = min(100.0 - share, 100 * held / cap) if cap else 0.0
    return Gauge(round(share, 2), round(beside, 2), used + held >= cap, label)


def bar_chart(
    title: str, days: Sequence[str], series: Mapping[str, Sequence[int]], others: str
) -> BarChart:
    """Each day's numbers on top of each other, the largest series first; many become `others`."""
    ranked = sorted(series.items(), key=lambda one: -sum(one[1]))
    kept = dict(ranked[:MOST_SERIES] if len(ranked) <= MOST_SERIES else ranked[: MOST_SERIES - 1])
    if len(ranked) > MOST_SERIES:
        rest = [counts for _, counts in ranked[MOST_SERIES - 1 :]]
        kept[others] = [sum(column) for column in zip(*rest, strict=True)]
    rows = [ChartRow(day, [counts[at] for counts in kept.values()]) for at, day in enumerate(days)]
    top = _round_up(max((sum(row.counts) for row in rows), default=0))
    floor, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT) / max(1, len(days))
    bars: list[Bar] = []
    for at, row in enumerate(rows):
        y = float(floor)
        for colour, (name, count) in enumerate(zip(kept, row.counts, strict=True)):
            height = round(room * count / top, 1)
            y = round(y - height, 1)
            if count:
                x = round(LEFT + step * (at + 0.2), 1)
                label = f"{row.day}: {name} {count:,}"
                bars.append(Bar(x, y, round(step * 0.6, 1), height, colour, label=label))
    return BarChart(
        title=title,
        names=list(kept),
        bars=bars,
        lines=[
            AxisLine(round(floor - room * part, 1), short(int(top * part))) for part in (0, 0.5, 1)
        ],
        labels=[AxisLabel(round(LEFT + step * (at + 0.5), 1), day) for at, day in enumerate(days)],
        rows=rows,
    )


def sparkline(counts: Sequence[float], label: str) -> Sparkline:
    """Each number as a small bar, the largest as high as there is room; many stand closer."""
    top, step = max(1, *counts), 72 / max(1, len(counts))
    width = step - 2 if step > 4 else step * 0.75
    heights = [max(1.0, round(18 * count / top, 1)) for count in counts]
    bars = (
        f"M{round(at * step, 1):g} 18v-{height:g}h{round(width, 1):g}v{height:g}z"
        for at, height in enumerate(heights)
    )
    return Sparkline("".join(bars), label)


def short(count: int) -> str:
    """A number on an axis: `12k`."""
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g}{sign}"
    return str(count)


def _round_up(most: int) -> int:
    """The next number that reads well: 1, 2 or 5 with zeros."""
    if most <= 10:
        return 10
    size = 10 ** int(log10(most))
    return next(step * size for step in (1, 2, 5, 10) if step * size >= ceil(most))
