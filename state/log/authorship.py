"""A record as the log says it is now: each field with who wrote it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from state.log import merge
from state.log.merge import Change
from state.log.principals import Actor
from state.log.stamps import parse_instant

DERIVED = frozenset({"updatedAt"})
"""Worked out by whoever shows a record; older rows carry it as if it were data."""


class AuthoredRow(msgspec.Struct, frozen=True):
    """One row and who sent it; `actor` is whole (`normalize_actor`)."""

    change: Change
    actor: Actor
    origin: str
    client: str


class WrittenField(msgspec.Struct, frozen=True):
    """A value, who wrote it, and when: its stamp, else its row's time as clients take it."""

    value: Any
    at: str
    actor: Actor
    origin: str


class WrittenRecord(msgspec.Struct, frozen=True):
    """A record's fields by name; `updated_at` is its newest field's time.

    `gone`: it was deleted, or never established.
    """

    fields: dict[str, WrittenField]
    gone: bool
    updated_at: str


def written_record(rows: Sequence[AuthoredRow]) -> WrittenRecord:
    """The record that these rows make, which are one record's in row order, at least one."""
    changes = [row.change for row in rows]
    record = merge.fold(None, changes)
    by_id = {row.change.id: row for row in rows}
    fields: dict[str, WrittenField] = {}
    for name, change in merge.authors(changes).items():
        if name not in DERIVED:
            row = by_id[change.id]
            at = record.stamps.get(name) or merge.fallback_stamp(change).text
            fields[name] = WrittenField(record.fields[name], at, row.actor, row.origin)
    newest = max(fields.values(), key=lambda field: parse_instant(field.at) or 0, default=None)
    return WrittenRecord(
        fields,
        gone=merge.hidden(record) or not record.complete,
        updated_at=merge.fallback_stamp(changes[-1]).text if newest is None else newest.at,
    )
