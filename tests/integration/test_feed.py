"""From a push to the feed: nothing that committed is lost, and no push is stopped (P3)."""

import json
import math
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from mana_actors.crash import crash_points
from state.store.connect import Refused
from state.store.supervisor.snapshots import Lease, SnapshotStore, StoodDown
from supervisor.supervision import fold
from supervisor.supervision.fold import FoldLoop
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.sweep import Reconciler
from tests.integration.support import LONG_AGO, World, fold_all, until
from tests.postgres import LOG_OWNER


async def insert(connection: asyncpg.Connection, record: str, data: object, user: str = "u1"):
    await connection.execute("SELECT set_config('app.current_user_id', $1, true)", user)
    await connection.execute(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " client_id) VALUES ('ai', 'aiMissions', $1, $2, 'insert', $3::jsonb, 'c')",
        record,
        user,
        json.dumps(data),
    )


async def test_a_change_that_commits_after_newer_ones_is_folded(world: World):
    older, newer = await world.connect(LOG_OWNER), await world.connect(LOG_OWNER)
    began = older.transaction()
    await began.start()
    await insert(older, "m-older", {"title": "a"})
    async with newer.transaction():
        await insert(newer, "m-newer", {"title": "b"})
    assert [folded.rows for folded in await fold_all(world.store)] == [1]
    await began.commit()
    assert [folded.rows for folded in await fold_all(world.store)] == [1]
    assert await world.wrong_snapshots() == []
    assert {row["mission_id"] for row in await world.sql(MISSIONS)} == {"m-older", "m-newer"}


MISSIONS = "SELECT mission_id FROM mana_ai.mission_snapshots"


async def test_a_late_commit_on_the_same_record_is_replayed_in_row_order(world: World):
    older, newer = await world.connect(LOG_OWNER), await world.connect(LOG_OWNER)
    began = older.transaction()
    await began.start()
    await insert(older, "m1", {"title": "first", "state": "active"})
    async with newer.transaction():
        await insert(newer, "m1", {"title": "second"})
    await fold_all(world.store)
    await began.commit()
    (folded,) = await fold_all(world.store)
    assert folded.replayed == 1
    assert await world.wrong_snapshots() == []
    assert (await world.record())["title"] == "second"


async def test_twenty_thousand_rows_of_one_transaction_are_all_folded(world: World):
    client = await world.connect(LOG_OWNER)
    async with client.transaction():
        await client.execute("SELECT set_config('app.current_user_id', 'u1', true)")
        await client.execute(
            "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
            " client_id) SELECT 'ai', 'aiMissions', 'm' || n % 100, 'u1',"
            " CASE WHEN n <= 100 THEN 'insert' ELSE 'update' END,"
            " jsonb_build_object('f' || n, n), 'c' FROM generate_series(1, 20000) AS n"
        )
    await fold_all(world.store, 3000)
    assert await world.value("SELECT sum(folded_count) FROM mana_ai.mission_snapshots") == 20_000
    assert await world.wrong_snapshots() == []


async def test_a_long_writing_transaction_elsewhere_does_not_stall_the_feed(world: World):
    elsewhere = await world.connect(LOG_OWNER)
    began = elsewhere.transaction()
    await began.start()
    await insert(elsewhere, "stuck", {}, user="somebody")
    for number in range(3):
        await (await world.client()).mission(f"m{number}")
        assert sum(folded.rows for folded in await fold_all(world.store)) == 1
    await began.rollback()


async def test_a_fold_without_new_rows_touches_nothing(world: World):
    await (await world.client()).mission()
    await (await world.client()).agent()
    await fold_all(world.store)
    before = await world.snapshot()
    (folded, floor) = (await world.store.fold(), 7)
    assert (folded.rows, folded.missions, folded.agents) == (0, (), ())
    assert (await world.store.fold(floor)).floor == floor
    assert await world.snapshot() == before
    assert not await world.store.feed_waits(0)


