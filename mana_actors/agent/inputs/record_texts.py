"""Title and text of a readable record for the prompt, by module (tick §6, real shapes of D-50)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mana_actors.agent.inputs.goals import goal_text

Fields = Mapping[str, Any]
UNTITLED = "(ohne Titel)"
TITLE_UNITS = 200
PROFILE_FIELDS = (
    "about", "interests", "routine", "nutrition", "leisure", "goals", "social", "freeform",
)  # fmt: skip


def record_text(module: str, fields: Fields) -> tuple[str, str]:
    """What the planner reads of a record; raises KeyError for a module without a text."""
    write, length = _WRITERS[module]
    title, content = write(fields)
    return cut(title, TITLE_UNITS), cut(content, length)


def is_known(module: str) -> bool:
    """Whether records of this module can be written into a prompt."""
    return module in _WRITERS


def cut(text: str, length: int) -> str:
    """At most `length` UTF-16 units, then an ellipsis where something was cut off."""
    units = text.encode("utf-16-le", "replace")
    if len(units) <= 2 * length:
        return text
    return units[: 2 * length].decode("utf-16-le", "replace") + "…"


def _note(fields: Fields) -> tuple[str, str]:
    return _text(fields, "title") or "Notiz", _text(fields, "content")


def _journal(fields: Fields) -> tuple[str, str]:
    return _text(fields, "title") or "Journal-Eintrag", _text(fields, "content")


def _context(fields: Fields) -> tuple[str, str]:
    return "Mana-Kontext", _text(fields, "content")


def _task(fields: Fields) -> tuple[str, str]:
    done = fields.get("isCompleted")
    status = _text(fields, "status") or ("done" if done else "" if done is None else "open")
    content = f"[{status}] " * bool(status) + (_text(fields, "title") or UNTITLED)
    if description := _text(fields, "description"):
        content += f" — {description}"
    if due := _text(fields, "dueDate"):
        content += f" (faellig: {due})"
    return _text(fields, "title") or "Task", content


def _event(fields: Fields) -> tuple[str, str]:
    content = _text(fields, "title") or UNTITLED
    if start := _text(fields, "startDate") or _text(fields, "startTime"):
        content += f" @ {start}"
    if place := _text(fields, "location"):
        content += f" in {place}"
    return _text(fields, "title") or "Termin", content


def _profile(fields: Fields) -> tuple[str, str]:
    told = ((name, _text(fields, name)) for name in PROFILE_FIELDS)
    return "Nutzerprofil", "\n".join(f"{name}: {text}" for name, text in told if text)


def _text(fields: Fields, name: str) -> str:
    """A field as trimmed text; lists and objects as JSON, absent and empty ones as empty."""
    value = fields.get(name)
    if value in (None, [], {}) or isinstance(value, str):
        return (value or "").strip()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_WRITERS: dict[str, tuple[Callable[[Fields], tuple[str, str]], int]] = {
    "goals": (goal_text, 500),
    "notes": (_note, 500),
    "tasks": (_task, 500),
    "todo": (_task, 500),
    "calendar": (_event, 500),
    "journal": (_journal, 500),
    "kontext": (_context, 1500),
    "profile": (_profile, 2000),
}
