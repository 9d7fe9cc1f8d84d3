"""What a change of a person or a program becomes: rows with a stamp for each field. Pure.

How a row is made stands in `state.log.own_changes`; here is what a client adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mana_actors.client.errors import WriteRefused
from mana_actors.client.local.kept import KeptRecord, LocalRow, same
from state.log import merge, own_changes
from state.log.own_changes import ChangeRefused, OwnRow, RecordAt, Writer
from state.log.principals import Actor, origin_of

Owner = Literal["space", "user"]
"""Whose a table's records are: a space's, with an author, or a person's as such."""

OWNER_FIELDS = frozenset({"userId", "spaceId", "authorId"})
"""Set once, when a record is made."""


class Hand(msgspec.Struct, frozen=True):
    """Who writes, where new records go, and the time in ns as this client has it."""

    user: str
    actor: Actor
    space: str
    now_ns: int


def made(at: RecordAt, owner: Owner, fields: Mapping[str, Any], by: Hand) -> list[OwnRow]:
    """A new record; raises WriteRefused."""
    given = {name: value for name, value in fields.items() if name not in OWNER_FIELDS}
    writer = Writer(by.actor)
    try:
        row = own_changes.insert_row(
            given, at, author=by.user, space=by.space, by=writer, now_ns=by.now_ns
        )
    except ChangeRefused as exc:
        raise WriteRefused(exc.field, exc.problem) from exc
    data = row.data
    if owner == "user":
        data = {k: v for k, v in data.items() if k not in ("spaceId", "authorId", "visibility")}
        data["userId"] = by.user
    now = data["createdAt"]
    return [OwnRow("insert", data, {name: now for name in data if name != "id"})]


def changed(known: KeptRecord, fields: Mapping[str, Any], by: Hand) -> list[OwnRow]:
    """These fields anew, as far as they differ; a `deletedAt` that is set deletes as well.

    Owner fields never change. Raises WriteRefused.
    """
    held = known.snapshot.fields
    new = {
        name: value
        for name, value in fields.items()
        if name not in OWNER_FIELDS and not (name in held and _is_same(held[name], value))
    }
    deletes = bool(new.get("deletedAt"))
    if deletes:
        del new["deletedAt"]
    rows: list[OwnRow] = []
    try:
        if new:
            rows.append(own_changes.update_row(known.snapshot, new, by.now_ns))
    except ChangeRefused as exc:
        raise WriteRefused(exc.field, exc.problem) from exc
    return [*rows, own_changes.delete_row(known.snapshot, by.now_ns)] if deletes else rows


def put(
    at: RecordAt, owner: Owner, known: KeptRecord, fields: Mapping[str, Any], by: Hand
) -> list[OwnRow]:
    """The record made, changed, or brought back with these fields; raises WriteRefused."""
    if not known.snapshot.exists:
        return made(at, owner, fields, by)
    if merge.hidden(known.snapshot) and "deletedAt" not in fields:
        fields = {**fields, "deletedAt": None}
    return changed(known, fields, by)


def signed(row: OwnRow, at: RecordAt, known: KeptRecord, by: Hand, change_id: str) -> LocalRow:
    """The row as it waits to be pushed."""
    named = row.data.get("spaceId") if row.op == "insert" else known.snapshot.fields.get("spaceId")
    return LocalRow(
        id=change_id,
        app=at.app,
        table=at.table,
        record=at.id,
        op=row.op,
        data=row.data,
        field_meta=dict(row.field_meta),
        actor=by.actor,
        origin=origin_of(by.actor),
        space=named if isinstance(named, str) and named else None,
        mine=True,
    )


def _is_same(held: object, value: object) -> bool:
    try:
        return same(held, value)
    except (TypeError, ValueError, RecursionError):  # no JSON: refused where its row is made
        return False
