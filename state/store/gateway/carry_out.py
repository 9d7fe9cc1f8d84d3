"""Carrying a proposal out: its handler's effects as rows of the owner's log, signed by the agent.

It runs inside the transaction of an answer, so what it writes stands if the answer does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from state.log import merge
from state.log.merge import Change, Snapshot
from state.log.own_changes import RecordAt, Writer
from state.log.tables import is_shared_space
from state.proposals.effects import (
    CannotCarryOut,
    Effect,
    Handler,
    Need,
    NeedsDevice,
    Record,
    Scene,
    TablePlace,
)
from state.proposals.obstacles import ToolRule
from state.proposals.proposal import Proposal, Written
from state.proposals.sealed_fields import writes_sealed
from state.store.gateway.own_log import OwnRecord, OwnWrites
from state.store.rows import logged_change
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

MOST_RECORDS = 2000
DEFAULT_ZONE = "Europe/Berlin"


class ToolShelf(Protocol):
    """The catalogue, as far as carrying out needs it."""

    def rule(self, tool: str) -> ToolRule | None:
        """What a decision about the tool needs, None where there is no such tool."""
        ...

    def checked(self, tool: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Normalised parameters; raises CannotCarryOut naming the one that does not fit."""
        ...


class Answering(msgspec.Struct, frozen=True):
    """Who asks, in which shared spaces, whether their clients seal, and from where."""

    user: str
    spaces: tuple[str, ...] = ()
    has_vault: bool = False
    address: str | None = None
    client: str | None = None


async def carry_out(
    writes: OwnWrites,
    asked: Answering,
    proposal: Proposal,
    handler: Handler,
    *,
    params: Mapping[str, Any],
    space: str | None,
    now: datetime,
) -> tuple[Written, ...]:
    """What was written; new records go into `space`.

    Raises CannotCarryOut, NeedsDevice, ChangeRefused or NoSuchRecord: then the caller rolls back.
    """
    found: dict[TablePlace, Sequence[Record]] = {}
    for need in handler.needs(params):
        found[need.place] = (*found.get(need.place, ()), *await _read(writes, need))
    name = await writes.connection.fetchval(SQL["time_zone"], asked.user)
    try:
        zone = ZoneInfo(name or DEFAULT_ZONE)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo(DEFAULT_ZONE)
    scene = Scene(proposal=proposal.id, params=params, found=found, now=now, zone=zone)
    by = Writer(proposal.actor, "agent")
    written: list[Written] = []
    for effect in handler.effects(scene):
        at = RecordAt(effect.place.app, effect.place.table, effect.id)
        record = await writes.record(at)
        into = space if effect.op == "insert" else record.space
        if await _must_seal(writes, asked, effect, into):
            raise NeedsDevice
        written.append(await _write(writes, effect, record, by, into))
    return tuple(written)


async def _read(writes: OwnWrites, need: Need) -> list[Record]:
    """The live records that a handler needs; raises CannotCarryOut where they are too many."""
    place = need.place
    if need.id:
        record = await writes.record(RecordAt(place.app, place.table, need.id))
        return [_shown(record.snapshot, need.id)] if record.exists else []
    rows = await writes.connection.fetch(
        SQL["own_table"], writes.user, place.app, place.table, MOST_RECORDS
    )
    if rows and rows[0]["left_out"]:
        raise CannotCarryOut(f"there are too many records in {place.table} to look through")
    changes: dict[str, list[Change]] = {}
    for row in rows:
        change = logged_change(row, writes.user, row["record_id"])
        changes.setdefault(row["record_id"], []).append(change)
    merged = {id_: merge.fold(None, those) for id_, those in changes.items()}
    return [
        _shown(snapshot, id_)
        for id_, snapshot in merged.items()
        if snapshot.complete and not merge.hidden(snapshot)
    ]


def _shown(snapshot: Snapshot, id_: str) -> Record:
    return {**snapshot.fields, "id": id_}


async def _must_seal(
    writes: OwnWrites, asked: Answering, effect: Effect, space: str | None
) -> bool:
    """Whether this person's clients would seal what is written; in shared spaces nothing is."""
    if is_shared_space(space) or not writes_sealed(effect.place.table, effect.fields):
        return False
    if asked.has_vault:
        return True
    return await writes.connection.fetchval(
        SQL["own_is_sealed"], writes.user, effect.place.app, effect.place.table
    )


async def _write(
    writes: OwnWrites, effect: Effect, record: OwnRecord, by: Writer, space: str | None
) -> Written:
    """One effect as a row, and what is needed to take it back."""
    place = effect.place
    match effect.op:
        case "insert":
            after = await writes.insert(record.at, effect.fields, by, space=space)
            names = [name for name in after.fields if name in after.snapshot.stamps]
            before: dict[str, Any] = {}
        case "update":
            after = await writes.update(record, effect.fields, by)
            names = list(effect.fields)
            before = {name: record.fields[name] for name in names if name in record.fields}
        case "delete":
            after = await writes.delete(record, by)
            names, before = ["deletedAt"], {}
    stamps = {name: after.snapshot.stamps[name] for name in names}
    held = record.snapshot.stamps
    replaced = {name: held[name] for name in names if name in held}
    return Written(
        place.app, place.table, effect.id, effect.op, stamps, before=before, replaced=replaced
    )
