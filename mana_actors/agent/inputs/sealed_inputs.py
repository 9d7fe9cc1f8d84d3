"""Encrypted inputs, opened under the mission's grant (P7).

Nothing is asked of the key holder unless everything else is there: the grant lists the records and
their sealed copies are there, and current. The key lives for the reading only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import msgspec

from mana_actors.agent.inputs.copies import CopiesLacking, RecordKey, with_copies
from mana_actors.agent.inputs.record_texts import record_text
from mana_actors.agent.inputs.sources import Sources
from mana_actors.agent.planner.prompt import ResolvedInput
from mana_actors.json_values import as_list, as_object
from mana_actors.keys.client import HeldKey
from mana_actors.messages import Count
from state.log.records import InputRef
from state.rules.exposure import Exposure
from state.runs.reasons import told
from state.sealing.copies import SEALED_FIELDS, KeptCopy
from state.sealing.values import DataKey, SealingError, opened_record
from state.store.agent import ReadRecord

ReadCopies = Callable[[Sequence[InputRef]], Awaitable[Mapping[RecordKey, KeptCopy]]]
AskForKey = Callable[[], AbstractAsyncContextManager[HeldKey]]
NoteOutcomes = Callable[[HeldKey, Sequence[ReadRecord]], Awaitable[None]]

UNTIL_COPIES_S = 600.0
"""A mission without copies is looked at again after this long, if nothing wakes it sooner."""


class Unreadable(Exception):
    """An input cannot be read, so the mission is skipped rather than planned blind.

    `code` is for the metric, `reason` for the owner. `again_s` is when to look again, None where
    only somebody's action helps; `counts` is what was read before it failed.
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
    """Unreadable until a device of the owner hands copies over, or hands them over again."""

    def __init__(
        self, lacking: CopiesLacking, answer: str | None = None, counts: tuple[Count, ...] = ()
    ) -> None:
        again_s = None if lacking.why == "not-opened" else UNTIL_COPIES_S
        super().__init__(lacking.why, lacking.told(answer), again_s, counts)
        self.args = lacking, answer, counts
        self.lacking = lacking


class RecordReading(msgspec.Struct, frozen=True):
    """How reading a record went; `status` is None where there was nothing to decrypt or to audit.

    `fields` counts what was decrypted.
    """

    input: ResolvedInput | None = None
    status: Literal["ok", "failed", "scope-violation"] | None = None
    reason: str | None = None
    fields: int = 0


NOT_GRANTED = RecordReading(status="scope-violation", reason="record-not-in-grant-allowlist")
EXPIRED = RecordReading(status="failed", reason="grant-expired-while-reading")


class OpenedInputs(msgspec.Struct, frozen=True):
    """What became readable; `exposure` is what the signed grant allows, None where it is silent."""

    inputs: dict[InputRef, ResolvedInput]
    counts: tuple[Count, ...] = ()
    exposure: Exposure | None = None


async def open_sealed(
    sources: Sources,
    grant: Mapping[str, Any] | None,
    copies: ReadCopies,
    ask: AskForKey,
    note: NoteOutcomes,
) -> OpenedInputs:
    """Open the sealed records and audit each; raises Unreadable and the key holder's errors."""
    refs = sources.sealed
    if not refs:
        return OpenedInputs({})
    if grant is None:
        raise Unreadable("no-grant", told("no-grant"))
    derivation = as_object(grant.get("derivation")) or {}
    listed = [each for each in as_list(derivation.get("recordIds")) if isinstance(each, str)]
    # An input that is newer than the grant is no violation: its owner has to consent to it.
    newer = sum(not is_granted(ref, listed) for ref in refs)
    if newer:
        raise Unreadable("input-newer-than-grant", told("grant-older-than-input", count=newer))
    found = with_copies(sources.records, await copies(refs))
    if isinstance(found, CopiesLacking):
        raise CopiesWanted(found)
    readings: list[tuple[InputRef, RecordReading]] = []
    async with ask() as held:
        for ref in refs:
            # What the signed scope does not list is not opened, whatever the mission's own copy
            # of it says. A key is released for one reading, so each record asks for the time.
            if not is_granted(ref, held.record_ids):
                reading = NOT_GRANTED
            elif held.is_expired:
                reading = EXPIRED
            else:
                reading = read_record(ref, found[ref.table, ref.id], held.key)
            readings.append((ref, reading))
        audited = [
            ReadRecord(ref.table, ref.id, reading.status, reading.reason)
            for ref, reading in readings
            if reading.status is not None
        ]
        await note(held, audited)
        exposure = held.exposure
    counts = _counted(readings)
    inputs = {ref: reading.input for ref, reading in readings if reading.input is not None}
    return OpenedInputs(inputs, counts, exposure)


def is_granted(ref: InputRef, record_ids: Collection[str]) -> bool:
    """Whether the grant's `table:id` list has the record."""
    return f"{ref.table}:{ref.id}" in record_ids


def read_record(ref: InputRef, fields: Mapping[str, Any], key: DataKey) -> RecordReading:
    """The record's text after decryption; a record without ciphertext leaves no audit row."""
    try:
        found = opened_record(fields, key)
    except SealingError as exc:
        return RecordReading(status="failed", reason=exc.reason)
    title, content = record_text(ref.module, found.record)
    readable = ResolvedInput(ref.id, ref.module, ref.table, title, content)
    return RecordReading(readable, "ok" if found.fields else None, None, len(found.fields))


def _counted(readings: Sequence[tuple[InputRef, RecordReading]]) -> tuple[Count, ...]:
    """Fields decrypted and records outside the signed scope, by table.

    Raises Unreadable, with the same counts, unless every record was read: a plan must not be made
    of those that happened to open.
    """
    counts: list[Count] = []
    for ref, reading in readings:
        table = (ref.table if ref.table in SEALED_FIELDS else "other",)
        if reading.fields:
            counts.append(Count("decrypts_total", table, reading.fields))
        if reading == NOT_GRANTED:
            counts.append(Count("grant_scope_violations_total", table))
    counted, found = tuple(counts), [reading for _, reading in readings]
    if NOT_GRANTED in found:
        raise Unreadable("scope-violation", told("grant-narrower"), counts=counted)
    if EXPIRED in found:
        raise Unreadable("expired", told("grant-ended-amid"), counts=counted)
    failed = sum(reading.input is None for reading in found)
    if failed:
        raise CopiesWanted(CopiesLacking("not-opened", failed), counts=counted)
    return counted
