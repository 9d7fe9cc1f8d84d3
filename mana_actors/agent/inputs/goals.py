"""A companion goal as a line of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mana_actors.json_values import as_text


def goal_text(record: Mapping[str, Any]) -> tuple[str, str]:
    """Title and progress line of a goal record (tick §6)."""
    raw = record.get("target")
    target = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    title = record.get("title")
    shown = title if isinstance(title, str) and title.strip() else "Goal"
    current = _number(record.get("currentValue"), "0")
    wanted = _number(target.get("value"), "?")
    period = as_text(record.get("period")) or as_text(target.get("period")) or "unbekannt"
    return shown, f"Progress: {current} / {wanted} per {period}"


def _number(value: object, absent: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return absent
    return str(int(value)) if value == int(value) else str(value)
