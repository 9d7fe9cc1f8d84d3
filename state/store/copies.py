"""The sealed copies that an agent may read, and ask for: those of its own missions (P6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from state.log.records import InputRef
from state.sealing.copies import KeptCopy
from state.store.agents import AgentStore
from state.store.queries import sql


async def sealed_copies(
    store: AgentStore, user_id: str, mission_id: str, refs: Sequence[InputRef]
) -> dict[tuple[str, str], KeptCopy]:
    """The copies there are, by table and record id."""
    tables, records = [ref.table for ref in refs], [ref.id for ref in refs]
    async with store.transaction() as connection:
        rows = await connection.fetch(sql("sealed_copies"), user_id, mission_id, tables, records)
    return {
        (row["table_name"], row["record_id"]): KeptCopy(
            msgspec.json.decode(row["data"]), row["source"], row["written_us"]
        )
        for row in rows
    }


async def request_copies(store: AgentStore, run_id: Any, attempt: int) -> str | None:
    """Ask whoever has the owner's key for copies; what the last request came to, None: nothing yet.

    Harmless to repeat. Raises Superseded where the run is over, or another attempt's.
    """
    async with store.transaction() as connection:
        return await connection.fetchval(sql("request_copies"), run_id, attempt)
