"""The sealed copies that an agent may read: those of its own missions (P6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from state.records import InputRef
from state.store.agents import AgentStore
from state.store.queries import sql


async def sealed_copies(
    store: AgentStore, user_id: str, mission_id: str, refs: Sequence[InputRef]
) -> dict[tuple[str, str], dict[str, Any]]:
    """The copies there are, by table and record id."""
    tables, records = [ref.table for ref in refs], [ref.id for ref in refs]
    async with store.transaction() as connection:
        rows = await connection.fetch(sql("sealed_copies"), user_id, mission_id, tables, records)
    return {(row["table_name"], row["record_id"]): msgspec.json.decode(row["data"]) for row in rows}
