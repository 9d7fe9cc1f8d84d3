"""When two whole-array writes of `iterations` met and one erased the other's entries.

`iterations` is one last-writer-wins field that two sides append to, so either side's write
can erase the other's entries. The log still has both: `repair` puts them together by iteration id,
once for each server iteration; a second removal is the owner's will.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

from state.log.iterations import Iteration, keep_newest, merge_iterations, started_at

ById = dict[str, Iteration]


class Version(msgspec.Struct, frozen=True):
    """One logged value of the array, and whether it was this service that wrote it."""

    iterations: object
    is_ours: bool = False


class Repair(msgspec.Struct, frozen=True):
    """The array to write, and the server iterations it heals; each is healed only once."""

    iterations: list[Iteration]
    ids: list[str]


def array(raw: object) -> list[Iteration]:
    """The iterations of one logged version; anything that is not an object is left out."""
    if not isinstance(raw, list):
        return []
    return [cast("Iteration", entry) for entry in cast("list[Any]", raw) if isinstance(entry, dict)]


def needs_healing(before: object, writes: Sequence[object], after: object) -> bool:
    """Whether `after` lacks a server iteration, or a write lost entries because of one."""
    now = _by_id(after)
    arrays = [_by_id(version) for version in (before, *writes)]
    if any(_is_server(entry) and id_ not in now for ids in arrays for id_, entry in ids.items()):
        return True
    ours = {id_ for id_, entry in now.items() if _is_server(entry)}
    return any(_lost(written, now, ours) for written in arrays[1:])


def repair(
    current: object, versions: Sequence[Version], healable: AbstractSet[str]
) -> Repair | None:
    """What to write so that `current` has what it lost again, or None where nothing may be healed.

    `versions` are oldest logged first; `healable` are server iterations never put back before.
    """
    now = _by_id(current)
    theirs = _last(versions, is_ours=False)
    dropped = _dropped(now, versions, healable)
    lost = _lost(theirs, now, healable)
    nameless = [entry for entry in array(current) if not isinstance(entry.get("id"), str)]
    restored = {**now, **dropped, **lost}.values()
    whole = keep_newest(merge_iterations([[*nameless, *restored]]))
    if _by_id(whole) == now:
        return None
    unseen = {id_ for id_ in healable if id_ in now and id_ not in theirs} if lost else set[str]()
    return Repair(whole, sorted({*dropped, *unseen}))


def _dropped(now: ById, versions: Sequence[Version], healable: AbstractSet[str]) -> ById:
    """Server iterations that are gone, as last logged; those cut off for their age are not."""
    newest: ById = {}
    for version in versions:
        newest.update(_by_id(version.iterations))
    kept_by_us = _last(versions, is_ours=True)
    oldest = min((started_at(entry) for entry in now.values()), default=None)
    return {
        id_: entry
        for id_, entry in newest.items()
        if id_ in healable
        and id_ not in now
        and (id_ in kept_by_us or (oldest is not None and started_at(entry) >= oldest))
    }


def _lost(theirs: ById, now: ById, server_ids: AbstractSet[str]) -> ById:
    """What a client wrote in vain because it had not seen a server iteration that `now` holds."""
    if all(id_ in theirs or id_ not in now for id_ in server_ids):
        return {}
    return {id_: entry for id_, entry in theirs.items() if now.get(id_) != entry}


def _last(versions: Sequence[Version], *, is_ours: bool) -> ById:
    return _by_id(next((v.iterations for v in reversed(versions) if v.is_ours == is_ours), None))


def _is_server(entry: Iteration) -> bool:
    return entry.get("source") == "server"


def _by_id(raw: object) -> ById:
    return {entry["id"]: entry for entry in array(raw) if isinstance(entry.get("id"), str)}
