"""What an owner changes, as the rows that tell it to every device. Pure.

An insert carries the whole record, an update the changed fields with a plain stamp each, a soft
delete its instant. Stamps are later than whatever the record holds, so that the change wins
wherever the rows are merged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from state.errors import StateError, TerminalError
from state.log import merge
from state.log.merge import Change, Snapshot
from state.log.principals import Actor, user_actor
from state.log.stamps import read_stamp, winning_stamp

MAX_ROW_BYTES = 4 * 1024 * 1024
API_CLIENT = "mana-api"
SERVER_CLIENTS = frozenset(
    {API_CLIENT, "mana-ai-runner", "mcp-server", "articles-import-worker", "system:bootstrap"}
)
"""Who writes into the log past the sync service; a row of theirs is known by this name."""
_FIXED = frozenset({"createdAt", "userId", "spaceId", "authorId", "updatedAt"})
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_sorted = msgspec.json.Encoder(order="sorted")

Origin = Literal["user", "agent"]


class ChangeRefused(StateError, TerminalError):
    """A change that cannot be written; names the field and never its value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class RecordAt(msgspec.Struct, frozen=True):
    """Where a record lives in the log."""

    app: str
    table: str
    id: str


class Writer(msgspec.Struct, frozen=True):
    """Who signs a row: the owner, or an agent that carries out what the owner approved."""

    actor: Actor
    origin: Origin = "user"
    client_id: str = API_CLIENT


class OwnRow(msgspec.Struct, frozen=True):
    """A row to write."""

    op: Literal["insert", "update", "delete"]
    data: dict[str, Any]
    field_meta: dict[str, str]


def owner_writes(user_id: str) -> Writer:
    """The owner, through our API."""
    return Writer(user_actor(user_id))


def personal_space(user_id: str) -> str:
    """The space that is a person's alone."""
    return f"_personal:{user_id}"


def insert_row(
    fields: Mapping[str, Any], at: RecordAt, *, author: str, space: str, by: Writer, now_ns: int
) -> OwnRow:
    """A new record, whole. An owner's insert carries no stamps, as a client's does not."""
    _refuse_fixed(fields)
    now = winning_stamp(now_ns, None)
    data = {
        "id": at.id,
        "createdAt": now,
        **fields,
        "spaceId": space,
        "authorId": author,
        "visibility": fields.get("visibility", "space"),
    }
    if by.origin == "user":
        return _checked(OwnRow("insert", data, {}))
    return _checked(OwnRow("insert", data, {name: now for name in data if name != "id"}))


def update_row(known: Snapshot, fields: Mapping[str, Any], now_ns: int) -> OwnRow:
    """These fields anew; None clears one. Raises ChangeRefused for one that never changes."""
    _refuse_fixed(fields)
    stamps = {name: stamp_for(known, name, now_ns) for name in fields}
    return _checked(OwnRow("update", dict(fields), stamps))


def delete_row(known: Snapshot, now_ns: int) -> OwnRow:
    """The record is hidden from now on; an update with `deletedAt: None` brings it back."""
    return OwnRow("delete", {"deletedAt": stamp_for(known, "deletedAt", now_ns)}, {})


def stamp_for(known: Snapshot, field: str, now_ns: int) -> str:
    """A stamp that wins over the field as every reader holds it.

    Clients take a field without a stamp for as old as its record says it is, which may be ahead of
    our clock.
    """
    held = known.stamps.get(field)
    if held is None:
        said = known.fields.get("updatedAt"), known.fields.get("createdAt")
        times = [stamp for stamp in map(read_stamp, said) if stamp is not None]
        held = times[0].text if times else None
    return winning_stamp(now_ns, held)


def as_change(row: OwnRow, change_id: str, created_us: int, user_id: str = "") -> Change:
    """The row as readers merge it."""
    return Change(change_id, created_us, row.op, row.data, dict(row.field_meta), user_id=user_id)


def version_of(known: Snapshot) -> str:
    """A word that differs whenever the record does; iterations are left out, which runs add to."""
    said = {name: value for name, value in known.fields.items() if name != "iterations"}
    stamps = {name: text for name, text in known.stamps.items() if name != "iterations"}
    return hashlib.sha256(_sorted.encode([said, stamps])).hexdigest()[:32]


def _refuse_fixed(fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name in _FIXED or name in merge.INTERNAL_FIELDS:
            raise ChangeRefused(name, "cannot be set")


def _checked(row: OwnRow) -> OwnRow:
    """The row, if every reader of the log can keep it; raises ChangeRefused."""
    try:
        text = msgspec.json.encode(row.data).decode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ChangeRefused("data", "is not JSON that can be kept") from exc
    if len(text.encode()) > MAX_ROW_BYTES:
        raise ChangeRefused("data", f"is over {MAX_ROW_BYTES} bytes")
    if NUL.search(text):  # Postgres keeps none
        holding = (
            name.replace("\0", "")
            for name, value in row.data.items()
            if NUL.search(msgspec.json.encode([name, value]).decode())
        )
        raise ChangeRefused(next(holding, "data"), "holds a NUL character")
    problem = merge.read_change("", 0, row.op, text, "{}").problem
    if problem:
        field, _, what = problem.partition(": ")
        raise ChangeRefused(field, what)
    return row
