"""Last-writer-wins: change rows of one record folded into its snapshot (data-model §2.3).

There is one merge function, `fold`. A row that cannot be merged is counted and skipped, as a pure
function of the row, so that a replay of the log always equals a fold of its batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from state.log.stamps import NS_PER_US, Stamp, clamp, format_instant, parse_instant, read_stamp

OPS = frozenset({"insert", "update", "delete"})
INTERNAL_FIELDS = frozenset({"id", "__fieldMeta", "_updatedAtIndex"})  # never merged as data
MAX_ID_BYTES = 512
MAX_DEPTH = 128
MAX_TEXT_CHARS = 8 * 1024 * 1024
_LONGEST_NUMBER = 308  # digits of an integer that still fits a double
_LONG_NUMBER = re.compile(r"[0-9]{309}")
_LOW = (1 << 64) - 1


class Change(msgspec.Struct, frozen=True):
    """One row of `sync_changes`: `created_at` in µs since the epoch, `id` a lowercase uuid."""

    id: str
    created_at: int
    op: str
    data: dict[str, Any] | None
    field_meta: dict[str, Any] | None
    user_id: str = ""
    problem: str = ""  # why the row could not be read; such a row is counted and skipped


class TableRows(msgspec.Struct, frozen=True):
    """Rows of a table by record, each in row order; `left_out` records were not read."""

    changes: dict[str, list[Change]]
    left_out: int = 0


class Snapshot(msgspec.Struct):
    """One record as of the rows folded; `newest_*` is the last of them in row order (µs, uuid)."""

    fields: dict[str, Any]
    stamps: dict[str, str]
    exists: bool = False
    complete: bool = False  # an insert row was seen
    newest_at: int = 0
    newest_id: str = ""
    count: int = 0
    digest: int = 0  # signed 64 bit xor over the change ids


def new_snapshot() -> Snapshot:
    """A record of which no row was seen."""
    return Snapshot(fields={}, stamps={})


EMPTY = new_snapshot()  # shared: fold copies it, nobody may change it


def is_late(snapshot: Snapshot, change: Change) -> bool:
    """Whether `change` is not strictly after all rows folded: its record must be replayed."""
    return (change.created_at, change.id) <= (snapshot.newest_at, snapshot.newest_id)


def hidden(snapshot: Snapshot) -> bool:
    """Whether the record is gone: never established, hard deleted, or `deletedAt` is set."""
    return not snapshot.exists or snapshot.fields.get("deletedAt") not in (None, "")


def fold(snapshot: Snapshot | None, changes: Sequence[Change]) -> Snapshot:
    """The snapshot after `changes`, which are sorted by `(created_at, id)` and not late."""
    after = _copy(snapshot or EMPTY)
    for change in changes:
        _count(after, change)
        if defect(change) is None:
            _merge(after, change)
    return after


def skip_row(snapshot: Snapshot, change: Change) -> Snapshot:
    """The snapshot with `change` counted but not merged: what `fold` does with a defective row."""
    after = _copy(snapshot)
    _count(after, change)
    return after


def defect(change: Change) -> str | None:
    """Why this row cannot be merged, naming the field and never its value, or None."""
    if change.problem:
        return change.problem
    if change.op not in OPS:
        return "op: unknown, expected insert, update or delete"
    if change.data is not None and type(cast("object", change.data)) is not dict:
        return "data: not an object"
    if change.field_meta is not None and type(cast("object", change.field_meta)) is not dict:
        return "field_meta: not an object"
    if len(change.user_id) > MAX_ID_BYTES // 4 and too_long(change.user_id):
        return f"user_id: over {MAX_ID_BYTES} bytes"
    return None


def defects(changes: Iterable[Change]) -> list[tuple[Change, str]]:
    """The rows that `fold` skips, each with its reason, for the quarantine table."""
    found = ((change, defect(change)) for change in changes)
    return [(change, reason) for change, reason in found if reason is not None]


def change_digest(change_id: str) -> int:
    """Upper xor lower half of the uuid, signed 64 bit, for `bit_xor` in SQL; 0 if it is no uuid."""
    try:
        number = int(change_id.replace("-", ""), 16)
    except ValueError:
        return 0
    mixed = (number >> 64 ^ number) & _LOW
    return mixed - (1 << 64) if mixed >> 63 else mixed


def too_long(text: str) -> bool:
    """Whether an id takes more than 512 bytes in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES


