"""What health finds where the real thing is broken, and how long that takes to be known."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mana_actors.keys.server import KeyServer
from state.store.gateway.fleet import SQL
from supervisor.health.judgement import Sign, health
from supervisor.health.ray_life import silence
from supervisor.health.room import MB, Reserve, RoomWatch, reserves
from supervisor.health.watch import Watch
from tests.gateway_parts import FakeSupervisor, fleet_of, settings_for
from tests.integration.support import until
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres


class House:
    """A watch on a test's database, and what breaks it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.supervisor = FakeSupervisor()
        self.fleet = fleet_of(database)
        self.settings = settings_for(folder, disk_free_mb=1, disk_free_inodes=1, shm_free_mb=1)
        self.wall_s = 0.0
        self.watch = Watch(
            fleet=self.fleet,
            supervisor=self.supervisor,
            settings=self.settings,
            version="1.2.3",
            rooms=RoomWatch(reserves(self.settings, None)),
            wall=lambda: self.wall_s or time.time(),
        )

    async def sql(self, statement: str, *values: Any) -> None:
        connection = await self.database.connect(SUPERUSER)
        await connection.execute(statement, *values)
        await connection.close()

    async def signs(self, part: str) -> list[Sign]:
        await self.watch.look()
        return [sign for sign in (await self.watch.health()).signs if sign.part == part]


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    made = House(database, tmp_path)
    await made.sql(
        "INSERT INTO mana_ai.shards (shard, buckets, epoch, holder, taken_at, folded_at, ticked_at)"
        " SELECT '0', '[0,256)', 1, 'test', t, t, t FROM (SELECT clock_timestamp()) AS x (t)"
    )
    yield made
    await made.fleet.close()


async def test_all_is_well_where_nothing_is_broken(house: House):
    await house.watch.look()
    judged = await house.watch.health()
    assert judged.is_ok, judged.signs


async def test_whoever_keeps_the_supervisor_waiting_is_named(house: House):
    holder = await house.database.connect(SUPERUSER)
    waiter = await house.database.connect("mana_supervisor")
    async with holder.transaction():
        await holder.execute("SELECT FROM mana_ai.shards FOR UPDATE")
        pid = holder.get_server_pid()
        beat = "UPDATE mana_ai.shards SET heartbeat_at = clock_timestamp()"
        waiting = asyncio.create_task(waiter.execute(beat))
        await until(lambda: house.signs("fold"))
        found = await house.signs("fold")
        assert f"session {pid} of postgres" in found[0].what
        assert str(pid) in found[0].remedy
    await waiting
    assert not await house.signs("fold")
    await holder.close()
    await waiter.close()


async def test_a_read_only_database_is_said_so(house: House):
    connection = await house.database.connect("mana_gateway")
    for mode, is_read_only in (("READ WRITE", False), ("READ ONLY", True)):
        await connection.execute(f"BEGIN {mode}")
        row = await connection.fetchrow(SQL["signs"], 30.0)
        await connection.execute("ROLLBACK")
        assert row is not None
        assert row["is_read_only"] is is_read_only
    await connection.close()
    facts = msgspec.structs.replace(await house.watch.facts(), is_read_only=True, unlooked_s=0)
    judged = health(facts, house.settings, "")
    assert judged.public["failing"] == ["database"]
    assert not judged.serves


async def test_a_stopped_database_is_known_in_time_and_asked_once(house: House):
    await house.watch.look()
    pids = await _backends(house)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        (found,) = await house.signs("database")
        await house.watch.look()
        assert "in time" in found.what
        assert await _backends(house) == pids, "no second connection while the first one hangs"
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    async def answers() -> bool:
        return not await house.signs("database")

    await until(answers)


async def _backends(house: House) -> list[int]:
    connection = await house.database.connect(SUPERUSER)
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'mana_gateway'"
        " AND datname = current_database()"
    )
    await connection.close()
    return [row["pid"] for row in rows]


async def test_a_silent_supervisor_is_known(house: House):
    house.supervisor.dead = True
    (found,) = await house.signs("supervisor")
    assert "does not answer" in found.what


async def test_failed_and_late_runs_are_counted_and_only_warned_of(house: House):
    await house.sql(
        "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, state, wake_at)"
        " VALUES ('u1', 'm1', '{}', 'active', clock_timestamp() - interval '1 minute')"
    )
    await house.sql(
        "INSERT INTO mana_ai.runs (run_id, user_id, agent_id, mission_id, due_at, state, closed_at)"
        " VALUES (gen_random_uuid(), 'u1', 'a1', 'm1', clock_timestamp(), 'failed',"
        " clock_timestamp())"
    )
    found = await house.signs("runs")
    assert ["1 missions have been due" in found[0].what, "1 failed" in found[1].what] == [True] * 2
    judged = await house.watch.health()
    assert (judged.is_ok, judged.public["status"]) == (True, "warning")


async def test_the_key_holder_is_asked_only_where_grants_exist(house: House, tmp_path: Path):
    assert not await house.signs("keys"), "nobody misses a key here"
    house.supervisor.more = {"has_grants": True}
    await house.watch.look()
    (found,) = await house.signs("keys")
    assert "does not answer" in found.what
    never: Any = None
    for keys, is_well in ((0, False), (1, True)):
        async with KeyServer(never, house.settings.key_socket, keys).serving():
            found = await house.signs("keys")
        assert (not found) == is_well
        assert is_well or "has no key" in found[0].what


async def test_a_key_holder_tells_whether_any_mission_has_a_grant(house: House):
    schedule = "SELECT EXISTS (SELECT FROM mana_ai.mission_snapshots WHERE"
    plan = f"EXPLAIN {schedule} record -> 'grant' <> 'null'::jsonb AND NOT hidden AND bucket >= 0)"
    connection = await house.database.connect(SUPERUSER)
    await connection.execute("SET enable_seqscan = off")
    rows = await connection.fetch(plan)
    await connection.close()
    assert "mission_snapshots_granted" in str(rows)


async def test_a_clock_that_jumps_is_told(house: House):
    house.wall_s = 1_000_000.0
    await house.watch.look()
    assert (await house.signs("clock"))[0].is_failing is False, "differs from the database's"
    house.wall_s = 0.0
    (found,) = await house.signs("clock")
    assert "jumped" in found.what


async def test_a_folder_that_is_short_of_room_is_named_with_what_is_left(house: House):
    rooms = RoomWatch({"data folder": Reserve("/tmp", 10**9 * MB)})
    short = await rooms.look()
    facts = msgspec.structs.replace(await house.watch.facts(), rooms=rooms.rooms, short=short)
    (problem,) = [p for p in health(facts, house.settings, "").content["problems"] if "disk" in p]
    assert "data folder /tmp has" in problem
    assert "no run begins" in problem


async def test_a_server_that_is_stopped_gone_or_talks_tls_is_told_apart():
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0")
        writer.close()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    never = asyncio.Event()

    async def keep_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    found: list[str | None] = []
    for manner in (greet, hang_up, keep_silent):
        server = await asyncio.start_server(manner, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        within_s = 0.3 if manner is keep_silent else 30.0
        found.append(await silence(f"127.0.0.1:{port}", within_s))
        server.close()
        if manner is keep_silent:
            never.set()
        await server.wait_closed()
        if manner is keep_silent:
            found.append(await silence(f"127.0.0.1:{port}", 30.0))
    assert found[:3] == [None, None, "does not answer"]
    assert "gone" in str(found[3])


async def test_nobody_looked_yet_is_not_well(house: House):
    judged = await house.watch.health()
    assert not judged.is_ok
    assert judged.public["failing"] == ["lookout"]
