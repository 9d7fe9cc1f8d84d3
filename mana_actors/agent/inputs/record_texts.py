"""What a prompt says of a readable record, by module: the title and text of its real shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mana_actors.json_values import as_object, as_text

Fields = Mapping[str, Any]
UNTITLED = "(ohne Titel)"
TITLE_UNITS = 200
CONTENT_UNITS = {"kontext": 1500, "profile": 2000}
USUAL_CONTENT_UNITS = 500
PROFILE_FIELDS = (
    "about", "interests", "routine", "nutrition", "leisure", "goals", "social", "freeform",
)  # fmt: skip


def record_text(module: str, fields: Fields) -> tuple[str, str]:
    """What the planner reads of a record; raises KeyError for a module without a text."""
    title = _text(fields, "title")
    match module:
        case "notes":
            title, content = title or "Notiz", _text(fields, "content")
        case "journal":
            title, content = title or "Journal-Eintrag", _text(fields, "content")
        case "kontext":
            title, content = "Mana-Kontext", _text(fields, "content")
        case "tasks" | "todo":
            done, status = fields.get("isCompleted"), _text(fields, "status")
            status = status or ("done" if done else "" if done is None else "open")
            description, due = _text(fields, "description"), _text(fields, "dueDate")
            content = f"[{status}] " * bool(status) + (title or UNTITLED)
            content += f" — {description}" * bool(description)
            content += f" (faellig: {due})" * bool(due)
            title = title or "Task"
        case "calendar":
            title, content = title or "Termin", title or UNTITLED
            if start := _text(fields, "startDate") or _text(fields, "startTime"):
                content += f" @ {start}"
            if place := _text(fields, "location"):
                content += f" in {place}"
        case "goals":
            target = as_object(fields.get("target")) or {}
            current = _number(fields.get("currentValue"), "0")
            wanted = _number(target.get("value"), "?")
            period = as_text(fields.get("period")) or as_text(target.get("period")) or "unbekannt"
            content = f"Progress: {current} / {wanted} per {period}"
            title = as_text(fields.get("title"))
            title = title if title.strip() else "Goal"
        case "profile":
            told = ((name, _text(fields, name)) for name in PROFILE_FIELDS)
            title, content = "Nutzerprofil", "\n".join(f"{n}: {text}" for n, text in told if text)
        case _:
            raise KeyError(module)
    return cut(title, TITLE_UNITS), cut(content, CONTENT_UNITS.get(module, USUAL_CONTENT_UNITS))


def cut(text: str, length: int) -> str:
    """At most `length` UTF-16 units, then an ellipsis where something was cut off."""
    units = text.encode("utf-16-le", "replace")
    if len(units) <= 2 * length:
        return text
    return units[: 2 * length].decode("utf-16-le", "replace") + "…"


def _number(value: object, absent: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return absent
    return str(int(value)) if value == int(value) else str(value)


def _text(fields: Fields, name: str) -> str:
    """A field as trimmed text; lists and objects as JSON, absent and empty ones as empty."""
    value = fields.get(name)
    if value in (None, [], {}) or isinstance(value, str):
        return (value or "").strip()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
