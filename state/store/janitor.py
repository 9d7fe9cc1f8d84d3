"""Deletes what is only old, as the role `mana_janitor`, which sees no column but the age.

Of the log it removes what newer rows have overtaken. It names records; which rows may go is decided
where they are deleted (`sql/functions/compact_record.sql`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal
from uuid import UUID

import msgspec

from state.store.connect import Database, Refused, patiently
from state.store.sql import statements_of

SQL = statements_of("janitor.sql")

BATCH = 5000
MOST_PASSES = 12  # over one record; each leaves a fraction of the one before
_BEGINNING = (datetime.min.replace(tzinfo=UTC), UUID(int=0))

Passed = Literal["done", "held", "unfolded", "unreadable"]


class Retention(msgspec.Struct, frozen=True):
    """How long rows are kept, in seconds; usage counts for 24 h and is kept for twice that."""

    usage_s: float = 48 * 3600
    decisions_s: float = 90 * 86400
    runs_s: float = 90 * 86400
    requests_s: float = 30 * 86400
    audit_s: float = 90 * 86400
    proposals_s: float = 180 * 86400  # long after a plan could be put to anybody again
    answers_s: float = 24 * 3600  # as long as an idempotency key is known


class TableToCompact(msgspec.Struct, frozen=True):
    """One table of one person, and which of its records may have something to remove."""

    user: str
    app: str
    table: str
    records: list[str]


class Compacted(msgspec.Struct, frozen=True):
    """What went, or would go, of one record; `outcome` says why nothing could be looked at."""

    outcome: Passed = "done"
    rows: int = 0
    bytes: int = 0


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
            "openings": await self._all(SQL["prune_openings"], keep.audit_s),
            "copy_requests": await self._all(SQL["prune_copy_requests"], keep.requests_s),
            "own_answers": await self._all(SQL["prune_answers"], keep.answers_s),
            "proposals": await self._all(SQL["prune_proposals"], keep.proposals_s),
            "sign_in_links": await self._all(SQL["prune_links"], 0.0),
            "sign_ins": await self._all(SQL["prune_sign_ins"], keep.audit_s),
            "visitors": await self._all(SQL["prune_visitors"], keep.audit_s),
            "operator_sessions": await self._all(SQL["prune_operator_sessions"], 0.0),
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

    async def tables_to_compact(
        self, keep: timedelta, after: tuple[str, str, str] = ("", "", "")
    ) -> AsyncGenerator[TableToCompact]:
        """Every table of every person that has rows in the log, by person, app and name."""
        while True:
            row = await patiently(partial(self._db.fetchrow, SQL["next_to_compact"], *after, keep))
            if row is None:
                return
            found = TableToCompact(row["user_id"], row["app_id"], row["table_name"], row["records"])
            yield found
            after = (found.user, found.app, found.table)

    async def compact(
        self, at: TableToCompact, record: str, keep: timedelta, *, removes: bool
    ) -> Compacted:
        """Remove from a record what is older than `keep` and overtaken, or only count it.

        Each step is a transaction of its own and harmless to repeat. Without `removes` one pass is
        made, which finds less than repeated ones remove.
        """
        rows = size = 0
        for _ in range(MOST_PASSES if removes else 1):
            before, place = rows, _BEGINNING
            while place is not None:
                step = SQL.given(
                    "compact_record",
                    user=at.user,
                    app=at.app,
                    table=at.table,
                    record=record,
                    keep=keep,
                    after_at=place[0],
                    after_id=place[1],
                    removes=removes,
                )
                try:
                    done = await patiently(partial(self._db.fetchrow, *step))
                except Refused as exc:
                    if not exc.blames_a_value:
                        raise
                    return Compacted("unreadable", rows, size)
                assert done is not None  # a function's row
                if done["outcome"] != "done":
                    return Compacted(done["outcome"], rows, size)
                rows, size = rows + done["removed"], size + done["bytes"]
                place = done["next_at"] and (done["next_at"], done["next_id"])
            if rows == before:
                break
        return Compacted("done", rows, size)

    async def close(self) -> None:
        """Close the connections; the next use opens again."""
        await self._db.close()