# --- merging one row ------------------------------------------------------------------------------


def _copy(snapshot: Snapshot) -> Snapshot:
    # Shallow on purpose: values are replaced whole and never changed in place.
    return Snapshot(
        dict(snapshot.fields),
        dict(snapshot.stamps),
        snapshot.exists,
        snapshot.complete,
        snapshot.newest_at,
        snapshot.newest_id,
        snapshot.count,
        snapshot.digest,
    )


def _count(snapshot: Snapshot, change: Change) -> None:
    snapshot.count += 1
    snapshot.digest ^= change_digest(change.id)
    row = (change.created_at, change.id)
    snapshot.newest_at, snapshot.newest_id = max(row, (snapshot.newest_at, snapshot.newest_id))


def _merge(snapshot: Snapshot, change: Change) -> None:
    if change.op == "delete":
        _delete(snapshot, change)
        return
    if change.op == "insert":
        snapshot.complete = True
    if snapshot.exists:
        _write_fields(snapshot, change)
    else:
        _establish(snapshot, change)


def _establish(snapshot: Snapshot, change: Change) -> None:
    """Take `data` whole; a field without a slot in `field_meta` gets no stamp: any edit wins."""
    snapshot.exists = True
    for field, value in (change.data or {}).items():
        if field not in INTERNAL_FIELDS:
            snapshot.fields[field] = value
    for field, raw in (change.field_meta or {}).items():
        if (
            field not in INTERNAL_FIELDS
        ):  # also for fields absent from data: the stamp guards them later
            snapshot.stamps[field] = (read_stamp(raw) or _row_stamp(change)).text


def _write_fields(snapshot: Snapshot, change: Change) -> None:
    meta: dict[str, Any] = change.field_meta or {}
    fallback: Stamp | None = None
    for field, value in (change.data or {}).items():
        if field in INTERNAL_FIELDS:
            continue
        stamp = read_stamp(meta.get(field))
        if stamp is None:
            stamp = fallback = fallback or _fallback(change)
        _write(snapshot, field, value, stamp)


def _write(snapshot: Snapshot, field: str, value: object, stamp: Stamp) -> None:
    """Set one field unless its stamp is newer; a tie goes to the later row."""
    current = snapshot.stamps.get(field)
    if current is not None and stamp.instant < (parse_instant(current) or 0):
        return
    snapshot.fields[field] = value
    snapshot.stamps[field] = stamp.text


def _fallback(change: Change) -> Stamp:
    """The stamp of an unstamped field of a row that meets an existing record."""
    if change.op == "insert" and change.data:
        for field in ("updatedAt", "createdAt"):  # what clients use
            stamp = read_stamp(change.data.get(field))
            if stamp is not None:
                return stamp
    return _row_stamp(change)


def _row_stamp(change: Change) -> Stamp:
    instant = clamp(change.created_at * NS_PER_US)
    return Stamp(instant, format_instant(instant))


def _delete(snapshot: Snapshot, change: Change) -> None:
    at = (change.data or {}).get("deletedAt")
    if at is None or at == "":
        snapshot.fields, snapshot.stamps, snapshot.exists = {}, {}, False
        return
    snapshot.exists = True
    _write(snapshot, "deletedAt", at, read_stamp(at) or _row_stamp(change))


# --- rows as Postgres gives them ------------------------------------------------------------------


