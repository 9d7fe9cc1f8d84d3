"""What an owner's client hands over for a mission: records sealed under its key (crypto §6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from state import scopes
from state.errors import TerminalError
from state.scopes import ScopeRefused
from state.sealing import is_sealed

MOST_AT_ONCE = 200

SEALED_FIELDS: dict[str, tuple[str, ...]] = {
    "notes": ("title", "content"),
    "tasks": ("title", "description", "subtasks", "metadata"),
    "events": ("title", "description", "location"),
    "journalEntries": ("title", "content"),
    "kontextDoc": ("content",),
    "userContext": (
        "about", "interests", "routine", "nutrition", "leisure", "goals", "social", "freeform",
    ),
}  # fmt: skip
"""The fields that clients encrypt, by table (crypto §6)."""


class CopiesRefused(TerminalError):
    """Copies that are not taken: `field` and what is wrong with it; contents are never quoted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


class SealedCopy(msgspec.Struct, frozen=True):
    """One record, `fields` with everything secret sealed."""

    table: str
    id: str
    fields: dict[str, Any]


def read_copies(raw: object) -> tuple[SealedCopy, ...]:
    """The copies of a decoded body; raises CopiesRefused."""
    if not isinstance(raw, list) or not 0 < len(cast("list[Any]", raw)) <= MOST_AT_ONCE:
        raise CopiesRefused("copies", f"must be a list of 1 to {MOST_AT_ONCE} copies")
    try:
        copies = msgspec.convert(raw, tuple[SealedCopy, ...])
    except msgspec.ValidationError:
        raise CopiesRefused("copies", "must each have table, id and fields") from None
    for copy in copies:
        _check(copy)
    return copies


def plain_fields(table: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that clients encrypt and that are readable here all the same."""
    return tuple(
        name
        for name in SEALED_FIELDS.get(table, ())
        if fields.get(name) is not None and not is_sealed(fields[name])
    )


def _check(copy: SealedCopy) -> None:
    try:
        scopes.granted_scope([copy.table], [f"{copy.table}:{copy.id}"])
    except ScopeRefused as exc:
        raise CopiesRefused("copies", f"has a wrong table or id: {exc.problem}") from None
    if plain_fields(copy.table, copy.fields):
        raise CopiesRefused("copies", "must have every secret field sealed")
    if not any(is_sealed(value) for value in copy.fields.values()):
        raise CopiesRefused("copies", "must have a sealed field each")
