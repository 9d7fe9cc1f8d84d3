"""What became of a pushed change, by the merge of all rows that its record has. Pure."""

from collections.abc import Sequence

import msgspec

from state.log import merge
from state.log.merge import INTERNAL_FIELDS, Change, Snapshot
from state.log.stamps import NS_PER_US, format_instant, stamp_text
from state.store.gateway.sync_feeds import Histories, HistoryRow, Pushed
from supervisor.gateway.sync.wire import Conflict, LostField, ReadChange, Result


class Verdict(msgspec.Struct, frozen=True):
    """A change's result, and a conflict for each of its fields that somebody else has won."""

    result: Result
    conflicts: list[Conflict]


class _Judged(msgspec.Struct, frozen=True):
    """A record as all its rows make it, and who wrote each field; `own` are the device's."""

    record: Snapshot
    wrote: dict[str, Change]
    rows: dict[str, Change]  # by id
    own: frozenset[str]


def verdicts(
    read: Sequence[ReadChange],
    pushed: Sequence[Pushed],
    met: Histories,
    *,
    author: str,
    client: str,
) -> list[Verdict]:
    """What a device is told of each of its changes.

    What its own later changes replaced is no loss, so nothing is lost in a record that nobody
    else wrote. One with too long a history is compared with nothing, and it is said so.
    """
    judged = {at: _judged(rows, author, client) for at, rows in met.items() if rows is not None}
    told: list[Verdict] = []
    for change, done in zip(read, pushed, strict=True):
        at = change.row.table, change.row.id
        one = _verdict(change, done, judged.get(at))
        if at in met and at not in judged:
            result = msgspec.structs.replace(one.result, is_compared=False)
            one = Verdict(result, one.conflicts)
        told.append(one)
    return told


def _judged(rows: Sequence[HistoryRow], author: str, client: str) -> _Judged:
    wrote: dict[str, Change] = {}
    record = merge.fold(None, [one.change for one in rows], wrote)
    own = frozenset(one.change.id for one in rows if (one.author, one.client) == (author, client))
    return _Judged(record, wrote, {one.change.id: one.change for one in rows}, own)


def _verdict(read: ReadChange, pushed: Pushed, judged: _Judged | None) -> Verdict:
    row = read.row
    told = {name: LostField("future-stamp", at) for name, at in read.taken_back.items()}
    change = None if judged is None else judged.rows.get(row.change_id)
    names = [name for name in (change.data or {}) if name not in INTERNAL_FIELDS] if change else []
    conflicts: list[Conflict] = []
    if judged is not None and change is not None:
        for name in names:
            winner = judged.wrote.get(name)
            if winner is None or winner.id == row.change_id or winner.id in judged.own:
                continue
            stamp = judged.record.stamps.get(name)
            in_force = stamp or format_instant(winner.created_at * NS_PER_US)
            told.setdefault(name, LostField("older", in_force))
            lost = Conflict(
                table=row.table,
                id=row.id,
                field=name,
                reason="older",
                at=_sent_at(change, name),
                server_at=in_force,
            )
            conflicts.append(lost)
    is_lost = bool(names) and len(conflicts) == len(names)
    created_at = format_instant(pushed.created_us * NS_PER_US)
    # A device that is told of a duplicate reads it back: stamps that were taken back then differ.
    status = "duplicate" if not pushed.is_new else "lost" if is_lost else "applied"
    return Verdict(Result(row.change_id, status, told, created_at), conflicts)


def _sent_at(change: Change, name: str) -> str:
    said = stamp_text((change.field_meta or {}).get(name))
    if said is None and name == "deletedAt":
        said = stamp_text((change.data or {}).get(name))
    return said or format_instant(change.created_at * NS_PER_US)
