"""Copies of an owner's records, sealed under the key of the mission that reads them.

A copy is made where the master key is: by the owner's client, or by the issuer. It stands only for
the sealed fields of its source, and says which ciphertext it was made of. Once that has changed,
the copy is stale.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from state.errors import StateError, TerminalError
from state.grants import scopes
from state.grants.scopes import ScopeRefused
from state.log.merge import Snapshot
from state.sealing.values import DataKey, is_sealed, opened_record, sealed_record

MOST_AT_ONCE = 200
LARGEST_CHARS = 262_144
"""What the database takes as one copy, as JSON."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")

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
"""The fields that clients encrypt, by table."""


class CopiesRefused(StateError, TerminalError):
    """Copies that are not taken: `field` and what is wrong with it, never what it holds."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


class SealedCopy(msgspec.Struct, frozen=True):
    """One record with everything secret in `fields` sealed; `source` is its `source_digest`."""

    table: str
    id: str
    fields: dict[str, Any]
    source: str | None = None


class KeptCopy(msgspec.Struct, frozen=True):
    """A copy as it is kept; `source` is None where its client sent none, `written_at` is µs."""

    fields: dict[str, Any]
    source: str | None
    written_at: int


# --- made, and held against the source ------------------------------------------------------------


def source_digest(fields: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over a record's sealed values as synced: `[[field, value], …]` as JSON.

    Fields are sorted like a scope, by UTF-16 code units; no blanks, nothing escaped.
    """
    names = scopes.in_order(name for name, value in fields.items() if is_sealed(value))
    return hashlib.sha256(scopes.canonical([[name, fields[name]] for name in names])).hexdigest()


def copied(
    table: str,
    record_id: str,
    record: Mapping[str, Any],
    master_key: DataKey,
    data_key: DataKey,
    new_iv: Callable[[], bytes],
) -> SealedCopy | None:
    """A synced record's sealed fields under the mission's key; None where there are none.

    Raises SealingError where a field is not under the master key.
    """
    secret = {name: value for name, value in record.items() if is_sealed(value)}
    if not secret:
        return None
    opened = opened_record(secret, master_key).record
    fields = sealed_record(opened, tuple(opened), data_key, new_iv)
    return SealedCopy(table, record_id, fields, source_digest(record))


def is_current(copy: KeptCopy, source: Snapshot) -> bool:
    """Whether the copy was made of what the source holds now.

    A copy that names no source is current until a newer row of the record comes in.
    """
    if copy.source is None:
        return source.newest_at <= copy.written_at
    return copy.source == source_digest(source.fields)


def filled_in(source: Mapping[str, Any], copy: KeptCopy) -> dict[str, Any]:
    """The source as it is now, its sealed fields as the copy has them."""
    return {
        name: copy.fields.get(name) if is_sealed(value) else value for name, value in source.items()
    }


# --- what a client sends --------------------------------------------------------------------------


def read_copies(raw: object) -> tuple[SealedCopy, ...]:
    """The copies of a decoded body; raises CopiesRefused."""
    if not isinstance(raw, list) or not 0 < len(cast("list[Any]", raw)) <= MOST_AT_ONCE:
        raise CopiesRefused("copies", f"must be a list of 1 to {MOST_AT_ONCE} copies")
    try:
        copies = msgspec.convert(raw, tuple[SealedCopy, ...])
    except msgspec.ValidationError:
        raise CopiesRefused("copies", "must each have table, id and fields") from None
    for copy in copies:
        try:
            scopes.granted_scope([copy.table], [f"{copy.table}:{copy.id}"])
        except ScopeRefused as exc:
            raise CopiesRefused("copies", f"has a wrong table or id: {exc.problem}") from None
        if plain_fields(copy.table, copy.fields):
            raise CopiesRefused("copies", "must have every secret field sealed")
        if not any(is_sealed(value) for value in copy.fields.values()):
            raise CopiesRefused("copies", "must have a sealed field each")
        if copy.source is not None and not _DIGEST.match(copy.source):
            raise CopiesRefused("copies", "must have 64 lowercase hex digits as source")
    return copies


def plain_fields(table: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that clients encrypt, and that are readable here nevertheless."""
    return tuple(
        name
        for name in SEALED_FIELDS.get(table, ())
        if fields.get(name) is not None and not is_sealed(fields[name])
    )
