"""What `/design` shows: an example of every part, so that one look finds what is off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mana_actors.agent.planner.prompt_parts import PARTS
from state.log.cadence import Cron, Daily, Interval, Manual, Weekly
from supervisor.gateway.pages.charts import bar_chart, gauge, sparkline
from supervisor.gateway.pages.owner.parts.context import context_shown
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.words import SHAPES, weekday

PROMPT = dict(zip(PARTS, (700, 300, 4300, 250, 2100, 900, 1200, 80), strict=True))
WEEK = (4200, 8100, 0, 12400, 6900, 3100, 9800)


def design_values(reader: Reader) -> dict[str, Any]:
    """The values of the template."""
    days = [weekday(reader.now - timedelta(days=back), reader) for back in range(6, -1, -1)]
    half = tuple(count // 3 for count in WEEK)
    return {
        "states": sorted(SHAPES),
        "gauges": [gauge(50_000, 12_400, 6_000, "12.4k"), gauge(50_000, 50_000, 0, "50k")],
        "chart": bar_chart("Tokens", days, {"Plan my week": WEEK, "Cashflow": half}, "others"),
        "prompt": context_shown(1, {**PROMPT}, [], reader),
        "spark_line": sparkline(WEEK, "Tokens"),
        "instants": [reader.now + timedelta(hours=hours) for hours in (-5000, -50, -3, 0, 2, 30)],
        "cadences": [
            Manual(),
            Interval(30),
            Interval(120),
            Daily(7, 0),
            Weekly(1, 7),
            Cron("15 7 * * 1,4"),
            Cron("0 8 * * 1-5"),
            Cron("*/5 * 1 * *"),
        ],
    }
