"""Inputs that may be encrypted: read as they are, or opened under the mission's grant (P7, D-46).

Nothing is asked of the key holder unless everything else is there: the grant lists the records and
their sealed copies are there, and current. The key lives for the reading only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import msgspec

from mana_actors.agent.inputs import handed_over, record_texts
from mana_actors.agent.inputs.handed_over import Missing
from mana_actors.agent.inputs.sealed_record import (
    EXPIRED,
    Reading,
    expired,
    is_granted,
    not_granted,
    read_record,
)
from mana_actors.agent.planner.prompt import ResolvedInput
from mana_actors.keys.client import HeldKey
from mana_actors.messages import Count
from state.log import merge
from state.log.merge import Change, Snapshot
from state.log.records import InputRef
from state.log.tables import INPUT_APPS
from state.rules.exposure import Exposure
from state.sealing.copies import SEALED_FIELDS, KeptCopy
from state.sealing.values import is_sealed
from state.store.audit import ReadRecord

ReadChanges = Callable[[str, str, str], Awaitable[list[Change]]]
ReadCopies = Callable[[Sequence[InputRef]], Awaitable[Mapping[tuple[str, str], KeptCopy]]]
AskForKey = Callable[[], AbstractAsyncContextManager[HeldKey]]
NoteOutcomes = Callable[[HeldKey, Sequence[ReadRecord]], Awaitable[None]]

UNTIL_COPIES_S = 600.0
"""A mission whose copies have not come is looked at again by then, if nothing wakes it sooner."""


class Unreadable(Exception):
    """The mission is skipped rather than planned blind: `reason` is for its owner.

    `code` is a short one for the metric; `again_s` says when looking again makes sense by itself.
    `counts` is what was read before that.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        again_s: float | None = None,
        counts: tuple[Count, ...] = (),
    ) -> None:
        super().__init__(code, reason, again_s, counts)
        self.code, self.reason, self.again_s, self.counts = code, reason, again_s, counts


class CopiesWanted(Unreadable):
    """Unreadable until copies are handed over, or handed over anew."""

    def __init__(
        self, missing: Missing, answer: str | None = None, counts: tuple[Count, ...] = ()
    ) -> None:
        again_s = None if missing.why == "not-opened" else UNTIL_COPIES_S
        super().__init__(missing.why, handed_over.reason(missing, answer), again_s, counts)
        self.args = missing, answer, counts
        self.missing = missing


class Sources(msgspec.Struct, frozen=True):
    """The records behind inputs: texts that are plain, and sealed ones as the log has them."""

    plain: dict[InputRef, ResolvedInput]
    sealed: tuple[InputRef, ...]
    records: dict[tuple[str, str], Snapshot]


class Opened(msgspec.Struct, frozen=True):
    """What became readable; `exposure` is what the signed grant consents to, None: says nothing."""

    inputs: dict[InputRef, ResolvedInput]
    counts: tuple[Count, ...] = ()
    exposure: Exposure | None = None


def distinct(refs: Iterable[InputRef]) -> tuple[InputRef, ...]:
    """Each record once, at its first place; two modules of one app name the same record."""
    found: dict[tuple[str, str, str], InputRef] = {}
    for ref in refs:
        found.setdefault((INPUT_APPS.get(ref.module, ref.module), ref.table, ref.id), ref)
    return tuple(found.values())


async def read_sources(read: ReadChanges, refs: Sequence[InputRef]) -> Sources:
    """The records as the log has them; missing and deleted ones are left out."""
    plain: dict[InputRef, ResolvedInput] = {}
    sealed: list[InputRef] = []
    records: dict[tuple[str, str], Snapshot] = {}
    for ref in refs:
        if not record_texts.is_known(ref.module):
            continue
        snapshot = merge.fold(None, await read(INPUT_APPS[ref.module], ref.table, ref.id))
        if merge.hidden(snapshot):
            continue
        if any(is_sealed(value) for value in snapshot.fields.values()):
            sealed.append(ref)
            records[_key(ref)] = snapshot
        else:
            title, content = record_texts.record_text(ref.module, snapshot.fields)
            plain[ref] = ResolvedInput(ref.id, ref.module, ref.table, title, content)
    return Sources(plain, tuple(sealed), records)