def read_change(
    change_id: str,
    created_at_us: int,
    op: str,
    data_text: str | None,
    field_meta_text: str | None,
    *,
    user_id: str = "",
    record_id: str = "",
) -> Change:
    """The row as a change; what cannot be read becomes its `problem`, never an exception."""
    data, problem = _json(data_text, "data")
    meta, meta_problem = _json(field_meta_text, "field_meta")
    if record_id and too_long(record_id):
        problem = f"record_id: over {MAX_ID_BYTES} bytes"
    problem = problem or meta_problem
    if problem:
        data = meta = None
    return Change(change_id, created_at_us, op, data, meta, user_id, problem)


def decode_change(
    change_id: str,
    created_at_us: int,
    op: str,
    data_text: str | None,
    field_meta_text: str | None,
    *,
    user_id: str = "",
    record_id: str = "",
) -> Change | str:
    """The row as a change, or the reason why it is quarantined."""
    change = read_change(
        change_id,
        created_at_us,
        op,
        data_text,
        field_meta_text,
        user_id=user_id,
        record_id=record_id,
    )
    return defect(change) or change


def _json(text: str | None, field: str) -> tuple[Any, str]:
    """A JSON value, or why it was refused: a pure function of the text."""
    if text is None:
        return None, ""
    if len(text) > MAX_TEXT_CHARS:
        return None, f"{field}: over {MAX_TEXT_CHARS} characters"
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        return None, f"{field}: nested too deeply"
    except (msgspec.MsgspecError, ValueError):
        return None, f"{field}: not JSON that can be kept"
    return value, _excess(text, value, field)


def _excess(text: str, value: object, field: str) -> str:
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return f"{field}: nested too deeply"
    if _may_hold_long_number(text) and _has_huge_integer(value):
        return f"{field}: number out of range"
    return ""


def _depth(value: object) -> int:
    """How many containers deep `value` is, level by level, so that no input exhausts the stack."""
    depth, level = 0, [value]
    while level := [child for node in level for child in _children(node)]:
        depth += 1
    return depth


def _children(node: object) -> list[Any]:
    if isinstance(node, dict):
        return list(cast("dict[str, Any]", node).values()) or [None]
    if isinstance(node, list):
        return cast("list[Any]", node) or [None]
    return []


def _may_hold_long_number(text: str) -> bool:
    # A run of 309 digits covers one of every 309 positions: look at those alone.
    return any(
        text[at].isdigit()
        and _LONG_NUMBER.search(text, max(0, at - _LONGEST_NUMBER), at + _LONGEST_NUMBER + 1)
        for at in range(_LONGEST_NUMBER, len(text), _LONGEST_NUMBER + 1)
    )


def _has_huge_integer(value: object) -> bool:
    level = [value]
    while level:
        if any(isinstance(node, int) and abs(node) >= 10**_LONGEST_NUMBER for node in level):
            return True
        level = [child for node in level for child in _children(node)]
    return False


# --- stored records -------------------------------------------------------------------------------


def encode_record(snapshot: Snapshot) -> bytes:
    """The record as JSON, its stamps under `__fieldMeta` as `{field: iso}`."""
    return msgspec.json.encode({**snapshot.fields, "__fieldMeta": snapshot.stamps})


def decode_record(
    raw: bytes | str,
    *,
    exists: bool = True,
    complete: bool = False,
    newest_at: int = 0,
    newest_id: str = "",
    count: int = 0,
    digest: int = 0,
) -> Snapshot:
    """The snapshot stored as `raw` (JSON); object stamps become text, unusable ones none."""
    record: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    meta = record.get("__fieldMeta")
    fields = {field: value for field, value in record.items() if field not in INTERNAL_FIELDS}
    return Snapshot(
        fields, _stored_stamps(meta), exists, complete, newest_at, newest_id, count, digest
    )


def _stored_stamps(meta: object) -> dict[str, str]:
    if not isinstance(meta, dict):
        return {}
    read = {field: read_stamp(raw) for field, raw in cast("dict[str, Any]", meta).items()}
    return {field: stamp.text for field, stamp in read.items() if stamp is not None}
