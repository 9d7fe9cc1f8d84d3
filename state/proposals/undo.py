"""Taking back what carrying out wrote, as changes with stamps of their own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from state.log import merge
from state.log.merge import Snapshot
from state.proposals.proposal import Written


class TakeBack(msgspec.Struct, frozen=True):
    """What undoes one written row: fields to set anew, or the record to hide."""

    op: Literal["update", "delete", "nothing"]
    fields: Mapping[str, Any] = {}


class CannotTakeBack(Exception):
    """Somebody wrote there since; names what."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def take_back(written: Written, now: Snapshot) -> TakeBack:
    """What puts the record back; raises CannotTakeBack where a newer write would be lost.

    A record that is gone by now needs nothing where it was made, and cannot be changed back else.
    """
    if merge.hidden(now) and written.op != "delete":
        if written.op == "insert":
            return TakeBack("nothing")
        raise CannotTakeBack(f"{written.table} {written.id} was deleted since")
    if written.op == "insert":
        newer = [name for name in now.fields if now.stamps.get(name) != written.stamps.get(name)]
        if newer:
            raise CannotTakeBack(f"{written.table} {written.id} was changed since: {newer[0]}")
        return TakeBack("delete")
    for name, stamp in written.stamps.items():
        if now.stamps.get(name) != stamp:
            raise CannotTakeBack(f"{written.table} {written.id} was changed since: {name}")
    # A client clears a field by null, and so do we where there was none.
    return TakeBack("update", {name: written.before.get(name) for name in written.stamps})


def inherited(older: Written, undone: Written, stamps: Mapping[str, str]) -> Written:
    """`older` once `undone`, which had overwritten it, is taken back with these stamps.

    Its values are back, under new stamps: nobody has changed them since.
    """
    if (older.app, older.table, older.id) != (undone.app, undone.table, undone.id):
        return older
    back = {
        name: stamps[name]
        for name, stamp in older.stamps.items()
        if name in stamps and undone.replaced.get(name) == stamp
    }
    return msgspec.structs.replace(older, stamps={**older.stamps, **back}) if back else older
