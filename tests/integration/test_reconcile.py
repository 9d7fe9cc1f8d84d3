"""The sweep that compares snapshots with the log brings in whatever the trigger missed (P3)."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest

from state.store.connect import Database as Connections
from state.store.supervisor.snapshots import Folded, Lease, RecordKey, SnapshotStore
from supervisor.supervision import sweep as sweeping
from supervisor.supervision import upkeep
from supervisor.supervision.sweep import Reconciler
from tests.integration.support import World, fold_all, until
from tests.postgres import SUPERUSER


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of several steps, one right after the other."""
    monkeypatch.setattr(sweeping, "USERS_AT_ONCE", 3)
    monkeypatch.setattr(upkeep, "SWEEPING_S", 0)
    monkeypatch.setattr(upkeep, "EVERY_S", 0.02)


class Noted(SnapshotStore):
    """Snapshots that note which records were read from the log again."""

    def __init__(self, database: Connections, lease: Lease) -> None:
        super().__init__(database, lease)
        self.rebuilt: list[RecordKey] = []

    async def rebuild(self, keys: Sequence[RecordKey]) -> Folded:
        self.rebuilt += keys
        return await super().rebuild(keys)


async def sweep(world: World) -> list[RecordKey]:
    """A whole sweep, as the supervisor makes it; returns what differed."""
    noted = Noted(world.driver.supervisor, world.store.lease)
    reconciler = Reconciler(noted, lambda _folded: None)
    while await reconciler.step():
        pass
    return sorted(noted.rebuilt)


async def bypass_trigger(world: World) -> None:
    """A restore, or a replica's apply process."""
    await world.sql("SET session_replication_role = replica")
    await world.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " client_id) SELECT 'ai', 'aiMissions', 'm' || n % 3, 'user' || n % 7,"
        " CASE WHEN n < 21 THEN 'insert' ELSE 'update' END, jsonb_build_object('f' || n, n), 'c'"
        " FROM generate_series(0, 99) AS n"
    )
    await world.sql("SET session_replication_role = origin")


async def test_rows_that_bypassed_the_trigger_are_brought_in(world: World):
    await bypass_trigger(world)
    assert await fold_all(world.store) == []
    assert len(await sweep(world)) == 21
    assert await world.wrong_snapshots() == []
    assert await sweep(world) == []


async def test_rows_pushed_while_the_trigger_failed_are_brought_in(world: World):
    client = await world.client()
    await client.mission()
    await fold_all(world.store)
    await world.sql("REVOKE INSERT ON mana_ai.change_feed FROM mana_router")
    await client.edit(title="in der Lücke")
    await world.sql("GRANT INSERT ON mana_ai.change_feed TO mana_router")
    await client.edit(objective="danach")
    await fold_all(world.store)
    assert await world.wrong_snapshots() == [("u1", "aiMissions", "m1")]
    assert await sweep(world) == [("u1", "aiMissions", "m1")]
    assert await world.wrong_snapshots() == []
    assert (await world.record())["title"] == "in der Lücke"


async def test_a_supervisor_at_work_brings_in_rows_that_bypassed_the_trigger(world: World):
    await bypass_trigger(world)
    async with world.driver.running():
        await until(lambda: is_swept(world))
    assert await world.wrong_snapshots() == []


