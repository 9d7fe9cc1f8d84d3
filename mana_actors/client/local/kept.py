"""One record as a client keeps it: the log's own merge, and who wrote each field. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from state.log import merge
from state.log.merge import Change, Snapshot
from state.log.principals import Actor, normalize_actor
from state.log.stamps import parse_instant

REPLAYED = "server-replay"
"""The origin of what others wrote, or this person on another device."""


class LocalRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the log as a client has it, or one that it has yet to push.

    `created_us` is the server's time of the row in µs; `mine`: this store wrote it.
    """

    id: str
    app: str
    table: str
    record: str
    op: str
    data: dict[str, Any] | None = None
    field_meta: dict[str, Any] = {}
    actor: Actor | None = None
    origin: str | None = None
    space: str | None = None
    created_us: int = 0
    mine: bool = False


class FieldMeta(msgspec.Struct, frozen=True):
    """When a field was written (its stamp, else its row's time), by whom, and how it came."""

    at: str
    actor: Actor
    origin: str


class KeptRecord(msgspec.Struct, frozen=True):
    """A record after some rows; `snapshot` is what `state.log.merge.fold` makes of them."""

    snapshot: Snapshot
    meta: dict[str, FieldMeta] = {}

    @property
    def is_hidden(self) -> bool:
        """Whether the record is gone: never established, hard deleted, or `deletedAt` is set."""
        return merge.hidden(self.snapshot)

    @property
    def updated_at(self) -> str:
        """When its newest field was written; "" where no field says."""
        return derive_updated_at(self.meta)


NOTHING = KeptRecord(Snapshot())


def change_of(row: LocalRow) -> Change:
    """The row as the merge takes it."""
    return Change(row.id, row.created_us, row.op, row.data, dict(row.field_meta))


def folded(before: KeptRecord, rows: Sequence[LocalRow]) -> KeptRecord:
    """The record after `rows`, which are in row order and come after all that it was made of."""
    changes, by_id = [change_of(row) for row in rows], {row.id: row for row in rows}
    wrote: dict[str, Change] = {}
    after = merge.fold(before.snapshot, changes, wrote)
    meta: dict[str, FieldMeta] = {}
    for name in after.fields:
        change = wrote.get(name)
        if change is None:
            meta[name] = before.meta[name]
            continue
        row = by_id[change.id]
        at = after.stamps.get(name) or merge.fallback_stamp(change).text
        origin = (row.origin or "user") if row.mine else REPLAYED
        meta[name] = FieldMeta(at, normalize_actor(row.actor), origin)
    return KeptRecord(after, meta)


def emptied(record: KeptRecord) -> KeptRecord:
    """What stays of a record that is gone: since when, and when its fields were written."""
    whole = record.snapshot
    fields = {name: at for name, at in whole.fields.items() if name == "deletedAt"}
    meta = {name: one for name, one in record.meta.items() if name in fields}
    return KeptRecord(msgspec.structs.replace(whole, fields=fields), meta)


def row_order(row: LocalRow) -> tuple[int, str]:
    """What rows of a record are sorted by."""
    return row.created_us, row.id


def derive_updated_at(meta: Mapping[str, FieldMeta]) -> str:
    """The greatest `at` of a record's fields, as an instant; "" if there is none."""
    return max((one.at for one in meta.values()), key=_instant, default="")


def updated_index(record: KeptRecord) -> int:
    """`derive_updated_at` as a number to sort by, in ms since the epoch; 0 if there is none."""
    return max((_instant(one.at) for one in record.meta.values()), default=0) // 1_000_000


def _instant(text: str) -> int:
    return parse_instant(text) or 0


class Overwritten(msgspec.Struct, frozen=True, rename="camel"):
    """A value that this person wrote here and that something newer has replaced."""

    table_name: str
    record_id: str
    field: str
    was_local: Any
    now_server: Any
    local_time: str
    server_time: str


def overwritten(
    table: str, record_id: str, before: KeptRecord, after: KeptRecord
) -> Iterable[Overwritten]:
    """What somebody may want to be told of: own values, not empty, replaced by newer others."""
    for name, is_now in after.meta.items():
        was = before.meta.get(name)
        if was is None or was.origin != "user" or is_now.origin != REPLAYED:
            continue
        value, new = before.snapshot.fields[name], after.snapshot.fields[name]
        is_newer = _instant(is_now.at) > _instant(was.at)
        if is_newer and value is not None and not same(value, new):
            yield Overwritten(
                table_name=table,
                record_id=record_id,
                field=name,
                was_local=value,
                now_server=new,
                local_time=was.at,
                server_time=is_now.at,
            )


_sorted = msgspec.json.Encoder(order="sorted")


def same(one: object, other: object) -> bool:
    """Whether they are the same JSON; to Python, true and 1 are equal."""
    return one is other or _sorted.encode(one) == _sorted.encode(other)
