"""An agent's side of the audit: leave to ask for a key, and how reading went (P7)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal

import msgspec

from state.store.agents import AgentStore
from state.store.queries import sql


class ReadRecord(msgspec.Struct, frozen=True):
    """How reading one record went."""

    table: str
    record_id: str
    status: Literal["ok", "failed", "scope-violation"]
    reason: str | None = None


async def keys_capability(store: AgentStore, run_id: uuid.UUID, attempt: int) -> str:
    """A minute's leave to ask the key holder, for this attempt alone; raises Superseded."""
    async with store.transaction() as connection:
        return str(await connection.fetchval(sql("keys_capability"), run_id, attempt))


async def note_outcomes(
    store: AgentStore, release_id: uuid.UUID, iteration_id: str, records: Sequence[ReadRecord]
) -> None:
    """Write how reading went, one row per record, all or none."""
    async with store.transaction() as connection:
        await connection.execute(
            sql("audit_outcome"),
            release_id,
            iteration_id,
            [one.table for one in records],
            [one.record_id for one in records],
            [one.status for one in records],
            [one.reason for one in records],
        )
