"""Cadences as people write and read them: `daily 07:00`, `mon 07:00`, `30 minutes`, `0 7 * * 1`."""

from __future__ import annotations

import re
from typing import Any

from state.log.cadence import (
    MAX_CRON_CHARS,
    Cadence,
    Cron,
    Daily,
    Interval,
    Manual,
    Weekly,
    parse_cadence,
)

DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
WAYS = 'manual, "30 minutes", "daily 07:00", "mon 07:00", or cron: "0 7 * * 1"'

_INTERVAL = re.compile(r"([0-9]{1,6}) ?(m|min|mins|minutes?|h|hours?|d|days?)")
_AT = re.compile(r"([a-z,]+)(?: at)? ([0-9]{1,2}):([0-9]{2})")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def cadence_record(words: str) -> dict[str, Any] | str:
    """The cadence as a mission's record holds it, or what is wrong with the words."""
    text = " ".join(words.lower().removeprefix("every ").split())
    record = _read(text) if len(text) <= MAX_CRON_CHARS else None
    if record is None:
        return f"must be {WAYS}"
    problem = parse_cadence(record)
    return problem.removeprefix("cadence.") if isinstance(problem, str) else record


def cadence_words(cadence: Cadence) -> str:
    """The words for it, which `cadence_record` reads."""
    match cadence:
        case Manual():
            return "manual"
        case Interval(every_minutes=minutes):
            return f"{minutes:g} minutes"
        case Daily(at_hour=hour, at_minute=minute):
            return f"daily {hour:02d}:{minute:02d}"
        case Weekly(day_of_week=day, at_hour=hour):
            return f"{DAYS[day][:3]} {hour:02d}:00"
        case Cron(expression=expression):
            return expression


def _read(text: str) -> dict[str, Any] | None:
    if text == "manual":
        return {"kind": "manual"}
    if match := _INTERVAL.fullmatch(text):
        return {"kind": "interval", "everyMinutes": int(match[1]) * _MINUTES[match[2][0]]}
    if match := _AT.fullmatch(text):
        return _at(match[1], int(match[2]), int(match[3]))
    if len(text.split()) == len(["*", "*", "*", "*", "*"]):
        return {"kind": "cron", "expression": text}
    return None


def _at(days: str, hour: int, minute: int) -> dict[str, Any] | None:
    """Some days at a local time; what no other kind can say is a cron expression."""
    if days in ("daily", "day"):
        return {"kind": "daily", "atHour": hour, "atMinute": minute}
    if days in ("weekdays", "weekday"):
        return {"kind": "cron", "expression": f"{minute} {hour} * * 1-5"}
    found = [_day(name) for name in days.split(",")]
    if None in found:
        return None
    if len(found) == 1 and minute == 0:
        return {"kind": "weekly", "dayOfWeek": found[0], "atHour": hour}
    listed = ",".join(map(str, sorted({day for day in found if day is not None})))
    return {"kind": "cron", "expression": f"{minute} {hour} * * {listed}"}


def _day(name: str) -> int | None:
    """The number of a weekday from Sunday, by its name or the beginning of it."""
    fits = [day for day, whole in enumerate(DAYS) if whole.startswith(name.rstrip("s") or "-")]
    return fits[0] if len(fits) == 1 and len(name) > 1 else None
