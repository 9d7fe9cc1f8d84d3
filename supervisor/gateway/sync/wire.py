"""What a device sends and what it is sent, each change between its wire form and its row. Pure.

A change keeps the stamps it came with, as far as they are not ahead of the server's clock by more
than a bound. So whoever merges the rows in their order gets the record that the server has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import msgspec

from state.log import merge
from state.log.merge import INTERNAL_FIELDS, Change, too_long
from state.log.own_changes import MAX_ROW_BYTES, NUL, personal_space
from state.log.principals import LEGACY_USER, USER
from state.log.stamps import (
    NS_PER_MS,
    NS_PER_US,
    Stamp,
    format_instant,
    parse_instant,
    read_stamp,
    read_text,
)
from state.store.gateway.sync_feeds import FeedRow, PushedRow

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_CHANGES = 5000
MAX_ACTOR_BYTES = 64 * 1024
SCHEMA = 1
_NULL = msgspec.Raw(b"null")
_sorted = msgspec.json.Encoder(order="sorted")
LostReason = Literal["older", "future-stamp"]


class SyncRefused(Exception):
    """A request of a device that is refused whole; `change` is the one to blame, `field` its part.

    Its text holds nothing of what was sent but an unknown `op`.
    """

    def __init__(
        self, status: int, problem: str, change: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(status, problem, change, field)
        self.status, self.problem, self.change, self.field = status, problem, change, field

    def __str__(self) -> str:
        return self.problem


# --- pushed ---------------------------------------------------------------------------------------


class SentField(msgspec.Struct, frozen=True, rename="camel"):
    """A field's value; clients of old say its time as `updatedAt`."""

    value: msgspec.Raw = _NULL
    at: str | None = None
    updated_at: str | None = None


class SentChange(msgspec.Struct, frozen=True, rename="camel"):
    """A change as a device sends it."""

    table: str = ""
    id: str = ""
    op: str = ""
    data: dict[str, msgspec.Raw] | None = None
    fields: dict[str, SentField] | None = None
    at: str | None = None
    deleted_at: str | None = None
    space_id: str | None = None
    actor: dict[str, msgspec.Raw] | None = None
    origin: str | None = None
    schema_version: int | None = None
    change_id: UUID | None = None


