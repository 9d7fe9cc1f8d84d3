"""What runs ask copies for, and what whoever makes them may read: as the role `mana_gateway`.

Requests are ids; everything else is read in the place of the person whose mission asks.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal

import msgspec

from state.log import merge
from state.log.merge import Snapshot
from state.log.records import Mission, mission_from_record
from state.sealing.copies import KeptCopy, SealedCopy
from state.store.connect import Database
from state.store.rows import logged_change
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

Answer = Literal[
    "made",
    "current",
    "no-grant",
    "grant-refused",
    "grant-outdated",
    "zero-knowledge",
    "no-vault",
    "not-opened",
    "too-large",
    "failed",
]


class CopyRequest(msgspec.Struct, frozen=True):
    """A mission whose copies are ours to make until the lease ends; `taken` tells us apart."""

    user: str
    mission: str
    taken: uuid.UUID


class CopyRequests:
    """Requests for copies; nothing is read for a mission that did not ask."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take(self, limit: int, lease_s: int) -> list[CopyRequest]:
        """The next requests; one that is not answered comes back once its lease has ended."""
        async with self._db.transaction() as connection:
            rows = await connection.fetch(SQL["take_requests"], limit, lease_s)
        return [CopyRequest(row["user_id"], row["mission_id"], row["taken"]) for row in rows]

    async def mission(self, asked: CopyRequest) -> Mission | None:
        """The mission with inputs and grant, and nothing else of it; None where it is gone."""
        async with self._db.acting_for(asked.user) as connection:
            text = await connection.fetchval(SQL["granted_inputs"], asked.user, asked.mission)
        if text is None:
            return None
        return mission_from_record(asked.user, asked.mission, msgspec.json.decode(text))

    async def source(self, asked: CopyRequest, app: str, table: str, record: str) -> Snapshot:
        """A granted input as the log has it; raises Superseded where nobody asks for it by now."""
        async with self._db.acting_for(asked.user) as connection:
            key = asked.user, asked.mission, asked.taken, app, table, record
            rows = await connection.fetch(SQL["copy_source"], *key)
        return merge.fold(None, [logged_change(row, asked.user, record) for row in rows])

    async def kept(self, asked: CopyRequest) -> dict[tuple[str, str], KeptCopy]:
        """The mission's copies by table and record id, without what is in them."""
        async with self._db.acting_for(asked.user) as connection:
            rows = await connection.fetch(SQL["kept_copies"], asked.user, asked.mission)
        return {
            (row["table_name"], row["record_id"]): KeptCopy({}, row["source"], row["written_us"])
            for row in rows
        }

    async def put(self, asked: CopyRequest, copies: Sequence[SealedCopy]) -> bool:
        """Keep these, and wake the mission; False where it has no living grant."""
        wire = msgspec.json.encode(copies).decode()
        async with self._db.acting_for(asked.user) as connection:
            put = await connection.fetchval(SQL["put_copies"], asked.user, asked.mission, wire)
        return bool(put)

    async def answer(self, asked: CopyRequest, answer: Answer) -> bool:
        """Say what became of it; False where somebody else has it by now."""
        async with self._db.acting_for(asked.user) as connection:
            key = asked.user, asked.mission, asked.taken
            return bool(await connection.fetchval(SQL["answer_copies"], *key, answer))

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()
