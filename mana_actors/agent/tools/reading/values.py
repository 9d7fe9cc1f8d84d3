"""Fields of somebody's record as a model may see them: short, plain, of known types."""

from collections.abc import Iterable
from datetime import date
from zoneinfo import ZoneInfo

from mana_actors.agent.planner.fences import is_ciphertext
from mana_actors.json_values import JsonObject, as_object
from state.log.stamps import datetime_of, parse_instant

SEALED = "[encrypted]"
MAX_CHARS = 200


def shown(record: JsonObject, fields: Iterable[str]) -> JsonObject:
    """The record's id and these fields; what is absent, null or no plain value is left out."""
    found = {field: shown_value(record.get(field)) for field in fields}
    return {"id": record["id"], **{name: value for name, value in found.items() if value != ""}}


def shown_value(value: object, most: int = MAX_CHARS) -> str | float | bool:
    """`value` cut to `most` characters; sealed text is never shown, objects and lists are ""."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        known = number(value)
        return "" if known is None else known
    if is_ciphertext(value):
        return SEALED
    text = value.strip()
    return text if len(text) <= most else f"{text[:most]}…"


def number(value: object) -> float | None:
    """`value` if it is a finite number a sum can hold, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e15 else None


def readable_text(value: object) -> str:
    """Lower-case text to look for words in; "" for anything sealed or not text."""
    return value.lower() if isinstance(value, str) and not is_ciphertext(value) else ""


def day_of(value: object, zone: ZoneInfo) -> date | None:
    """The owner's day that a date or an instant names, None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        instant = parse_instant(value)
    if instant is None:
        return None
    try:
        return datetime_of(instant).astimezone(zone).date()
    except (OverflowError, ValueError):
        return None


def part(record: JsonObject, name: str) -> JsonObject:
    """An object inside the record, {} if there is none."""
    return as_object(record.get(name)) or {}