async def test_the_floor_only_skips_what_is_below_it(world: World):
    client = await world.client()
    await client.mission("m1")
    first = await world.store.fold()
    await client.mission("m2")
    assert await world.store.feed_waits(first.floor)
    assert (await world.store.fold(first.floor)).rows == 1


# --- what commits below the floor of the poll -----------------------------------------------------


class Clock:
    """Seconds, moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def polls_until_late_rows_are_folded(world: World) -> int:
    """A row commits below what was folded; how many polls a second later find it, of ten."""
    older, newer = await world.connect(LOG_OWNER), await world.connect(LOG_OWNER)
    began = older.transaction()
    await began.start()
    await insert(older, "m-older", {"title": "a"})
    async with newer.transaction():
        await insert(newer, "m-newer", {"title": "b"})
    clock = Clock()
    crash = crash_points(None)
    folding = FoldLoop(world.store, Metrics(), lambda _folded: None, crash, clock)
    assert await folding.some() == 1
    await began.commit()
    assert await folding.some() == 0, "above the floor there is nothing, and no look below it"
    found = 0
    for _ in range(10):
        clock.now_s += 1.0
        found += await folding.some()
    return found


async def test_a_poll_looks_below_its_floor_once_a_second(world: World):
    assert await polls_until_late_rows_are_folded(world) == 1
    assert await world.wrong_snapshots() == []


async def test_a_poll_that_never_looks_below_its_floor_misses_late_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fold, "UNFLOORED_EVERY_S", math.inf)
    assert await polls_until_late_rows_are_folded(world) == 0
    assert len(await world.wrong_snapshots()) == 1


async def polled_by_a_supervisor(world: World) -> bool:
    """Whether one that neither ticks nor sweeps folds a row that committed below its floor."""
    older, newer = await world.connect(LOG_OWNER), await world.connect(LOG_OWNER)
    began = older.transaction()
    await began.start()
    await insert(older, "m-older", {"title": "a"})
    async with newer.transaction():
        await insert(newer, "m-newer", {"title": "b"})
    driver = world.new_driver(supervision={"tick_enabled": False})
    polls: list[int] = []
    some = FoldLoop.some

    async def counted(folding: FoldLoop) -> int:
        polls.append(await some(folding))
        return polls[-1]

    async def many_more_polls() -> bool:
        return len(polls) > after + 50 or sum(polls) == 2

    async def newer_is_folded() -> bool:
        return sum(polls) == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldLoop, "some", counted)
        patch.setattr(Reconciler, "step", sweeps_nothing)
        async with driver.running():
            await until(newer_is_folded)
            after = len(polls)
            await began.commit()
            await until(many_more_polls)
    return sum(polls) == 2


async def sweeps_nothing(_: Reconciler) -> bool:
    return False


async def test_a_supervisor_at_work_folds_rows_that_committed_late(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fold, "UNFLOORED_EVERY_S", 0.02)
    monkeypatch.setattr(fold, "UNFLOORED_SHARE", 0)
    assert await polled_by_a_supervisor(world)


async def test_a_supervisor_that_polls_above_its_floor_alone_folds_them_never(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fold, "UNFLOORED_EVERY_S", math.inf)
    assert not await polled_by_a_supervisor(world)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE mana_ai.change_feed CASCADE",
        "REVOKE INSERT ON mana_ai.change_feed FROM mana_router",
        "ALTER FUNCTION mana_ai.bucket_of(text) RENAME TO gone",
        "ALTER TABLE mana_ai.change_feed ADD CONSTRAINT none CHECK (bucket > 999) NOT VALID",
    ],
)
async def test_a_push_never_fails_when_the_trigger_does(world: World, damage: str):
    await world.sql(damage)
    await (await world.client()).mission()
    assert await world.value("SELECT count(*) FROM public.sync_changes") == 1


async def test_a_stale_supervisor_stands_down(world: World):
    await (await world.client()).mission()
    successor = world.new_driver()
    lease = await successor.start()
    with pytest.raises(StoodDown):
        await world.store.fold()
    assert not await world.driver.schedule.beat(world.store.lease)
    assert await successor.schedule.beat(lease)
    assert await successor.fold_all() == 1
    assert await world.wrong_snapshots() == []


async def test_shards_cannot_overlap(world: World):
    with pytest.raises(Refused):
        await world.new_driver().schedule.take_shard("other", 10, 20, "h")


async def test_two_shards_fold_their_own_users_only(world: World):
    halves: list[SnapshotStore] = []
    await world.sql("DELETE FROM mana_ai.shards")
    for shard, lo, hi in (("low", 0, 128), ("high", 128, 256)):
        lease = await world.driver.schedule.take_shard(shard, lo, hi, "h")
        assert lease == Lease(shard, 1, lo, hi)
        halves.append(SnapshotStore(world.driver.supervisor, lease))
    for number in range(20):
        await (await world.client(f"u{number}")).mission()
    rows = [sum(folded.rows for folded in await fold_all(half)) for half in halves]
    assert sum(rows) == 20
    assert all(rows)
    assert await world.value("SELECT count(*) FROM mana_ai.mission_snapshots") == 20


async def test_a_batch_is_bounded_by_bytes(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("state.store.supervisor.snapshots.BATCH_BYTES", 1_000_000)
    client = await world.client()
    for number in range(5):  # compresses a hundredfold: each counts for about half a megabyte
        await client.mission(f"m{number}", objective="Plane. " * 70_000)
    sizes = [folded.rows for folded in await fold_all(world.store)]
    assert sum(sizes) == 5
    assert max(sizes) <= 3
    assert await world.wrong_snapshots() == []


async def test_a_feed_entry_without_its_row_is_dropped(world: World):
    await world.sql(
        "INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)"
        " VALUES (3, $1, 'u1', 'aiMissions', 'm1')",
        uuid.uuid4(),
    )
    assert (await world.store.fold()).rows == 0
    assert await world.value("SELECT count(*) FROM mana_ai.change_feed") == 0


async def test_other_apps_and_tables_never_reach_the_feed(world: World):
    client = await world.client()
    await client.push("insert", "t1", {}, table="tasks")
    await world.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, client_id)"
        " VALUES ('notes', 'aiMissions', 'n1', 'u1', 'insert', 'c')"
    )
    assert await world.value("SELECT count(*) FROM mana_ai.change_feed") == 0


async def test_a_change_is_due_as_soon_as_it_is_folded(world: World):
    await (await world.client()).mission(nextRunAt="2026-01-05T07:00:00.000Z")
    await (await world.client()).mission("later", nextRunAt="2099-01-05T07:00:00.000Z")
    await fold_all(world.store)
    due = await world.driver.schedule.due(world.store.lease, 10)
    assert [mission.mission_id for mission in due] == ["m1"]
    assert due[0].next_run_at == LONG_AGO
    assert datetime.now(UTC) - due[0].now < timedelta(minutes=1)


async def newest_version(world: World) -> int:
    return await world.value("SELECT max(version) FROM mana_ai.mission_snapshots")


@pytest.mark.parametrize("ahead", [0, 10**15])
async def test_a_restored_database_repeats_no_version_once_its_shard_is_taken(
    world: World, ahead: int
):
    """What the backup lacks was folded and told to agents; `ahead`: how far versions passed."""
    client = await world.client()
    last = "SELECT last_value FROM mana_ai.snapshot_version"
    await world.sql("SELECT setval('mana_ai.snapshot_version', last_value + $1)"
                    " FROM mana_ai.snapshot_version", ahead)  # fmt: skip
    backup = await world.value(last)
    await client.mission()
    for number in range(20):
        await client.edit(title=f"{number}")
        await fold_all(world.store)
    lost = await newest_version(world)
    await world.sql("SELECT setval('mana_ai.snapshot_version', $1)", backup)
    successor = world.new_driver()
    await successor.start()
    await client.edit(title="nach der Sicherung")
    await successor.fold_all()
    assert await newest_version(world) > lost
    assert await newest_version(world) > datetime.now(UTC).timestamp() * 1e6
