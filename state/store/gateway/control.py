"""What an operator tells an agent, a mission or a run, as the role `mana_gateway`.

A pause is a row of the owner's log like any other write: it is folded, shown on every device, and
undone by the owner. A cancel closes the run's own row.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from state.log import merge
from state.log.principals import SYSTEM_MISSION_RUNNER, system_actor
from state.log.records import agent_from_record, mission_from_record
from state.log.stamps import instant_of, winning_stamp
from state.runs.reasons import told
from state.store.connect import Database
from state.store.rows import stored_snapshot, unfolded_changes
from state.store.sql import statements_of

SQL = statements_of("gateway.sql")

Table = Literal["agents", "aiMissions"]
Wish = Literal["active", "paused"]
CANCELLED = told("cancelled")
CANCELLED_BY_OWNER = told("cancelled-by-owner")


class Switched(msgspec.Struct, frozen=True):
    """The state a record has now; `changed` False: it had it already."""

    state: str
    changed: bool


class Cancelled(msgspec.Struct, frozen=True):
    """A run that is over; `changed` False: it had been cancelled already."""

    run_id: UUID
    user_id: str
    agent_id: str
    mission_id: str
    changed: bool


class NotPossible(Exception):
    """What was asked makes no sense in the state the record or run is in."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class ControlStore:
    """Pause, resume and cancel."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def switch(self, user: str, table: Table, record: str, wish: Wish) -> Switched | None:
        """Pause a record or end its pause; None without such a record. Raises NotPossible."""
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(SQL["state_now"], user, table, record)
            assert row is not None  # a function's row
            known = stored_snapshot(msgspec.json.decode(row["snapshot"] or "null"))
            if changes := unfolded_changes(msgspec.json.decode(row["changes"] or "[]"), user):
                known = merge.fold(known, changes)
            if known is None or merge.hidden(known):
                return None
            read = agent_from_record if table == "agents" else mission_from_record
            state = read(user, record, known.fields).state
            if state == wish:
                return Switched(state, changed=False)
            if state not in ("active", "paused"):
                raise NotPossible(f"the {_KIND[table]} is {state}")
            stamp = winning_stamp(instant_of(row["now"]), known.stamps.get("state"))
            actor = msgspec.json.encode(system_actor(SYSTEM_MISSION_RUNNER)).decode()
            await connection.execute(
                *SQL.given(
                    "write_state",
                    user=user,
                    table=table,
                    record=record,
                    wish=wish,
                    stamp=stamp,
                    actor=actor,
                )
            )
            return Switched(wish, changed=True)

    async def cancel(self, run_id: UUID) -> Cancelled | None:
        """End a run and its occurrence; None without such a run. Raises NotPossible."""
        async with self._db.transaction() as connection:
            user = await connection.fetchval(SQL["owner_of_run"], run_id)
            return None if user is None else await _cancelled(connection, user, run_id)

    async def cancel_own(self, user: str, run_id: UUID) -> Cancelled | None:
        """End a run of this person, who asks; None where they have none. Raises NotPossible."""
        async with self._db.transaction() as connection:
            return await _cancelled(connection, user, run_id, CANCELLED_BY_OWNER)

    async def cancel_live(self, user: str, mission: str, why: str = CANCELLED) -> Cancelled | None:
        """End the run that a mission has open or waiting; None where it has none."""
        async with self._db.transaction() as connection:
            run_id = await connection.fetchval(SQL["live_run"], user, mission)
            return None if run_id is None else await _cancelled(connection, user, run_id, why)


_KIND = {"agents": "agent", "aiMissions": "mission"}


async def _cancelled(
    connection: asyncpg.Connection, user: str, run_id: UUID, why: str = CANCELLED
) -> Cancelled | None:
    row = await connection.fetchrow(SQL["cancel_run"], user, run_id, why)
    if row is None or row["outcome"] is None:
        return None
    if row["outcome"] == "over":
        raise NotPossible(f"the run is {row['state']}")
    is_new = row["outcome"] == "cancelled"
    return Cancelled(run_id, user, row["agent_id"], row["mission_id"], changed=is_new)
