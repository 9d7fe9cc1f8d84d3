"""What became of a pushed change, by the merge of all rows that its record has. Pure."""

import msgspec

from state.log import merge
from state.log.merge import INTERNAL_FIELDS, Change
from state.log.stamps import NS_PER_US, format_instant, stamp_text
from state.store.gateway.sync_feeds import Histories, Pushed
from supervisor.gateway.sync.wire import Conflict, LostField, ReadChange, Result


class Verdict(msgspec.Struct, frozen=True):
    """A change's result, and a conflict for each of its fields that somebody else has won."""

    result: Result
    conflicts: list[Conflict]


def verdict(
    read: ReadChange, pushed: Pushed, met: Histories, *, author: str, client: str
) -> Verdict:
    """What a device is told of its change.

    What its own later changes replaced is no loss, so nothing is lost in a record that nobody
    else wrote. Of one with too long a history nothing more is said than that the change was
    taken.
    """
    row = read.row
    told = {name: LostField("future-stamp", at) for name, at in read.taken_back.items()}
    rows = met.get((row.table, row.id), [])
    wrote: dict[str, Change] = {}
    record = merge.fold(None, [one.change for one in rows], wrote)
    own = {one.change.id for one in rows if (one.author, one.client) == (author, client)}
    change = next((one.change for one in rows if one.change.id == row.change_id), None)
    names = [name for name in (change.data or {}) if name not in INTERNAL_FIELDS] if change else []
    conflicts: list[Conflict] = []
    for name in names:
        winner = wrote.get(name)
        if winner is None or winner.id == row.change_id or winner.id in own:
            continue
        in_force = record.stamps.get(name) or format_instant(winner.created_at * NS_PER_US)
        told.setdefault(name, LostField("older", in_force))
        conflicts.append(
            Conflict(
                table=row.table,
                id=row.id,
                field=name,
                reason="older",
                at=_sent_at(change, name),
                server_at=in_force,
            )
        )
    is_lost = bool(names) and len(conflicts) == len(names)
    created_at = format_instant(pushed.created_us * NS_PER_US)
    # A device that is told of a duplicate reads it back: stamps that were taken back then differ.
    status = "duplicate" if not pushed.is_new else "lost" if is_lost else "applied"
    return Verdict(Result(row.change_id, status, told, created_at), conflicts)


def _sent_at(change: Change | None, name: str) -> str:
    assert change is not None  # or it had no fields
    said = stamp_text((change.field_meta or {}).get(name))
    if said is None and name == "deletedAt":
        said = stamp_text((change.data or {}).get(name))
    return said or format_instant(change.created_at * NS_PER_US)
