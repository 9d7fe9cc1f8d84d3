"""The fields by which a form says how often a mission runs, and the cadence that they say. Pure."""

from __future__ import annotations

import re

from state.log.cadence import Cadence, Cron, Daily, Interval, Manual, Weekly, parse_cadence
from supervisor.gateway.people.made.cadence_words import DAYS, cadence_record, cadence_words

AT_FIRST = {
    "how": "daily",
    "time": "07:00",
    "day.mon": "on",
    "hours": "4",
    "unit": "hours",
    "date": "1",
    "cron": "",
}
KEPT = "as-it-is"
"""Chosen for a stored cadence that no field says: it stays."""
SHORT_DAYS = tuple(day[:3] for day in (*DAYS[1:], DAYS[0]))
MINUTES = {"minutes": 1, "hours": 60, "days": 24 * 60}
_TIME = re.compile(r"\d\d:\d\d", re.ASCII)
_AT = re.compile(r"(\d{1,2}) (\d{1,2}) (\*|\d{1,2}) \* (\S+)", re.ASCII)


def every_of(form: dict[str, str]) -> str:
    """What the fields of the builder say, in words of a cadence; wrong ones make wrong words."""
    time = form.get("time", "")
    hour, _, minute = time.partition(":")
    match form.get("how"):
        case "manual":
            return "manual"
        case "daily" | "weekdays" as days:
            return f"{days} {time}"
        case "weekly":
            return f"{','.join(day for day in SHORT_DAYS if 'day.' + day in form)} {time}"
        case "hours" if form.get("unit", "hours") in MINUTES:
            return f"{form.get('hours', '')} {form.get('unit', 'hours')}"
        case "monthly" if _TIME.fullmatch(time):
            return f"{int(minute)} {int(hour)} {form.get('date', '')} * *"
        case "cron":
            return form.get("cron", "")
        case _:
            return ""


def cadence_in(form: dict[str, str]) -> Cadence | str:
    """The cadence that the fields say, or what is wrong with them."""
    record = cadence_record(every_of(form))
    return record if isinstance(record, str) else parse_cadence(record)


def fields_of(cadence: Cadence | None) -> dict[str, str]:
    """Fields that say this cadence and no other; None: one that cannot be read, which stays."""
    if cadence is None:
        return AT_FIRST | {"how": KEPT}
    wishes: list[dict[str, str]] = []
    match cadence:
        case Manual():
            wishes = [{"how": "manual"}]
        case Interval(every_minutes=minutes):
            wishes = [
                {"how": "hours", "hours": f"{minutes / of:g}", "unit": unit}
                for unit, of in sorted(MINUTES.items(), key=_longest_first)
            ]
        case Daily(at_hour=hour, at_minute=minute):
            wishes = [{"how": "daily", "time": f"{hour:02d}:{minute:02d}"}]
        case Weekly(day_of_week=day, at_hour=hour):
            wishes = [{"how": "weekly", "time": f"{hour:02d}:00", f"day.{DAYS[day][:3]}": "on"}]
        case Cron(expression=expression):
            wishes = [*_of_cron(expression), {"how": "cron", "cron": expression}]
    bare = {name: text for name, text in AT_FIRST.items() if name != "day.mon"}
    for wish in wishes:
        if cadence_in(bare | wish) == cadence:
            return bare | wish
    return AT_FIRST | {"how": KEPT, "cron": cadence_words(cadence)}


def _of_cron(expression: str) -> list[dict[str, str]]:
    """What a cron expression may say in plain fields; whoever asks reads them back."""
    found = _AT.fullmatch(expression)
    if found is None:
        return []
    minute, hour, date, days = found.groups()
    time = {"time": f"{int(hour):02d}:{int(minute):02d}"}
    named = [DAYS[int(day)][:3] for day in re.findall(r"[0-6]", days)]
    return [
        {"how": "weekdays", **time},
        {"how": "weekly", **time, **{f"day.{day}": "on" for day in named}},
        {"how": "monthly", **time, "date": date},
    ]


def _longest_first(unit: tuple[str, int]) -> int:
    return -unit[1]
