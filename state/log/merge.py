"""Last writer wins, field by field: the change rows of one record folded into its snapshot.

There is one merge function, `fold`, and every reader uses it. Whether a row can be merged depends
on that row alone; one that cannot is counted and skipped. So a replay of the whole log always gives
the same record as folding it batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
    """The rows of a table by record id, each in row order; `left_out` counts records not read."""

    changes: dict[str, list[Change]]
    left_out: int = 0


class Snapshot(msgspec.Struct):
    """One record as of the rows folded so far; `newest_*` is the last of them (µs, uuid).

    `Snapshot()` is a record of which no row was seen.
    """

    fields: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    stamps: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    exists: bool = False
    complete: bool = False  # an insert row was seen
    newest_at: int = 0
    newest_id: str = ""
    count: int = 0
    digest: int = 0  # signed 64 bit xor over the change ids


def is_late(snapshot: Snapshot, change: Change) -> bool:
    """Whether `change` does not come after all rows folded, so that its record must be replayed."""
    return (change.created_at, change.id) <= (snapshot.newest_at, snapshot.newest_id)


def hidden(snapshot: Snapshot) -> bool:
    """Whether the record is gone: never established, hard deleted, or `deletedAt` is set."""
    return not snapshot.exists or snapshot.fields.get("deletedAt") not in (None, "")


def fold(
    snapshot: Snapshot | None,
    changes: Sequence[Change],
    wrote: dict[str, Change] | None = None,
) -> Snapshot:
    """The snapshot after `changes`, which are sorted by `(created_at, id)` and not late.

    `wrote` is filled with the last of them to set each field, also one that is gone again.
    """
    before = snapshot or Snapshot()
    # Values are replaced whole and never changed in place, so shallow copies are enough.
    after = msgspec.structs.replace(before, fields={**before.fields}, stamps={**before.stamps})
    for change in changes:
        after.count += 1
        after.digest ^= change_digest(change.id)
        row = (change.created_at, change.id)
        after.newest_at, after.newest_id = max(row, (after.newest_at, after.newest_id))
        if defect(change) is None:
            written = _merge(after, change)
            if wrote is not None:
                wrote |= dict.fromkeys(written, change)
    return after


def authors(changes: Sequence[Change]) -> dict[str, Change]:
    """By field of the record that these rows make, the row that wrote its value; in row order."""
    wrote: dict[str, Change] = {}
    record = fold(None, changes, wrote)
    return {name: wrote[name] for name in record.fields}


def fallback_stamp(change: Change) -> Stamp:
    """The time of a row's fields that have none: an insert is as old as it says."""
    if change.op == "insert" and change.data:
        for field in ("updatedAt", "createdAt"):  # what clients use
            stamp = read_stamp(change.data.get(field))
            if stamp is not None:
                return stamp
    return _row_stamp(change)


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
    if too_long(change.user_id):
        return f"user_id: over {MAX_ID_BYTES} bytes"
    return None


def defects(changes: Iterable[Change]) -> list[tuple[Change, str]]:
    """The rows that `fold` skips, each with its reason, for the quarantine table."""
    found = ((change, defect(change)) for change in changes)
    return [(change, reason) for change, reason in found if reason is not None]


def change_digest(change_id: str) -> int:
    """Upper xor lower half of the uuid, signed 64 bit, for `bit_xor` in SQL; 0 if not a uuid."""
    try:
        number = int(change_id.replace("-", ""), 16)
    except ValueError:
        return 0
    mixed = (number >> 64 ^ number) & _LOW
    return mixed - (1 << 64) if mixed >> 63 else mixed


def too_long(text: str) -> bool:
    """Whether an id takes more than 512 bytes in UTF-8."""
    if len(text) <= MAX_ID_BYTES // 4:  # a character takes four bytes at most
        return False
    return len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES


# --- merging one row ------------------------------------------------------------------------------


