"""One granted record, opened (crypto §7): what the prompt gets, and what the audit must say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from mana_actors.agent.inputs.record_texts import record_text
from mana_actors.agent.planner.prompt import ResolvedInput
from state.log.records import InputRef
from state.sealing.values import DataKey, SealingError, opened_record

NOT_GRANTED = "record-not-in-grant-allowlist"
EXPIRED = "grant-expired-while-reading"
Status = Literal["ok", "failed", "scope-violation"]


class Reading(msgspec.Struct, frozen=True):
    """How reading a record went; `status` is None where the audit says nothing (D-43).

    `fields` counts what was decrypted.
    """

    input: ResolvedInput | None = None
    status: Status | None = None
    reason: str | None = None
    fields: int = 0


def not_granted() -> Reading:
    """A record that the grant does not list."""
    return Reading(status="scope-violation", reason=NOT_GRANTED)


def expired() -> Reading:
    """A record whose turn came after the grant had ended."""
    return Reading(status="failed", reason=EXPIRED)


def is_granted(ref: InputRef, record_ids: Collection[str]) -> bool:
    """Whether the grant's `table:id` list has the record."""
    return f"{ref.table}:{ref.id}" in record_ids


def read_record(ref: InputRef, fields: Mapping[str, Any], key: DataKey) -> Reading:
    """The record's text after decryption; a record without ciphertext leaves no audit row."""
    try:
        found = opened_record(fields, key)
    except SealingError as exc:
        return Reading(status="failed", reason=exc.reason)
    title, content = record_text(ref.module, found.record)
    shown = ResolvedInput(ref.id, ref.module, ref.table, title, content)
    return Reading(shown, "ok" if found.fields else None, None, len(found.fields))
