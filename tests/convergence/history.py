"""What must hold of a run: pure, from what the log has and what each device did and saw."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from mana_actors.client.local.kept import KeptRecord, emptied
from state.log import merge
from state.log.merge import Change, Snapshot
from state.log.stamps import parse_instant

BY = "by"  # the field in which each transaction writes its own name
Cell = tuple[str, str]  # record, field


class Seen(msgspec.Struct):
    """What one device did and saw: its transactions, and its reads in their order.

    `kept` were acknowledged to the program; `begun` may be there or not. By name, the records.
    `purges`: it keeps no row longer than it must, and no value of a record that is gone.
    """

    device: str
    purges: bool = False
    begun: dict[str, frozenset[str]] = msgspec.field(default_factory=dict[str, frozenset[str]])
    kept: set[str] = msgspec.field(default_factory=set[str])
    reads: list[dict[Cell, str]] = msgspec.field(default_factory=list[dict[Cell, str]])


def replay(log: Mapping[str, list[Change]]) -> dict[str, Snapshot]:
    """By record, what the log's rows give."""
    return {record: merge.fold(None, changes) for record, changes in log.items()}


def anomalies(
    log: Mapping[str, list[Change]], seen: Iterable[Seen], final: Mapping[str, dict[str, Snapshot]]
) -> list[str]:
    """Each promise that is broken, in words; `final` is by device, once all is quiet."""
    told = list(seen)
    truth = replay(log)
    found = list(_torn(log, told))
    ranks = _ranks(log)
    for one in told:
        found += _back_in_time(one, ranks)
    purging = {one.device for one in told if one.purges}
    for device, records in final.items():
        for record in truth.keys() | records.keys():
            want, have = truth.get(record, Snapshot()), records.get(record, Snapshot())
            if device in purging and merge.hidden(want) and merge.hidden(have):
                want, have = (emptied(KeptRecord(one)).snapshot for one in (want, have))
            if (want.fields, want.stamps, want.exists) != (have.fields, have.stamps, have.exists):
                found.append(f"{device} has another {record}: {_difference(want, have)}")
    return found


def _torn(log: Mapping[str, list[Change]], seen: list[Seen]) -> Iterable[str]:
    """Transactions that are not there whole, once, and in the records that they were about."""
    there: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record, changes in log.items():
        for change in changes:
            if change.data and BY in change.data:
                there[change.data[BY]][record] += 1
    for one in seen:
        for name, records in one.begun.items():
            rows = there.pop(name, Counter[str]())
            if name in one.kept and not rows:
                yield f"lost: transaction {name}"
            elif rows and rows.keys() != records:
                yield f"torn: transaction {name} is in {sorted(rows)} of {sorted(records)}"
            if any(count > 1 for count in rows.values()):
                yield f"doubled: transaction {name}: {dict(rows)}"
    if there:
        yield f"nobody's: {sorted(there)}"


def _ranks(log: Mapping[str, list[Change]]) -> dict[Cell, dict[str, int]]:
    """By field, its values in the order in which they overcome each other."""
    ranks: dict[Cell, dict[str, int]] = {}
    for record, changes in log.items():
        order: defaultdict[str, list[tuple[int, int, str, str]]] = defaultdict(list)
        for change in changes:
            for name, value in (change.data or {}).items():
                stamp = (change.field_meta or {}).get(name)
                at = parse_instant(stamp) if isinstance(stamp, str) else None
                instant = at if at is not None else merge.fallback_stamp(change).instant
                order[name].append((instant, change.created_at, change.id, str(value)))
        for name, writes in order.items():
            ranks[record, name] = {value: n for n, (*_, value) in enumerate(sorted(writes))}
    return ranks


def _back_in_time(seen: Seen, ranks: Mapping[Cell, Mapping[str, int]]) -> Iterable[str]:
    """Fields that a device showed new, and then old again."""
    newest: dict[Cell, tuple[int, str]] = {}
    for read in seen.reads:
        for cell, value in read.items():
            rank = ranks.get(cell, {}).get(value)
            if rank is None:  # its own, not pushed: the process was killed before it was kept
                continue
            before = newest.get(cell)
            if before is not None and rank < before[0]:
                yield f"{seen.device} read {cell} back in time: {value} after {before[1]}"
            newest[cell] = (rank, value)


def _difference(want: Snapshot, have: Snapshot) -> str:
    names = sorted(
        name
        for name in want.fields.keys() | have.fields.keys()
        if (want.fields.get(name), want.stamps.get(name))
        != (have.fields.get(name), have.stamps.get(name))
    )
    return ", ".join(
        f"{name}={have.fields.get(name)!r}@{have.stamps.get(name)}"
        f" for {want.fields.get(name)!r}@{want.stamps.get(name)}"
        for name in names
    )
