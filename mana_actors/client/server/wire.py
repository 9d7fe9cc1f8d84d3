"""The sync wire as a client speaks it. Pure: rows into a request, an answer into rows.

A change of the server's that is malformed is left out and counted; the others are taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from mana_actors.client.local.kept import LocalRow
from mana_actors.json_values import (
    JsonObject,
    as_list,
    as_object,
    as_text,
    canonical_json,
    objects_in,
)
from state.log import merge
from state.log.stamps import NS_PER_US, parse_instant

EPOCH = "1970-01-01T00:00:00.000Z"
_NAMESPACE = uuid.UUID("6f6a3a0c-4a39-4f0e-9b61-0d7a4b3c1f52")


class PushOutcome(msgspec.Struct, frozen=True):
    """What became of one pushed change; `stamps`: those that the server put in place of ours."""

    status: str = ""
    created_us: int | None = None
    stamps: dict[str, str] = {}
    lost: tuple[str, ...] = ()


class PushAnswer(msgspec.Struct, frozen=True):
    """An answer to a push; `outcomes` by change id, of an older server none."""

    rows: list[LocalRow]
    outcomes: dict[str, PushOutcome]
    since: str
    cursor: str
    has_more: bool
    server_ns: int | None
    malformed: int

    def outcome(self, row: LocalRow) -> PushOutcome:
        """What became of a pushed row."""
        return self.outcomes.get(row.id, PushOutcome())


class PushAnswerUnreadable(Exception):
    """The body is not what a sync service answers."""


# --- to the server --------------------------------------------------------------------------------


def push_body(app: str, client_id: str, since: str, cursor: str, rows: Sequence[LocalRow]) -> bytes:
    """A push of these rows, which asks for what is new after `since` or `cursor`."""
    body: JsonObject = {
        "clientId": client_id,
        "appId": app,
        "since": since or EPOCH,
        "schemaVersion": 1,
        "changes": [change_body(row) for row in rows],
    }
    return msgspec.json.encode(body | ({"cursor": cursor} if cursor else {}))


def change_body(row: LocalRow) -> JsonObject:
    """One change."""
    data, body = row.data or {}, dict[str, Any]()
    if row.op == "insert":
        stamps = list(row.field_meta.values())
        body = {"data": data} | ({"at": stamps[0]} if stamps else {})
    elif row.op == "update":
        body = {"fields": {k: {"value": v, "at": row.field_meta[k]} for k, v in data.items()}}
    elif "deletedAt" in data:
        body = {"deletedAt": data["deletedAt"]}
    named = {"spaceId": row.space, "actor": row.actor, "origin": row.origin}
    return {
        "changeId": row.id,
        "table": row.table,
        "id": row.record,
        "op": row.op,
        **body,
        **{name: value for name, value in named.items() if value is not None},
    }


def settled(row: LocalRow, outcome: PushOutcome, arrived_us: int) -> LocalRow:
    """A pushed row as it is in the log."""
    stamps, data = outcome.stamps, row.data or {}
    if row.op == "delete" and "deletedAt" in stamps and "deletedAt" in data:
        data = {**data, "deletedAt": stamps["deletedAt"]}
    return msgspec.structs.replace(
        row,
        data=data,
        field_meta={name: stamps.get(name, at) for name, at in row.field_meta.items()},
        created_us=arrived_us if outcome.created_us is None else outcome.created_us,
    )


# --- from the server ------------------------------------------------------------------------------


def read_answer(app: str, raw: bytes, arrived_us: int) -> PushAnswer:
    """The answer to a push; raises PushAnswerUnreadable.

    Rows of a server that says no time for them count as of `arrived_us` and later, in their order.
    """
    try:
        told = as_object(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PushAnswerUnreadable from exc
    since = as_text(told.get("syncedUntil")) if told is not None else ""
    if told is None or not since or not isinstance(told.get("serverChanges"), list):
        raise PushAnswerUnreadable
    given = cast("list[object]", told["serverChanges"])
    read = [row_in(app, change, arrived_us + at) for at, change in enumerate(given)]
    results = objects_in(told.get("results"))
    return PushAnswer(
        rows=[row for row in read if row is not None],
        outcomes={as_text(one.get("changeId")): _outcome(one) for one in results},
        since=since,
        cursor=as_text(told.get("cursor")),
        has_more=told.get("hasMore") is True,
        server_ns=parse_instant(as_text(told.get("serverTime"))),
        malformed=read.count(None),
    )


def read_event(app: str, raw: bytes, arrived_us: int) -> tuple[list[LocalRow], bool]:
    """Rows of an event of a stream, and whether more of them come.

    Raises PushAnswerUnreadable.
    """
    try:
        told = as_object(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PushAnswerUnreadable from exc
    if told is None:
        raise PushAnswerUnreadable
    read = [
        row_in(app, one, arrived_us + at) for at, one in enumerate(as_list(told.get("changes")))
    ]
    return [row for row in read if row is not None], told.get("hasMore") is True


def row_in(app: str, raw: object, arrived_us: int) -> LocalRow | None:
    """A change of the server's as a row, or None where it is malformed or says nothing."""
    change = as_object(raw)
    if change is None or not _is_sound(change):
        return None
    data, stamps = _written(change)
    row = as_object(change.get("row"))
    if row is not None:
        if row.get("isUnreadable"):
            return None
        data, stamps = as_object(row.get("data")) or {}, as_object(row.get("fieldMeta")) or {}
    elif change["op"] == "update" and not data:
        return None
    event = as_text(change.get("eventId"))
    created = parse_instant(as_text(change.get("createdAt")))
    return LocalRow(
        id=event or str(uuid.uuid5(_NAMESPACE, canonical_json(change))),
        app=app,
        table=change["table"],
        record=change["id"],
        op=change["op"],
        data=data,
        field_meta=stamps,
        actor=change.get("actor"),
        origin=change.get("origin"),
        space=as_text(change.get("spaceId")) or None,
        created_us=arrived_us if created is None else created // NS_PER_US,
    )


