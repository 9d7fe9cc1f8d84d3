"""What an agent used over seven days, as bars by mission and by model. Pure."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import msgspec

from state.store.own.glance import ModelUse
from supervisor.gateway.pages import words
from supervisor.gateway.pages.charts import BarChart, bar_chart
from supervisor.gateway.pages.owner.overview import Overview
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

DAYS = 7


class Use(msgspec.Struct, frozen=True):
    """Both charts, None without any use; money in millionths, and calls without a known price."""

    by_mission: BarChart | None
    by_model: BarChart | None
    micros: int
    unpriced: int


def use_of(used: list[ModelUse], overview: Overview, reader: Reader) -> Use:
    """The charts of what an agent used; days are the reader's."""
    _ = translations_of(reader.language).gettext
    by_mission: defaultdict[str, list[int]] = defaultdict(_days)
    by_model: defaultdict[str, list[int]] = defaultdict(_days)
    today = reader.now.astimezone(reader.zone).date()
    for one in used:
        if 0 <= (back := (today - one.day).days) < DAYS:
            by_mission[overview.title(one.mission_id, reader)][DAYS - 1 - back] += one.tokens
            by_model[one.model or _("not known")][DAYS - 1 - back] += one.tokens
    days = [
        words.weekday(reader.now - timedelta(days=back), reader) for back in range(DAYS - 1, -1, -1)
    ]
    return Use(
        bar_chart(_("Tokens by mission, last 7 days"), days, by_mission, _("others"))
        if by_mission
        else None,
        bar_chart(_("Tokens by model, last 7 days"), days, by_model, _("others"))
        if by_model
        else None,
        sum(one.micros for one in used),
        sum(one.unpriced for one in used),
    )


def _days() -> list[int]:
    return [0] * DAYS