def _merge(snapshot: Snapshot, change: Change) -> list[str]:
    """One sound row into the record, in place; the fields whose values are this row's now."""
    data, meta = change.data or {}, change.field_meta or {}
    if change.op == "delete":
        at = data.get("deletedAt")
        if at is None or at == "":
            snapshot.fields, snapshot.stamps, snapshot.exists = {}, {}, False
            return []
        snapshot.exists = True
        is_newer = _write(snapshot, "deletedAt", at, read_stamp(at) or _row_stamp(change))
        return ["deletedAt"] if is_newer else []
    snapshot.complete = snapshot.complete or change.op == "insert"
    if not snapshot.exists:
        snapshot.exists = True
        whole = {name: data[name] for name in data if name not in INTERNAL_FIELDS}
        snapshot.fields |= whole
        # A field without a slot gets no stamp, so that any edit wins over it. A slot without a
        # field is kept: it guards the field later.
        snapshot.stamps |= {
            name: (read_stamp(raw) or _row_stamp(change)).text
            for name, raw in meta.items()
            if name not in INTERNAL_FIELDS
        }
        return list(whole)
    written: list[str] = []
    fallback: Stamp | None = None
    for name in data:
        if name not in INTERNAL_FIELDS:
            stamp = read_stamp(meta.get(name))
            if stamp is None:
                stamp = fallback = fallback or fallback_stamp(change)
            if _write(snapshot, name, data[name], stamp):
                written.append(name)
    return written


def _write(snapshot: Snapshot, field: str, value: object, stamp: Stamp) -> bool:
    """Set one field unless the record has a newer stamp; a tie goes to the later row."""
    current = snapshot.stamps.get(field)
    if current is not None and stamp.instant < (parse_instant(current) or 0):
        return False
    snapshot.fields[field] = value
    snapshot.stamps[field] = stamp.text
    return True


def _row_stamp(change: Change) -> Stamp:
    instant = clamp(change.created_at * NS_PER_US)
    return Stamp(instant, format_instant(instant))


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
    """The row as a change; what cannot be read becomes its `problem` and never an exception."""
    data, problem = _json(data_text, "data")
    meta, meta_problem = _json(field_meta_text, "field_meta")
    if record_id and too_long(record_id):
        problem = f"record_id: over {MAX_ID_BYTES} bytes"
    problem = problem or meta_problem
    if problem:
        data = meta = None
    return Change(
        id=change_id,
        created_at=created_at_us,
        op=op,
        data=data,
        field_meta=meta,
        user_id=user_id,
        problem=problem,
    )


def _json(text: str | None, field: str) -> tuple[Any, str]:
    """A JSON value, or why it is refused: a pure function of the text."""
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
    may_be_deep = text.count("[") + text.count("{") > MAX_DEPTH
    if may_be_deep and sum(1 for _ in _levels(value)) - 1 > MAX_DEPTH:
        return None, f"{field}: nested too deeply"
    # A run of 309 digits covers one of every 309 positions: look at those alone.
    may_be_huge = len(text) > _LONGEST_NUMBER and any(  # most texts are shorter: no loop is made
        text[at].isdigit()
        and _LONG_NUMBER.search(text, max(0, at - _LONGEST_NUMBER), at + _LONGEST_NUMBER + 1)
        for at in range(_LONGEST_NUMBER, len(text), _LONGEST_NUMBER + 1)
    )
    if may_be_huge and any(
        isinstance(node, int) and abs(node) >= 10**_LONGEST_NUMBER
        for level in _levels(value)
        for node in level
    ):
        return None, f"{field}: number out of range"
    return value, ""


def _levels(value: object) -> Iterator[list[Any]]:
    """The parts of a JSON value level by level, so that no input exhausts the stack."""
    level: list[Any] = [value]
    while level:
        yield level
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):  # an empty container still is a level of its own
                below += list(cast("dict[str, Any]", node).values()) or [None]
            elif isinstance(node, list):
                below += cast("list[Any]", node) or [None]
        level = below


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
    slots = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
    stamps = {field: read_stamp(raw) for field, raw in slots.items()}
    return Snapshot(
        fields={name: value for name, value in record.items() if name not in INTERNAL_FIELDS},
        stamps={field: stamp.text for field, stamp in stamps.items() if stamp is not None},
        exists=exists,
        complete=complete,
        newest_at=newest_at,
        newest_id=newest_id,
        count=count,
        digest=digest,
    )
