"""What a form changes of a record that others may change meanwhile. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

WAS = "was."
"""What the hidden fields begin with that say what a field was when the form was shown."""


class FormChanges(msgspec.Struct, frozen=True):
    """Fields to write, and which of them were changed elsewhere too since the form was shown."""

    fields: dict[str, Any]
    contested: list[str]


def marks_of(held: Mapping[str, Any]) -> dict[str, str]:
    """A mark of each field as it is, which the form brings back."""
    return {WAS + name: _mark(value) for name, value in held.items()}


def changes_of(
    wished: Mapping[str, Any], held: Mapping[str, Any], form: Mapping[str, str]
) -> FormChanges:
    """What was changed in a form that brings marks back; to the same as it is changes nothing."""
    now, fields, contested = marks_of(held), dict[str, Any](), list[str]()
    for name, value in wished.items():
        was, mark = form.get(WAS + name), _mark(value)
        if mark in (was, now[WAS + name]):
            continue
        fields[name] = value
        if was != now[WAS + name]:
            contested.append(name)
    return FormChanges(fields, contested)


def told_again(
    form: Mapping[str, str],
    now: Mapping[str, str],
    held: Mapping[str, Any],
    changes: FormChanges,
    part_of: Callable[[str], str] = str,
) -> dict[str, str]:
    """The form to show where something was changed elsewhere too; `now` is what it would hold.

    What was typed here stays; all else is as it is now, and saving again knows of it. `part_of`
    says which field of the record a field of the form is about.
    """
    untouched = {name: text for name, text in now.items() if part_of(name) not in changes.fields}
    return {**form, **untouched, **marks_of(held)}


def meanwhile_said(now: object, reader: Reader) -> str:
    """What a field was made elsewhere, while it was changed here too."""
    _ = translations_of(reader.language).gettext
    return _("It was changed elsewhere meanwhile. It is now: %(now)s") % {"now": now}


def plain(text: str) -> str:
    """A text as records hold it: browsers send other line ends."""
    return text.replace("\r\n", "\n").strip()


def _mark(value: Any) -> str:
    kind = type(value).__name__ if isinstance(value, msgspec.Struct) else ""
    return hashlib.sha256(msgspec.json.encode([kind, value], order="sorted")).hexdigest()[:24]
