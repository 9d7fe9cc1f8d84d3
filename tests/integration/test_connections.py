"""Connections live as long as runs come, and only as many stay open as the node has slots."""

from pathlib import Path

import pytest

from state.slots import Slot, Slots
from state.store import connect
from state.store.connect import Database as Pool
from tests.integration.steps import access_of, session
from tests.integration.support import until
from tests.postgres import SUPERUSER, Database

ALIVE = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
PID = "SELECT pg_backend_pid()"


async def _pid(pool: Pool) -> int:
    row = await pool.fetchrow(PID)
    assert row is not None
    return int(row[0])


async def test_a_connection_is_kept_while_its_process_holds_a_slot(
    database: Database, tmp_path: Path
):
    slots = Slots(str(tmp_path), 1)
    kept = Pool(access_of(database, "mana_agent"), max_connections=2, idle_s=0.02, slots=slots)
    without = Pool(access_of(database, "mana_agent"), max_connections=2, idle_s=0.02, slots=slots)
    try:
        async with session(database, SUPERUSER) as admin:
            ours, theirs = await _pid(kept), await _pid(without)

            async def theirs_is_closed() -> bool:
                return not await admin.fetchval(ALIVE, theirs)

            await until(theirs_is_closed)
            assert await _pid(kept) == ours
            await kept.close()  # gives the slot back
            again = await _pid(without)
            assert await _pid(without) == again
            assert not Slot(slots).take()
    finally:
        await kept.close()
        await without.close()
    assert Slot(slots).take()


async def test_an_unused_connection_is_closed_and_its_slot_given_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connect, "KEPT_S", 0.05)
    slots = Slots(str(tmp_path), 1)
    pool = Pool(access_of(database, "mana_agent"), max_connections=2, idle_s=60, slots=slots)
    try:
        async with session(database, SUPERUSER) as admin:
            async with pool.connection() as used:  # for longer than it would be kept
                ours = await used.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.2)")
                assert not Slot(slots).take()

            async def it_is_closed() -> bool:
                return not await admin.fetchval(ALIVE, ours)

            await until(it_is_closed)
            other = Slot(slots)
            assert other.take()
            other.give_back()
            assert await _pid(pool) != ours
    finally:
        await pool.close()


async def test_only_one_connection_is_kept_and_nobody_waits_for_it(
    database: Database, tmp_path: Path
):
    slots = Slots(str(tmp_path), 1)
    pool = Pool(access_of(database, "mana_agent"), max_connections=1, idle_s=0.02, slots=slots)
    try:
        async with session(database, SUPERUSER) as admin:
            async with pool.connection() as used:
                kept, other = await used.fetchval(PID), await _pid(pool)
            assert kept != other

            async def the_other_is_closed() -> bool:
                return not await admin.fetchval(ALIVE, other)

            await until(the_other_is_closed)
            assert await _pid(pool) == kept
    finally:
        await pool.close()


async def test_an_agents_statements_are_planned_once(database: Database):
    for plans_once, mode in ((True, "force_generic_plan"), (False, "auto")):
        pool = Pool(access_of(database, "mana_agent"), max_connections=1, plans_once=plans_once)
        try:
            row = await pool.fetchrow("SELECT current_setting('plan_cache_mode')")
            assert row is not None
            assert row[0] == mode
        finally:
            await pool.close()


async def test_what_a_cut_off_transaction_presented_is_gone_with_it(database: Database):
    """Connections are not reset between uses: a transaction left open is ended all the same."""
    pool = Pool(access_of(database, "mana_agent"), max_connections=1)
    capability = "SELECT current_setting('app.capability', true)"
    try:
        async with pool.connection() as connection:
            await connection.execute("BEGIN")
            await connection.execute("SELECT set_config('app.capability', 'theirs', true)")
        row = await pool.fetchrow(capability)
        assert row is not None
        assert not row[0]
    finally:
        await pool.close()
