"""Deletes what is only old, as the role `mana_janitor`, which sees no column but the age."""

from __future__ import annotations

import msgspec

from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("janitor.sql")

BATCH = 5000


class Retention(msgspec.Struct, frozen=True):
    """How long rows are kept, in seconds; usage counts for 24 h and is kept for twice that."""

    usage_s: float = 48 * 3600
    decisions_s: float = 90 * 86400
    runs_s: float = 90 * 86400
    requests_s: float = 30 * 86400
    audit_s: float = 90 * 86400
    proposals_s: float = 180 * 86400  # long after a plan could be put to anybody again
    answers_s: float = 24 * 3600  # as long as an idempotency key is known


class JanitorStore:
    """Prunes in bounded batches, each a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def prune(self, keep: Retention) -> dict[str, int]:
        """Delete everything older than it is kept; returns the rows deleted per table."""
        return {
            "token_usage": await self._all(SQL["prune_usage"], keep.usage_s),
            "decisions": await self._all(SQL["prune_decisions"], keep.decisions_s),
            "runs": await self._all(SQL["prune_runs"], keep.runs_s),
            "run_requests": await self._all(SQL["prune_requests"], keep.requests_s),
            "decrypt_audit": await self._all(SQL["prune_audit"], keep.audit_s),
            "key_releases": await self._all(SQL["prune_releases"], keep.audit_s),
            "owner_key_changes": await self._all(SQL["prune_key_changes"], keep.audit_s),
            "copy_requests": await self._all(SQL["prune_copy_requests"], keep.requests_s),
            "own_answers": await self._all(SQL["prune_answers"], keep.answers_s),
            "proposals": await self._all(SQL["prune_proposals"], keep.proposals_s),
            "sign_in_links": await self._all(SQL["prune_links"], 0.0),
            "sign_ins": await self._all(SQL["prune_sign_ins"], keep.audit_s),
            "personal_tokens": await self._all(SQL["prune_tokens"], keep.audit_s),
            "people_trail": await self._all(SQL["prune_people_trail"], keep.audit_s),
            "sealed_copies": await self._all(SQL["prune_copies"], 0.0),
        }

    async def _all(self, statement: str, keep_s: float) -> int:
        total = 0
        while True:
            async with self._db.connection() as connection:
                done = await connection.execute(statement, keep_s, BATCH - 1)
            deleted = int(done.rsplit(" ", 1)[-1])
            total += deleted
            if not deleted:
                return total

    async def close(self) -> None:
        """Close the connections; the next use opens again."""
        await self._db.close()
