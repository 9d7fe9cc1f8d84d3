"""When a mission runs next: wall-clock times in the owner's zone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

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


class Cron(msgspec.Struct, frozen=True):
    """Runs at every local minute that five cron fields match."""

    expression: str


Cadence = Manual | Interval | Daily | Weekly | Cron

MAX_CRON_CHARS = 200
_CRON_FIELDS = 5
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a local time, as cron fields are
_DAY = timedelta(days=1)
_DAYS = (-1, 0, 1, 2)
"""Counted from today: a gap at midnight moves yesterday's time to today (Nuuk, 2024-03-30 23:30),
and a zone that skips a whole day has its next one by the last."""


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
            return _cron(fields.get("expression"))
        case _:
            return "cadence.kind: unknown, so it runs only when asked"


def next_run(cadence: Cadence, from_: datetime, zone: ZoneInfo) -> datetime | None:
    """The first due time (UTC, whole ms) strictly after the aware `from_`; None: there is none."""
    try:
        match cadence:
            case Manual():
                return None
            case Interval(every_minutes=minutes):
                return whole_ms(from_.astimezone(UTC) + timedelta(minutes=minutes))
            case Daily(at_hour=hour, at_minute=minute):
                return _next_local(time(hour, minute), _DAYS, from_, zone)
            case Weekly(day_of_week=day, at_hour=hour):
                ahead = (day - from_.astimezone(zone).isoweekday()) % 7
                days = (ahead - 7, ahead, ahead + 7, ahead + 14)
                return _next_local(time(hour), days, from_, zone)
            case Cron(expression=expression):
                return _next_match(expression, from_, zone)
    except OverflowError:  # beyond the year 9999
        return None


def next_runs(cadence: Cadence, from_: datetime, zone: ZoneInfo, most: int) -> list[datetime]:
    """The first due times after `from_`, as if each run ended the moment it fell due."""
    found: list[datetime] = []
    following = next_run(cadence, from_, zone)
    while following is not None and len(found) < most:
        found.append(following)
        following = next_run(cadence, following, zone)
    return found


def _next_local(
    at: time, days: tuple[int, ...], from_: datetime, zone: ZoneInfo
) -> datetime | None:
    """The first moment after `from_` that is `at` on one of `days`, counted from its local day."""
    today = from_.astimezone(zone).date()
    for ahead in days:
        # fold=0: a doubled time is its first occurrence, a missing one moves forward by the gap.
        moment = datetime.combine(today + timedelta(days=ahead), at, zone).astimezone(UTC)
        if moment > from_:
            return moment
    return None


def _next_match(expression: str, from_: datetime, zone: ZoneInfo) -> datetime | None:
    """The earliest moment after `from_` of the local minutes that match, as `_next_local` says.

    The library knows which local times match; what a clock change makes of them is said here. A
    time that a gap skips comes later than some that follow it on the clock, so those are looked at
    too, and after a gap the clock times before it that it moved behind us.
    """
    local = from_.astimezone(zone)
    now, before = local.utcoffset(), (from_ - _DAY).astimezone(zone).utcoffset()
    gained = max(timedelta(0), (now or timedelta(0)) - (before or timedelta(0)))
    found: datetime | None = None
    for wanted in CronSim(expression, local.replace(tzinfo=None, fold=0) - gained):
        if found is not None and wanted >= found.astimezone(zone).replace(tzinfo=None):
            return found
        moment = wanted.replace(tzinfo=zone).astimezone(UTC)
        if moment > from_:
            found = moment if found is None else min(found, moment)
            if moment.astimezone(zone).replace(tzinfo=None) == wanted:
                return found
    return found  # the library gives up after fifty years


def _cron(raw: object) -> Cadence | str:
    if not isinstance(raw, str) or not raw.strip():
        return "cadence.expression: missing, so it runs only when asked"
    if len(raw) > MAX_CRON_CHARS:
        return f"cadence.expression: over {MAX_CRON_CHARS} characters"
    if len(raw.split()) != _CRON_FIELDS:
        return "cadence.expression: must have five fields: minute hour day month weekday"
    try:
        CronSim(raw, _ANY_DAY)
    except CronSimError as exc:  # which field, and nothing of what it says
        field = str(exc).removeprefix("Bad ")
        return f"cadence.expression: the {field} field is wrong, or matches no day"
    return Cron(raw)


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
