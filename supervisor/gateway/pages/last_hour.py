"""The last hour above the fleet: a number and a small chart each, and all of it as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from supervisor.gateway.pages.charts import Sparkline, sparkline
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.pages.words import CALM_LAG_S, lag_said, number
from supervisor.health.last_hour import HourTold, MinuteCounts


class HourFact(msgspec.Struct, frozen=True):
    """One of its measures: of the last minute that is over, and of all that were watched."""

    name: str
    latest: str
    whole: str
    spark: Sparkline


class HourRow(msgspec.Struct, frozen=True):
    """A minute of the table."""

    at: datetime
    numbers: tuple[str, ...]


class HourShown(msgspec.Struct, frozen=True):
    """Nothing but `since` until a minute is over."""

    since: datetime | None
    facts: list[HourFact]
    rows: list[HourRow]


def hour_shown(hour: HourTold, reader: Reader) -> HourShown:
    """What a page draws of it."""
    if hour.latest is None:
        return HourShown(hour.since, [], [])
    _ = translations_of(reader.language).gettext
    whole = hour.whole or hour.latest
    names = {
        _("runs a minute"): "ran",
        _("failed a minute"): "failed",
        _("wakes a minute"): "woken",
        _("tokens a minute"): "tokens",
    }
    facts = [
        HourFact(
            name,
            number(getattr(hour.latest, field), reader),
            _("%(count)s in all") % {"count": number(getattr(whole, field), reader)},
            sparkline([getattr(one, field) for one in hour.minutes], name),
        )
        for name, field in names.items()
    ]
    lags = [one.lag_s or 0.0 for one in hour.minutes]
    calm = [0.0 if lag < CALM_LAG_S else lag for lag in lags]
    most = _("%(long)s at most") % {"long": lag_said(whole.lag_s, reader)}
    name = _("fold lag")
    facts.append(HourFact(name, lag_said(hour.latest.lag_s, reader), most, sparkline(calm, name)))
    return HourShown(hour.since, facts, [_row(one, reader) for one in reversed(hour.minutes)])


def _row(one: MinuteCounts, reader: Reader) -> HourRow:
    counts = one.ran, one.failed, one.woken, one.tokens
    numbers = (*(number(count, reader) for count in counts), lag_said(one.lag_s, reader))
    return HourRow(datetime.fromtimestamp(one.at, UTC), numbers)