def _written(change: JsonObject) -> tuple[JsonObject, dict[str, str]]:
    """The values of a change, and the stamps as far as it has any."""
    if change["op"] == "delete":
        at = change.get("deletedAt")
        return ({"deletedAt": at} if at else {}), {}
    fields: JsonObject = change.get("fields") or {}
    values = {name: field.get("value") for name, field in fields.items()}
    # `data` is told beside `fields` for an insert, and has what is without a stamp.
    data: JsonObject = {**values, **(change.get("data") or {})}
    return data, {name: field["at"] for name, field in fields.items() if field.get("at")}


def _is_sound(change: Mapping[str, Any]) -> bool:
    """Whether every member is of its type; an `actor` and the like may lack or be null."""
    texts = ("deletedAt", "eventId", "origin", "spaceId", "createdAt")
    objects = ("data", "fields", "actor")
    return (
        all(isinstance(change.get(name), str) and change[name] for name in ("table", "id"))
        and change.get("op") in merge.OPS
        and all(isinstance(change.get(name), str | None) for name in texts)
        and all(isinstance(change.get(name), dict | None) for name in objects)
        and isinstance(change.get("schemaVersion"), int | None)
        and all(_is_field(field) for field in (as_object(change.get("fields")) or {}).values())
    )


def _is_field(field: object) -> bool:
    one = as_object(field)
    return one is not None and "value" in one and isinstance(one.get("at"), str | None)


def _outcome(one: JsonObject) -> PushOutcome:
    fields = {k: v for k, v in (as_object(one.get("fields")) or {}).items() if as_object(v)}
    stamps = {
        name: as_text(field.get("at"))
        for name, field in fields.items()
        if field.get("reason") == "future-stamp" and parse_instant(as_text(field.get("at")))
    }
    created = parse_instant(as_text(one.get("createdAt")))
    return PushOutcome(
        status=as_text(one.get("status")),
        created_us=None if created is None else created // NS_PER_US,
        stamps=stamps,
        lost=tuple(name for name, field in fields.items() if field.get("reason") == "older"),
    )