class Changeset(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a push."""

    client_id: str | None = None
    since: str | None = None
    cursor: str | None = None
    schema_version: int | None = None
    changes: Annotated[list[SentChange], msgspec.Meta(max_length=MAX_CHANGES)] | None = None


class ReadChange(msgspec.Struct, frozen=True):
    """A change as it is written, and the stamps that were taken back to the server's clock."""

    row: PushedRow
    taken_back: Mapping[str, str] = {}


def read_changeset(body: bytes) -> Changeset:
    """The body of a push; raises SyncRefused."""
    try:
        sent = msgspec.json.decode(body, type=Changeset)
    except RecursionError as exc:
        raise SyncRefused(400, "invalid JSON: nested too deeply") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
        said = str(exc) if isinstance(exc, msgspec.MsgspecError) else "not UTF-8"
        raise SyncRefused(400, f"invalid JSON: {said}") from exc
    version = sent.schema_version or SCHEMA
    if version > SCHEMA:
        raise SyncRefused(400, f"unsupported schemaVersion {version} (max {SCHEMA})")
    return sent


def read_changes(
    sent: Changeset,
    user: str,
    spaces: tuple[str, ...],
    new_ids: list[str],
    *,
    now_ns: int,
    ahead_ns: int,
) -> list[ReadChange]:
    """The changes as rows; `new_ids` are for those that bring none. Raises SyncRefused."""
    read: list[ReadChange] = []
    seen: set[str] = set()
    clock = _Clock(now_ns // NS_PER_MS * NS_PER_MS, ahead_ns)
    for place, (change, new_id) in enumerate(zip(sent.changes or [], new_ids, strict=True)):
        if change.op not in merge.OPS:
            quoted = msgspec.json.encode(change.op[:40]).decode()
            raise SyncRefused(400, f"invalid op {quoted} in change {place}", place, "op")
        if not change.table or not change.id:
            missing = "id" if change.table else "table"
            raise SyncRefused(400, f"missing table or id in change {place}", place, missing)
        for field, text in (("table", change.table), ("id", change.id)):
            if too_long(text) or not _is_keepable(text):
                raise SyncRefused(400, f"{field} cannot be kept in change {place}", place, field)
        if (change.schema_version or SCHEMA) > SCHEMA:
            told = f"unsupported schemaVersion {change.schema_version} (max {SCHEMA})"
            raise SyncRefused(400, f"{told} in change {place}", place, "schemaVersion")
        change_id = new_id if change.change_id is None else str(change.change_id)
        if change_id in seen:
            problem = f"change id twice, again in change {place}"
            raise SyncRefused(400, problem, place, "changeId")
        seen.add(change_id)
        try:
            read.append(_read(change, change_id, user, spaces, clock))
        except SyncRefused as exc:
            problem = f"{exc.problem} in change {place}"
            raise SyncRefused(exc.status, problem, place, exc.field) from exc
    return read


class _Clock(msgspec.Struct):
    """The server's time, and what it took back of one change."""

    now_ns: int
    ahead_ns: int

    @property
    def text(self) -> str:
        return format_instant(self.now_ns)

    def in_bounds(self, field: str, text: str, stamp: Stamp, taken_back: dict[str, str]) -> str:
        """The stamp as it came, or the clock's where it is too far ahead."""
        if stamp.instant <= self.now_ns + self.ahead_ns:
            return text
        taken_back[field] = self.text
        return self.text


def _read(
    change: SentChange, change_id: str, user: str, spaces: tuple[str, ...], clock: _Clock
) -> ReadChange:
    taken_back: dict[str, str] = {}
    meta: dict[str, str] = {}
    data = dict(change.data) if change.data is not None else None
    sent_fields = change.fields or {}
    if change.op != "delete" and change.fields is not None:
        values = {
            name: sent.value if bytes(sent.value) else _NULL for name, sent in sent_fields.items()
        }
        data = {**(data or {}), **values} if change.op == "insert" else values
        for name, sent in sent_fields.items():
            text = sent.at or sent.updated_at or change.at or clock.text
            meta[name] = clock.in_bounds(name, text, _stamp(text, f"fields.{name}.at"), taken_back)
    if change.op == "delete":
        data = data or {}
        if change.deleted_at:
            stamp = _stamp(change.deleted_at, "deletedAt")
            at = clock.in_bounds("deletedAt", change.deleted_at, stamp, taken_back)
            data["deletedAt"] = msgspec.Raw(msgspec.json.encode(at))
    known = _kept(change, data)
    if change.op != "delete" and change.data is not None:
        at = _time_of(change, known, clock)
        if at is not None:
            text = clock.in_bounds("", at.text, at, {})
            for name in known:
                if name not in meta and name not in INTERNAL_FIELDS:
                    meta[name] = text
                    if text != at.text:
                        taken_back[name] = text
    row = PushedRow(
        change_id=change_id,
        table=change.table,
        id=change.id,
        op=change.op,  # type: ignore[arg-type]
        data=_NULL if data is None else msgspec.Raw(msgspec.json.encode(data)),
        meta={name: text for name, text in meta.items() if name not in INTERNAL_FIELDS},
        schema=SCHEMA,
        actor=_actor(change, user),
        origin=_origin(change),
        space=_space(change, known, user, spaces),
    )
    return ReadChange(row, taken_back)


def _time_of(change: SentChange, known: dict[str, Any], clock: _Clock) -> Stamp | None:
    """When what has no stamp of its own was written.

    None for an insert that does not say: whatever is written later, or was before it came, wins
    over it.
    """
    if change.at:
        return _stamp(change.at, "at")
    if change.op == "insert":
        said = (read_stamp(known.get(field)) for field in ("updatedAt", "createdAt"))
        return next((stamp for stamp in said if stamp is not None), None)
    return Stamp(clock.now_ns, clock.text)


def _kept(change: SentChange, data: dict[str, msgspec.Raw] | None) -> dict[str, Any]:
    """The data, decoded, if every reader of the log can keep it; raises SyncRefused."""
    if data is None:
        return {}
    try:
        text = msgspec.json.encode(data).decode()
    except (ValueError, msgspec.MsgspecError) as exc:
        raise SyncRefused(400, "data is not JSON that can be kept", field="data") from exc
    if len(text.encode()) > MAX_ROW_BYTES:
        raise SyncRefused(413, f"over {MAX_ROW_BYTES} bytes", field="data")
    if NUL.search(text):
        raise SyncRefused(400, "a NUL character", field="data")
    read = merge.read_change("", 0, change.op, text, "{}")
    if read.problem:
        raise SyncRefused(400, read.problem, field="data")
    return read.data or {}


def _stamp(text: str, field: str) -> Stamp:
    stamp = read_text(text)
    if stamp is None:
        raise SyncRefused(400, f"{field} is no instant", field=field)
    return stamp


def _actor(change: SentChange, user: str) -> msgspec.Raw:
    """Who the change says did it, but never another person than the one who is signed in."""
    if change.actor is None:
        return _NULL
    said = change.actor
    kind, principal = (_text(said.get(name)) for name in ("kind", "principalId"))
    if kind == USER and principal not in (user, LEGACY_USER, None):
        said = {**said, "principalId": msgspec.Raw(msgspec.json.encode(user))}
    text = msgspec.json.encode(said).decode()
    is_kept = len(text) <= MAX_ACTOR_BYTES and not NUL.search(text)
    if not is_kept or merge.read_change("", 0, "update", text, "{}").problem:
        raise SyncRefused(400, "actor cannot be kept", field="actor")
    return msgspec.Raw(text.encode())


def _text(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


def _origin(change: SentChange) -> str | None:
    if change.origin and (len(change.origin) > 64 or not _is_keepable(change.origin)):
        raise SyncRefused(400, "origin cannot be kept", field="origin")
    return change.origin or None


def _space(
    change: SentChange, known: dict[str, Any], user: str, spaces: tuple[str, ...]
) -> str | None:
    """The space that the change names first: by itself, in its data, in its fields."""
    named = change.space_id or known.get("spaceId")
    if not isinstance(named, str) or not named:
        return None
    if named != personal_space(user) and (named not in spaces or named.startswith("_personal:")):
        raise SyncRefused(403, "not a member of the space", field="spaceId")
    return named


def _is_keepable(text: str) -> bool:
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)


# --- sent -----------------------------------------------------------------------------------------


class ToldField(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field's value, and when it was written as far as its row says."""

    value: Any
    at: str | None = None


class ToldRow(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A row as it stands in the log; one that is unreadable changes nothing, whatever it says."""

    data: Any = None
    field_meta: Any = None
    is_unreadable: bool = False


class ToldChange(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A row as devices are sent it; `created_at` is its place in the order of the log.

    `row` is there where the other members do not say all of it, as for rows of other writers.
    """

    event_id: str
    schema_version: int | None
    table: str
    id: str
    op: str
    data: Any = None
    fields: dict[str, ToldField] | None = None
    deleted_at: str | None = None
    space_id: str | None = None
    actor: Any = None
    origin: str | None = None
    created_at: str | None = None
    row: ToldRow | None = None


class Conflict(msgspec.Struct, frozen=True, rename="camel"):
    """A field that the device wrote, and whose value is another's, or whose time is."""

    table: str
    id: str
    field: str
    reason: LostReason
    at: str
    server_at: str


class LostField(msgspec.Struct, frozen=True):
    """Why a field is not as it was sent, and the stamp that is in force."""

    reason: LostReason
    at: str


class Result(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of a change; not `is_compared`: nobody looked who has won its fields."""

    change_id: str
    status: Literal["applied", "duplicate", "lost"]
    fields: dict[str, LostField]
    created_at: str
    is_compared: bool = True


class Delivery(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The answer to a pull, and to a push with `results`."""

    server_changes: list[ToldChange]
    conflicts: list[Conflict] | None
    synced_until: str
    has_more: bool = False
    server_time: str | None = None
    results: list[Result] | None = None


def told(row: FeedRow) -> ToldChange:
    """The row as devices are sent it."""
    read = merge.read_change(row.id, row.created_us, row.op, row.data, row.field_meta)
    created_at = format_instant(row.created_us * NS_PER_US)
    stamps = _stamps(read)
    values = _object(read.data)
    data: Any = None
    fields: dict[str, ToldField] | None = None
    deleted_at: str | None = None
    match row.op:
        case "insert":
            data = msgspec.Raw((row.data or "null").encode())
            if not merge.defect(read):
                data = _tidy(read.data)
            fields = {
                name: ToldField(value, at)
                for name, value in values.items()
                if (at := stamps.get(name)) is not None  # one without is older than all
            } or None
        case "update":
            fields = {
                name: ToldField(value, stamps.get(name) or created_at)
                for name, value in values.items()
                if name not in INTERNAL_FIELDS
            }
        case _:
            at = values.get("deletedAt")
            deleted_at = at if isinstance(at, str) and at else None
    return ToldChange(
        event_id=row.id,
        schema_version=max(row.schema_version, SCHEMA),
        table=row.table,
        id=row.record,
        op=row.op,
        data=data,
        fields=fields,
        deleted_at=deleted_at,
        space_id=row.space or None,
        actor=_json(row.actor),
        origin=row.origin or None,
        created_at=created_at,
        row=_told_whole(read, stamps),
    )


def _told_whole(read: Change, stamps: dict[str, str | None]) -> ToldRow | None:
    """The row as it stands, where `fields`, `data` and `deletedAt` would give another merge."""
    if merge.defect(read) is not None:
        return ToldRow(is_unreadable=True)
    data, meta = read.data or {}, read.field_meta or {}
    names = data.keys() - INTERNAL_FIELDS
    if read.op == "delete":
        is_said = isinstance(data.get("deletedAt") or "", str)
    else:
        is_said = stamps.keys() <= names and all(stamps.values())
        if read.op == "update":
            is_said = is_said and names == stamps.keys() and bool(names)
    return None if is_said else ToldRow(data, meta)


def _stamps(read: Change) -> dict[str, str | None]:
    """The stamp of each of a row's slots; None where it holds none that can be read."""
    stamps: dict[str, str | None] = {}
    for name, raw in _object(read.field_meta).items():
        if name not in INTERNAL_FIELDS:
            text = cast("dict[str, Any]", raw).get("at") if isinstance(raw, dict) else raw
            is_stamp = isinstance(text, str) and parse_instant(text) is not None
            stamps[name] = text if is_stamp else None
    return stamps


def _object(found: object) -> dict[str, Any]:
    """What a column of the log holds, if that is an object: anything may stand there."""
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _tidy(data: dict[str, Any] | None) -> Any:
    """An object with its names in order, as devices have always been sent them."""
    return None if data is None else msgspec.Raw(_sorted.encode(data))


def _json(text: str | None) -> Any:
    if text is None or text == "null":
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.Raw(text.encode())
