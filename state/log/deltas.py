"""How a record's snapshot changed, for the processes that hold a part of it. Pure.

What is held of a record, and so what a delta may carry, are the fields named here. Iterations and
what models or owners wrote at length are not among them: they travel as a version only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

MISSION_FIELDS = (
    "title",
    "objective",
    "inputs",
    "cadence",
    "state",
    "nextRunAt",
    "agentId",
    "spaceId",
    "deletedAt",
)
AGENT_FIELDS = (
    "name",
    "role",
    "policy",
    "maxTokensPerDay",
    "maxConcurrentMissions",
    "state",
    "spaceId",
    "deletedAt",
)
MAX_DELTA_BYTES = 64 * 1024
"""A delta above this travels as versions only, so that its record is read again."""


class MissionColumns(msgspec.Struct, frozen=True):
    """What the gate is told of a mission's snapshot."""

    agent_id: str
    state: str
    space_id: str | None = None
    next_run_at: datetime | None = None
    complete: bool = True
    present: bool = True
    hidden: bool = False
    readable: bool = True
    browser_since: datetime | None = None


class AgentColumns(msgspec.Struct, frozen=True):
    """What the gate is told of an agent's snapshot."""

    state: str
    space_id: str | None = None
    max_tokens_per_day: int | None = None
    max_concurrent: int = 1
    complete: bool = True
    present: bool = True
    hidden: bool = False


C = TypeVar("C", MissionColumns, AgentColumns)


class HeldRecord(msgspec.Struct, Generic[C], frozen=True):
    """What a process holds of a record's snapshot: its version, columns, and the fields above."""

    version: int
    columns: C
    fields: dict[str, Any]
    stamps: dict[str, str]


class RecordDelta(msgspec.Struct, Generic[C], frozen=True):
    """From one version of a snapshot to the next; `before` None: there was none.

    `columns` None: the record is to be read again, or it is `gone`. `changed` is a JSON object, as
    its numbers may be longer than what else carries a message.
    """

    id: str
    before: int | None
    after: int
    columns: C | None = None
    changed: bytes = b"{}"
    removed: tuple[str, ...] = ()
    stamped: dict[str, str] = {}
    unstamped: tuple[str, ...] = ()
    gone: bool = False


def held_of(
    version: int,
    columns: C,
    fields: Mapping[str, Any],
    stamps: Mapping[str, str],
    names: tuple[str, ...],
) -> HeldRecord[C]:
    """What is held of a snapshot with these fields and stamps."""
    return HeldRecord(
        version,
        columns,
        {name: fields[name] for name in names if name in fields},
        {name: stamps[name] for name in names if name in stamps},
    )


def delta_of(id_: str, before: HeldRecord[C] | None, after: HeldRecord[C]) -> RecordDelta[C]:
    """What leads from `before` to `after`, also where only a stamp or the version changed."""
    fields, stamps = (before.fields, before.stamps) if before else ({}, {})
    since = before.version if before else None
    encode = msgspec.json.encode
    news = {  # compared as JSON: to Python, true and 1 are equal
        name: value
        for name, value in after.fields.items()
        if name not in fields
        or not (fields[name] is value or encode(fields[name]) == encode(value))
    }
    delta = RecordDelta(
        id_,
        since,
        after.version,
        after.columns,
        changed=encode(news),
        removed=tuple(name for name in fields if name not in after.fields),
        stamped={k: v for k, v in after.stamps.items() if stamps.get(k) != v},
        unstamped=tuple(name for name in stamps if name not in after.stamps),
    )
    if len(msgspec.msgpack.encode(delta)) > MAX_DELTA_BYTES:
        return RecordDelta(id_, since, after.version)
    return delta


def applied(held: HeldRecord[C] | None, delta: RecordDelta[C]) -> HeldRecord[C] | None:
    """The record after a delta that begins where `held` is; None where it is gone."""
    if delta.gone or delta.columns is None:
        return None
    fields, stamps = (held.fields, held.stamps) if held else ({}, {})
    changed: dict[str, Any] = msgspec.json.decode(delta.changed)
    return HeldRecord(
        delta.after,
        delta.columns,
        {k: v for k, v in fields.items() if k not in delta.removed} | changed,
        {k: v for k, v in stamps.items() if k not in delta.unstamped} | delta.stamped,
    )
