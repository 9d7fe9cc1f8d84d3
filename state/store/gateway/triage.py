"""What needs somebody, of every user, as the role `mana_gateway`: ids, states, times, reasons."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

import msgspec

from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")
TroubleKind = Literal["stuck", "failed", "overdue", "budget", "grant", "damaged", "quarantined"]
TROUBLES: tuple[TroubleKind, ...] = get_args(TroubleKind)
"""Worst first."""
MOST_COUNTED = 1000
LATE_S = 30.0
"""A look may come so late, and a lease be over for so long, before it counts."""
LONG_S = 1800.0
"""One attempt that takes longer is stuck, whoever holds it."""


class TroubleRow(msgspec.Struct, frozen=True):
    """One mission, run or row of the log; `id` is a run's, a change's or the mission's.

    `word` is a state or decision, or the record of a row that was set aside.
    """

    user_id: str
    agent_id: str | None
    mission_id: str | None
    id: str
    since: datetime | None
    word: str
    reason: str | None


class TroubleGroup(msgspec.Struct, frozen=True):
    """All of one kind: how many there are (counting stops at 1,001) and the first of them.

    `limit` is how many were asked for.
    """

    kind: TroubleKind
    count: int
    rows: list[TroubleRow]
    limit: int

    @property
    def more(self) -> tuple[str, str] | None:
        """The key behind which it goes on, None at its end."""
        is_full = len(self.rows) == self.limit > 0
        return (self.rows[-1].user_id, self.rows[-1].id) if is_full else None


class TroubleFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which troubles: of one kind, of a user or an agent, those after a key (user, id)."""

    only: TroubleKind | None = None
    after: tuple[str, str] | None = None
    user: str | None = None
    agent: str | None = None


EVERYTHING = TroubleFilter()


class TriageStore:
    """Reads troubles, group by group."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def groups(self, limit: int, wanted: TroubleFilter = EVERYTHING) -> list[TroubleGroup]:
        """Every group, worst first, each with its first rows by (user, id)."""
        key = wanted.after or (None, None)
        values = LATE_S, LONG_S, wanted.only, *key, limit, wanted.user, wanted.agent
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["troubles"], *values)
        groups: dict[TroubleKind, TroubleGroup] = {}
        for row in rows:
            kind: TroubleKind = row["trouble"]
            group = groups.setdefault(kind, TroubleGroup(kind, row["count"], [], limit))
            if row["user_id"] is not None:
                named = {name: row[name] for name in TroubleRow.__struct_fields__}
                group.rows.append(TroubleRow(**named))
        return list(groups.values())
