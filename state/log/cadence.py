"""When a mission runs next: wall-clock times in the owner's zone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec

from state.log.stamps import whole_ms


class Manual(msgspec.Struct, frozen=True):
    """Runs only when asked."""


class Interval(msgspec.Struct, frozen=True):
    """Runs `every_minutes` (finite, at least 1) after the last completion."""

    every_minutes: float


class Daily(msgspec.Struct, frozen=True):
    """Runs at a local time of day, hour 0-23 and minute 0-59."""

    at_hour: int
    at_minute: int


class Weekly(msgspec.Struct, frozen=True):
    """Runs at a full local hour, 0-23, of one weekday, 0-6 from Sunday."""

    day_of_week: int
    at_hour: int


Cadence = Manual | Interval | Daily | Weekly

_MAX_DAYS_AHEAD = 3  # a zone that skips a whole day still has its next one by then


def parse_cadence(raw: object) -> Cadence | str:
    """The cadence a record holds, or the problem that leaves it unscheduled, naming the field."""
    if not isinstance(raw, dict):
        return "cadence: missing" if raw is None else "cadence: not an object"
    fields = cast("dict[str, Any]", raw)
    match fields.get("kind"):
        case "manual":
            return Manual()
        case "interval":
            return _interval(fields.get("everyMinutes"))
        case "daily":
            numbers = _whole(fields, atHour=23, atMinute=59)
            return numbers if isinstance(numbers, str) else Daily(*numbers)
        case "weekly":
            numbers = _whole(fields, dayOfWeek=6, atHour=23)
            return numbers if isinstance(numbers, str) else Weekly(*numbers)
        case "cron":
            return "cadence.kind: cron is not supported, the mission is never scheduled"
        case _:
            return "cadence.kind: unknown, the mission is never scheduled"


def next_run(cadence: Cadence, from_: datetime, zone: ZoneInfo) -> datetime | None:
    """The first due time (UTC, whole ms) strictly after the aware `from_`; None: there is none."""
    try:
        match cadence:
            case Manual():
                return None
            case Interval(every_minutes=minutes):
                return whole_ms(from_.astimezone(UTC) + timedelta(minutes=minutes))
            case Daily(at_hour=hour, at_minute=minute):
                return _next_local(time(hour, minute), range(_MAX_DAYS_AHEAD), from_, zone)
            case Weekly(day_of_week=day, at_hour=hour):
                ahead = (day - from_.astimezone(zone).isoweekday()) % 7
                return _next_local(time(hour), (ahead, ahead + 7, ahead + 14), from_, zone)
    except OverflowError:  # beyond the year 9999
        return None


def _next_local(
    at: time, days: range | tuple[int, ...], from_: datetime, zone: ZoneInfo
) -> datetime | None:
    """The first moment after `from_` that is `at` on one of `days`, counted from its local day."""
    today = from_.astimezone(zone).date()
    for ahead in days:
        # fold=0: a doubled time is its first occurrence, a missing one moves forward by the gap.
        moment = datetime.combine(today + timedelta(days=ahead), at, zone).astimezone(UTC)
        if moment > from_:
            return moment
    return None


def _interval(raw: object) -> Cadence | str:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return "cadence.everyMinutes: not a number"
    try:
        minutes = float(raw)
    except OverflowError:
        minutes = math.inf
    if not math.isfinite(minutes) or minutes < 1:
        return "cadence.everyMinutes: must be finite and at least 1"
    return Interval(minutes)


def _whole(fields: Mapping[str, Any], **highest: int) -> list[int] | str:
    """These fields as whole numbers from 0 to their highest, or the first problem."""
    numbers: list[int] = []
    for name, most in highest.items():
        raw = fields.get(name)
        if isinstance(raw, bool) or not isinstance(raw, int | float) or raw not in range(most + 1):
            least = "0 (Sunday)" if name == "dayOfWeek" else "0"
            return f"cadence.{name}: must be a whole number from {least} to {most}"
        numbers.append(int(raw))
    return numbers