async def open_granted(
    sources: Sources,
    grant: Mapping[str, Any] | None,
    copies: ReadCopies,
    ask: AskForKey,
    note: NoteOutcomes,
) -> Opened:
    """Sealed records opened, after the audit says so; raises Unreadable and the key's errors."""
    refs = sources.sealed
    if not refs:
        return Opened({})
    _require_listed(refs, grant)
    found = handed_over.readable(sources.records, await copies(refs))
    if isinstance(found, Missing):
        raise CopiesWanted(found)
    async with ask() as held:
        readings = [(ref, _read(ref, found[_key(ref)], held)) for ref in refs]
        await note(held, [_outcome(ref, reading) for ref, reading in readings if reading.status])
        exposure = held.exposure
    counts = _counts(readings)
    _require_opened([reading for _, reading in readings], counts)
    inputs = {ref: reading.input for ref, reading in readings if reading.input is not None}
    return Opened(inputs, counts, exposure)


def _key(ref: InputRef) -> tuple[str, str]:
    return ref.table, ref.id


def _read(ref: InputRef, fields: Mapping[str, Any], held: HeldKey) -> Reading:
    """What the signed scope does not list is not opened, whatever the mission's own copy says.

    One release covers one reading, so the time is asked before each record (F17).
    """
    if not is_granted(ref, held.record_ids):
        return not_granted()
    return expired() if held.is_expired else read_record(ref, fields, held.key)


def _outcome(ref: InputRef, reading: Reading) -> ReadRecord:
    assert reading.status is not None
    return ReadRecord(ref.table, ref.id, reading.status, reading.reason)


def _require_listed(refs: Sequence[InputRef], grant: Mapping[str, Any] | None) -> None:
    """An input that is newer than the grant is no violation: its owner has to consent (D-45)."""
    if grant is None:
        raise Unreadable("no-grant", "its encrypted inputs need a grant, and it has none")
    listed = _listed(grant)
    newer = sum(not is_granted(ref, listed) for ref in refs)
    if newer:
        raise Unreadable(
            "input-newer-than-grant", f"its grant does not cover {newer} of its encrypted inputs"
        )


def _listed(grant: Mapping[str, Any]) -> frozenset[str]:
    derivation = grant.get("derivation")
    ids = (
        cast("dict[str, Any]", derivation).get("recordIds") if isinstance(derivation, dict) else ()
    )
    entries = cast("list[object]", ids) if isinstance(ids, list) else []
    return frozenset(entry for entry in entries if isinstance(entry, str))


def _require_opened(readings: Sequence[Reading], counts: tuple[Count, ...]) -> None:
    if any(reading.status == "scope-violation" for reading in readings):
        told = "its signed grant does not cover all that it lists"
        raise Unreadable("scope-violation", told, counts=counts)
    if any(reading.reason == EXPIRED for reading in readings):
        told = "its grant ended while its encrypted inputs were being read"
        raise Unreadable("expired", told, counts=counts)
    failed = sum(reading.input is None for reading in readings)
    if failed:
        raise CopiesWanted(Missing("not-opened", failed), counts=counts)


def _counts(readings: Sequence[tuple[InputRef, Reading]]) -> tuple[Count, ...]:
    """Fields decrypted and records outside the signed scope, by table (crypto §9)."""
    counts: list[Count] = []
    for ref, reading in readings:
        table = (ref.table if ref.table in SEALED_FIELDS else "other",)
        if reading.fields:
            counts.append(Count("decrypts_total", table, reading.fields))
        if reading.status == "scope-violation":
            counts.append(Count("grant_scope_violations_total", table))
    return tuple(counts)
