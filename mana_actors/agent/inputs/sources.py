"""The records behind a mission's inputs: plain ones as text, sealed ones as the log has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mana_actors.agent.inputs.record_texts import record_text
from mana_actors.agent.inputs.resolvers import ReadChanges
from mana_actors.agent.planner.prompt import ResolvedInput
from state.log import merge
from state.log.merge import Snapshot
from state.log.records import InputRef
from state.log.tables import INPUT_APPS
from state.sealing.values import is_sealed
from state.store.agent import RecordName


class Sources(msgspec.Struct, frozen=True):
    """The records behind inputs: texts that are plain, and sealed ones as the log has them.

    `records` holds the sealed ones by table and record id.
    """

    plain: dict[InputRef, ResolvedInput]
    sealed: tuple[InputRef, ...]
    records: dict[tuple[str, str], Snapshot]


def distinct(refs: Iterable[InputRef]) -> tuple[InputRef, ...]:
    """Each record once, at its first place; two modules of one app name the same record."""
    found: dict[tuple[str, str, str], InputRef] = {}
    for ref in refs:
        found.setdefault((INPUT_APPS.get(ref.module, ref.module), ref.table, ref.id), ref)
    return tuple(found.values())


def records_of(refs: Iterable[InputRef]) -> list[RecordName]:
    """The records behind inputs of our modules, each once."""
    return [
        (INPUT_APPS[ref.module], ref.table, ref.id)
        for ref in distinct(refs)
        if ref.module in INPUT_APPS
    ]


async def read_sources(read: ReadChanges, refs: Sequence[InputRef]) -> Sources:
    """The records as the log has them; missing, deleted and unknown ones are left out."""
    plain: dict[InputRef, ResolvedInput] = {}
    sealed: list[InputRef] = []
    records: dict[tuple[str, str], Snapshot] = {}
    for ref in refs:
        if ref.module not in INPUT_APPS:
            continue
        snapshot = merge.fold(None, await read(INPUT_APPS[ref.module], ref.table, ref.id))
        if merge.hidden(snapshot):
            continue
        if any(is_sealed(value) for value in snapshot.fields.values()):
            sealed.append(ref)
            records[ref.table, ref.id] = snapshot
        else:
            title, content = record_text(ref.module, snapshot.fields)
            plain[ref] = ResolvedInput(ref.id, ref.module, ref.table, title, content)
    return Sources(plain, tuple(sealed), records)