async def test_without_the_sweep_rows_that_bypassed_the_trigger_stay_out(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    steps: list[None] = []

    async def sweeps_nothing(_: Reconciler) -> bool:
        steps.append(None)
        return False

    async def several_rounds() -> bool:
        return len(steps) > 3

    monkeypatch.setattr(Reconciler, "step", sweeps_nothing)
    await bypass_trigger(world)
    async with world.driver.running():
        await until(several_rounds)
    assert len(await world.wrong_snapshots()) == 21


async def is_swept(world: World) -> bool:
    return world.driver.supervision.status()["reconcile"].get("sweeps") == 1


async def test_a_restarted_supervisor_goes_on_where_the_sweep_stood(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """The first is killed within its third step; the whole is swept once, nobody twice."""
    compared: list[str] = []
    is_killed = asyncio.Event()
    compare = SnapshotStore.differences

    async def stops_once(
        store: SnapshotStore, after: str, users: int
    ) -> tuple[list[RecordKey], str | None]:
        compared.append(after)
        if len(compared) == 3:
            is_killed.set()
            await asyncio.Event().wait()
        return await compare(store, after, users)

    monkeypatch.setattr(SnapshotStore, "differences", stops_once)
    await bypass_trigger(world)
    first = asyncio.create_task(world.driver.supervision.run())
    await asyncio.wait_for(is_killed.wait(), 10)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    world.driver = world.new_driver()
    async with world.driver.running():
        await until(lambda: is_swept(world))
    assert compared == ["", "user2", "user5", "user5", "user6"]
    assert await world.wrong_snapshots() == []
    assert await world.value("SELECT reconcile_after FROM mana_ai.shards") is None


async def test_a_shard_of_other_buckets_is_swept_from_its_first_user(world: World):
    await world.store.note_reconcile("user5", started=True)
    take = world.driver.schedule.take_shard
    same = SnapshotStore(world.driver.supervisor, await take("0", 0, 256, "h"))
    assert await same.reconciled_to() == "user5"
    fewer = SnapshotStore(world.driver.supervisor, await take("0", 0, 200, "h"))
    assert await fewer.reconciled_to() == ""


async def test_verify_finds_a_snapshot_that_somebody_changed(world: World):
    client = await world.client()
    for number in range(4):
        await client.mission(f"m{number}")
    await client.agent()
    await fold_all(world.store)
    assert await sweep(world) == []
    await world.sql(
        "UPDATE mana_ai.mission_snapshots SET folded_digest = 5 WHERE mission_id = 'm2'"
    )
    await world.sql("DELETE FROM mana_ai.mission_snapshots WHERE mission_id = 'm3'")
    await world.sql("UPDATE mana_ai.agent_snapshots SET folded_count = 9")
    assert await sweep(world) == [
        ("u1", "agents", "legacy:ai-default"),
        ("u1", "aiMissions", "m2"),
        ("u1", "aiMissions", "m3"),
    ]
    assert await world.wrong_snapshots() == []


async def test_a_snapshot_without_rows_is_dropped(world: World):
    await (await world.client()).mission()
    await fold_all(world.store)
    await world.sql("DELETE FROM public.sync_changes")  # a restore from before
    assert await sweep(world) == [("u1", "aiMissions", "m1")]
    assert await world.value("SELECT count(*) FROM mana_ai.mission_snapshots") == 0


async def test_a_quarantined_row_is_no_difference(world: World):
    client, chance = await world.client(), random.Random(6)
    await client.mission()
    await client.push("update", "m1", '"text"')
    await client.push("update", "m1", {"agentId": chance.randbytes(12_000).hex()})
    await fold_all(world.store)
    assert await world.value("SELECT count(*) FROM mana_ai.quarantine") == 2
    assert await sweep(world) == []
    await world.store.rebuild([("u1", "aiMissions", "m1")])
    assert await world.value("SELECT count(*) FROM mana_ai.quarantine WHERE forced") == 1
    assert await world.wrong_snapshots() == []


async def test_an_old_services_snapshot_is_replayed_from_the_log(world: World):
    await bypass_trigger(world)
    await world.sql(
        "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record) VALUES"
        ' (\'user1\', \'m1\', \'{"title": "alt", "__fieldMeta": {"title": {"at": 7}}}\')'
    )
    await sweep(world)
    assert await world.wrong_snapshots() == []
    assert "title" not in await world.record("m1", "user1")


async def test_a_members_rows_are_compared_with_the_owners_record(world: World):
    await (await world.client("u1")).mission(space="s1")
    await world.sql("REVOKE INSERT ON mana_ai.change_feed FROM mana_router")
    member = await world.client("u2")
    await member.push("update", "m1", {"title": "von u2"}, space="s1")
    await world.sql("GRANT INSERT ON mana_ai.change_feed TO mana_router")
    await fold_all(world.store)
    assert await sweep(world) == [("u1", "aiMissions", "m1")]
    assert (await world.record())["title"] == "von u2"
    assert await world.wrong_snapshots() == []


async def test_a_page_of_tables_just_filled_reads_only_its_own_people(world: World):
    """Before anybody counted the rows a planner would read all that is left, for each of them."""
    connection = await world.database.connect(SUPERUSER)
    try:
        for table in ("public.sync_changes", "mana_ai.mission_snapshots"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
            " client_id) SELECT 'ai', 'aiMissions', 'm' || n, 'user' || n, 'insert', '{}', 'c'"
            "   FROM generate_series(1, 5000) AS n"
        )
        await connection.execute(
            "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, folded_count,"
            " folded_digest) SELECT user_id, record_id, '{}', 1, mana_ai.change_digest(id)"
            "   FROM public.sync_changes"
        )
    finally:
        await connection.close()
    # A session of its own: one that filled the tables counts that, too, for a while.
    connection = await world.database.connect(SUPERUSER)
    try:
        async with connection.transaction():
            found = await connection.fetch("SELECT * FROM mana_ai.reconcile('', 50, 0, 256)")
            read = await connection.fetchval(
                "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint"
                "  FROM pg_stat_xact_all_tables"
                " WHERE relname IN ('sync_changes', 'mission_snapshots')"
            )
        assert [row["table_name"] for row in found] == [None]
        assert 100 <= read <= 1000, "50 people have 100 rows"
    finally:
        await connection.close()
