"""The sweep that compares snapshots with the log brings in whatever the trigger missed (P3)."""

import random
from collections.abc import AsyncGenerator

import pytest

from state.store.supervisor.snapshots import Key, SnapshotStore
from tests.integration.support import World, fold_all, open_world
from tests.postgres import Database


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        yield opened


async def sweep(store: SnapshotStore, users: int = 3, after: str = "") -> list[Key]:
    """Compare and replay everything, a few users at a time; returns what differed."""
    found: list[Key] = []
    last: str | None = after
    while last is not None:
        keys, last = await store.differences(last, users)
        await store.rebuild(keys)
        found += keys
    return found


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
    assert len(await sweep(world.store)) == 21
    assert await world.wrong_snapshots() == []
    assert await sweep(world.store) == []


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
    assert await sweep(world.store) == [("u1", "aiMissions", "m1")]
    assert await world.wrong_snapshots() == []
    assert (await world.record())["title"] == "in der Lücke"


async def test_the_sweep_goes_on_where_it_stopped(world: World):
    await bypass_trigger(world)
    keys, last = await world.store.differences("", 3)
    await world.store.rebuild(keys)
    await world.store.note_reconcile(last, started=True)
    assert len({key[0] for key in keys}) == 3
    successor = world.new_driver()
    lease = await successor.start()
    after = await world.value("SELECT reconcile_after FROM mana_ai.shards")
    assert after == last
    rest = await sweep(SnapshotStore(successor.supervisor, lease), after=after)
    assert {key[0] for key in rest}.isdisjoint({key[0] for key in keys})
    assert len(keys) + len(rest) == 21


async def test_verify_finds_a_snapshot_that_somebody_changed(world: World):
    client = await world.client()
    for number in range(4):
        await client.mission(f"m{number}")
    await client.agent()
    await fold_all(world.store)
    assert await sweep(world.store) == []
    await world.sql(
        "UPDATE mana_ai.mission_snapshots SET folded_digest = 5 WHERE mission_id = 'm2'"
    )
    await world.sql("DELETE FROM mana_ai.mission_snapshots WHERE mission_id = 'm3'")
    await world.sql("UPDATE mana_ai.agent_snapshots SET folded_count = 9")
    assert await sweep(world.store) == [
        ("u1", "agents", "legacy:ai-default"),
        ("u1", "aiMissions", "m2"),
        ("u1", "aiMissions", "m3"),
    ]
    assert await world.wrong_snapshots() == []


async def test_a_snapshot_without_rows_is_dropped(world: World):
    await (await world.client()).mission()
    await fold_all(world.store)
    await world.sql("DELETE FROM public.sync_changes")  # a restore from before
    assert await sweep(world.store) == [("u1", "aiMissions", "m1")]
    assert await world.value("SELECT count(*) FROM mana_ai.mission_snapshots") == 0


async def test_a_quarantined_row_is_no_difference(world: World):
    client, chance = await world.client(), random.Random(6)
    await client.mission()
    await client.push("update", "m1", '"text"')
    await client.push("update", "m1", {"agentId": chance.randbytes(12_000).hex()})
    await fold_all(world.store)
    assert await world.value("SELECT count(*) FROM mana_ai.quarantine") == 2
    assert await sweep(world.store) == []
    await world.store.rebuild([("u1", "aiMissions", "m1")])
    assert await world.value("SELECT count(*) FROM mana_ai.quarantine WHERE forced") == 1
    assert await world.wrong_snapshots() == []


async def test_an_old_services_snapshot_is_replayed_from_the_log(world: World):
    await bypass_trigger(world)
    await world.sql(
        "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record) VALUES"
        ' (\'user1\', \'m1\', \'{"title": "alt", "__fieldMeta": {"title": {"at": 7}}}\')'
    )
    await sweep(world.store)
    assert await world.wrong_snapshots() == []
    assert "title" not in await world.record("m1", "user1")


async def test_a_members_rows_are_compared_with_the_owners_record(world: World):
    await (await world.client("u1")).mission(space="s1")
    await world.sql("REVOKE INSERT ON mana_ai.change_feed FROM mana_router")
    member = await world.client("u2")
    await member.push("update", "m1", {"title": "von u2"}, space="s1")
    await world.sql("GRANT INSERT ON mana_ai.change_feed TO mana_router")
    await fold_all(world.store)
    assert await sweep(world.store) == [("u1", "aiMissions", "m1")]
    assert (await world.record())["title"] == "von u2"
    assert await world.wrong_snapshots() == []
