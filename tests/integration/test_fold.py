"""A snapshot is always what a full replay of the log gives, whatever arrives when (P4, P9)."""

import asyncio
import json
import random
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from state.log.merge import Change, Snapshot
from state.store.supervisor import snapshots
from state.store.supervisor.snapshots import SnapshotStore
from tests.integration.support import LONG_AGO, Json, World, fold_all, text, until
from tests.postgres import LOG_OWNER

FIELDS = ("title", "state", "objective", "deletedAt")
SEEDS = (1, 2, 3)


# --- histories in any order of arrival ------------------------------------------------------------


def history(chance: random.Random, record: str) -> list[tuple[Any, ...]]:
    """Some rows of one record; few instants, so that ties and late rows are common."""
    rows: list[tuple[Any, ...]] = []
    for _ in range(chance.randint(2, 9)):
        op = chance.choice(("insert", "update", "update", "update", "delete"))
        at = LONG_AGO + timedelta(seconds=chance.randint(0, 5))
        stamps = {f: text(LONG_AGO + timedelta(seconds=chance.randint(0, 5))) for f in FIELDS}
        fields = chance.sample(FIELDS, chance.randint(1, 3))
        data: Json = {f: chance.choice((None, "a", "b", "c")) for f in fields}
        meta = {f: stamps[f] for f in fields if chance.random() < 0.7}
        if op == "delete":
            data = chance.choice(({}, {"deletedAt": text(at)}))
        id_ = uuid.UUID(int=chance.getrandbits(128))
        rows.append((id_, "aiMissions", record, op, json.dumps(data), json.dumps(meta), at))
    return rows


async def arrive(connection: asyncpg.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.current_user_id', 'u1', true)")
        await connection.execute(
            "INSERT INTO public.sync_changes (id, app_id, table_name, record_id, user_id, op, data,"
            " field_meta, client_id, created_at) SELECT i, 'ai', t, r, 'u1', o, d::jsonb, m::jsonb,"
            " 'c', a FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],"
            " $6::text[], $7::timestamptz[]) AS k (i, t, r, o, d, m, a)",
            *[list(column) for column in zip(*rows, strict=True)],
        )


async def live_through(world: World, seed: int, records: int = 150) -> None:
    """Histories of many records, arriving in any order and folded in any batches."""
    chance = random.Random(seed)
    rows = [row for number in range(records) for row in history(chance, f"m{number}")]
    chance.shuffle(rows)
    connection = await world.connect(LOG_OWNER)
    while rows:
        size = chance.randint(50, 200)
        await arrive(connection, rows[:size])
        del rows[:size]
        for _ in range(chance.randint(0, 3)):
            await world.store.fold(limit=chance.choice((1, 10, 60, 5000)))
    await fold_all(world.store)


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_arrival_order_gives_the_full_replay(world: World, seed: int):
    await live_through(world, seed)
    assert await world.wrong_snapshots() == [], f"seed {seed}"


def never_replays(_before: Snapshot | None, _changes: Sequence[Change]) -> bool:
    return False


def ignores_ids(snapshot: Snapshot, change: Change) -> bool:
    return change.created_at < snapshot.newest_at


def forgets_tombstones(after: Snapshot) -> tuple[Any, ...]:
    newest = after if after.exists else Snapshot()
    return REMEMBERS(newest)[:2] + REMEMBERS(after)[2:]


def takes_unsorted(batch: Any, rows: Sequence[Any]) -> None:
    COLLECTS(batch, list(rows)[::-1])


REMEMBERS = getattr(snapshots, "_shared_columns")  # noqa: B009  # private, and taken apart on purpose
COLLECTS = getattr(snapshots, "_collect")  # noqa: B009


@pytest.mark.parametrize(
    ("part", "without"),
    [
        ("state.store.supervisor.snapshots._must_replay", never_replays),
        ("state.store.supervisor.snapshots._collect", takes_unsorted),
        ("state.store.supervisor.snapshots._shared_columns", forgets_tombstones),
        ("state.log.merge.is_late", ignores_ids),
    ],
)
async def test_the_late_row_rule_needs_each_of_its_parts(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str, without: Any
):
    monkeypatch.setattr(part, without)
    await live_through(world, SEEDS[0])
    assert await world.wrong_snapshots() != []


REPLAY_IN_TWO_STEPS = """
CREATE OR REPLACE FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[])
RETURNS TABLE (owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb,
               field_meta jsonb, created_at timestamptz, space_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  {first};
  PERFORM pg_advisory_xact_lock(7);
  {second};
END $$
"""
FORGET = """DELETE FROM mana_ai.change_feed AS f
   USING unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
   WHERE f.record_id = k.record_id AND f.user_id = k.user_id"""
READ = """RETURN QUERY
    SELECT k.user_id, c.id, c.table_name, c.record_id, c.op, c.data, c.field_meta, c.created_at,
           c.space_id
      FROM unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
     CROSS JOIN LATERAL mana_ai.record_rows(k.user_id, k.table_name, k.record_id) AS c
     ORDER BY c.created_at, c.id"""


async def replay_meets_a_push(world: World, first: str, second: str) -> None:
    """A row that commits between the two statements of a replay."""
    await world.sql(REPLAY_IN_TWO_STEPS.format(first=first, second=second))
    client = await world.client()
    await client.mission(title="first")
    await fold_all(world.store)
    await client.push("update", "m1", {"title": "late"}, at=LONG_AGO)
    stopper = await world.connect("postgres")
    await stopper.execute("SELECT pg_advisory_lock(7)")
    folding = asyncio.create_task(world.store.fold())
    await until(lambda: waits_for_lock(world))
    await client.push("update", "m1", {"objective": "between"})
    await stopper.execute("SELECT pg_advisory_unlock(7)")
    await folding
    await fold_all(world.store)


async def waits_for_lock(world: World) -> bool:
    return bool(
        await world.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = 'mana_supervisor' AND wait_event_type = 'Lock'"
        )
    )


async def test_a_row_that_commits_during_a_replay_is_not_lost(world: World):
    await replay_meets_a_push(world, FORGET, READ)
    assert await world.wrong_snapshots() == []
    assert (await world.record())["objective"] == "between"


async def test_a_replay_that_read_before_it_forgot_would_lose_rows(world: World):
    await replay_meets_a_push(world, READ, FORGET)
    assert await world.wrong_snapshots() == [("u1", "aiMissions", "m1")]


# --- two consumers --------------------------------------------------------------------------------


async def two_fold_one_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first consumer has read its snapshot when the second begins."""
    client = await world.client()
    await client.mission()
    await fold_all(world.store)
    reached, go_on = asyncio.Event(), asyncio.Event()
    first = SnapshotStore(world.driver.supervisor, world.store.lease)
    merging = getattr(first, "_merge")  # noqa: B009

    async def merged(*args: Any) -> None:
        reached.set()
        await go_on.wait()
        await merging(*args)

    monkeypatch.setattr(first, "_merge", merged)
    await client.edit(title="one")
    one = asyncio.create_task(first.fold())
    await reached.wait()
    floor = await world.value("SELECT max(seq) FROM mana_ai.change_feed")
    await client.edit(objective="two")
    two = asyncio.create_task(world.store.fold(floor))

    async def two_is_stopped_or_done() -> bool:
        return two.done() or await waits_for_lock(world)

    await until(two_is_stopped_or_done)
    go_on.set()
    await asyncio.gather(one, two)


async def test_two_consumers_lose_no_update(world: World, monkeypatch: pytest.MonkeyPatch):
    await two_fold_one_record(world, monkeypatch)
    assert await world.wrong_snapshots() == []


async def test_without_the_shards_lock_two_consumers_lose_an_update(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    async def unlocked(self: SnapshotStore, _connection: object) -> tuple[int, int]:
        return self.lease.lo, self.lease.hi

    monkeypatch.setattr(SnapshotStore, "_locked", unlocked)
    await two_fold_one_record(world, monkeypatch)
    assert await world.wrong_snapshots() == [("u1", "aiMissions", "m1")]


# --- poison ---------------------------------------------------------------------------------

SECRET = "geheim"
POISON = {
    "text": json.dumps(SECRET),
    "list": json.dumps([SECRET]),
    "number out of range": '{"title": "geheim", "n": 1e400}',
    "long integer": '{"title": "geheim", "n": 1' + "0" * 400 + "}",
    "nesting": '{"title": "geheim", "deep": ' + "[" * 2000 + "]" * 2000 + "}",
    "ten megabytes": json.dumps({"title": SECRET, "big": "x" * 10_000_000}),
}


@pytest.mark.parametrize("kind", POISON)
async def test_a_poison_row_is_set_aside_alone(world: World, kind: str):
    client = await world.client()
    await client.mission("good")
    await client.mission("m1")
    culprit = await client.push("update", "m1", POISON[kind])
    await client.edit("m1", objective="nachher")
    await (await world.client("u2")).mission("good")
    await fold_all(world.store)
    ((change, reason),) = await world.sql("SELECT change_id, reason FROM mana_ai.quarantine")
    assert change == culprit
    assert SECRET not in reason
    assert "data" in reason
    record = await world.record()
    assert (record["title"], record["objective"]) == ("Wochenplan", "nachher")
    assert await world.value("SELECT count(*) FROM mana_ai.mission_snapshots WHERE complete") == 3
    assert await world.wrong_snapshots() == []


async def test_poison_stamps_are_set_aside_too(world: World):
    client = await world.client()
    await client.mission()
    await client.push("update", "m1", {"title": "x"}, meta=["title"])  # type: ignore[arg-type]
    await fold_all(world.store)
    assert await world.value("SELECT reason FROM mana_ai.quarantine") == "field_meta: not an object"
    assert await world.wrong_snapshots() == []


async def test_an_id_of_twenty_kilobytes_never_becomes_a_snapshot(world: World):
    client = await world.client()
    await client.mission("i" * 20_000)
    await client.mission("m1")
    await fold_all(world.store)
    assert [
        row[0] for row in await world.sql("SELECT mission_id FROM mana_ai.mission_snapshots")
    ] == ["m1"]
    reason = await world.value("SELECT reason FROM mana_ai.quarantine")
    assert reason == "record_id: over 512 bytes"
    assert await world.wrong_snapshots() == []


async def test_a_row_that_no_statement_can_save_is_found_by_halving(world: World):
    client, chance = await world.client(), random.Random(4)
    for number in range(9):
        await client.mission(f"m{number}")
    culprit = await client.push(  # too long for the index of agents, and does not compress
        "update", "m4", {"agentId": chance.randbytes(12_000).hex(), "title": SECRET}
    )
    await client.edit("m4", objective="nachher")
    await fold_all(world.store)
    (row,) = await world.sql("SELECT change_id, reason, forced FROM mana_ai.quarantine")
    assert tuple(row) == (culprit, "statement failed on this row", True)
    assert (await world.record("m4"))["objective"] == "nachher"
    assert await world.value("SELECT count(*) FROM mana_ai.mission_snapshots") == 9
    assert await world.wrong_snapshots() == []


async def test_a_late_row_that_no_statement_can_save_is_set_aside_too(world: World):
    client, chance = await world.client(), random.Random(5)
    await client.mission()
    await fold_all(world.store)
    bad = {"agentId": chance.randbytes(12_000).hex()}
    await client.push("update", "m1", bad, at=LONG_AGO)
    await client.push("update", "m1", {"title": "late too"}, at=LONG_AGO)
    await fold_all(world.store)
    assert await world.value("SELECT forced FROM mana_ai.quarantine")
    assert await world.wrong_snapshots() == []
    await world.store.rebuild([("u1", "aiMissions", "m1")])
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize("field", ["maxConcurrentMissions", "maxTokensPerDay"])
@pytest.mark.parametrize("value", [1e12, 1e300, -5, "viel", [1]])
async def test_an_absurd_number_of_an_agent_never_stops_the_fold(
    world: World, field: str, value: object
):
    fields: Json = {field: value}
    await (await world.client()).agent(**fields)
    await fold_all(world.store)
    (row,) = await world.sql(
        "SELECT max_concurrent, max_tokens_per_day FROM mana_ai.agent_snapshots"
    )
    assert 1 <= row["max_concurrent"] < 2**31
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize("at", ["infinity", "-infinity"])
async def test_a_row_of_no_time_never_stops_the_fold(world: World, at: str):
    await (await world.client()).mission()
    await world.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " client_id, created_at) VALUES ('ai', 'aiMissions', 'm1', 'u1', 'update', '{\"a\": 1}',"
        f" 'c', '{at}')"
    )
    await fold_all(world.store)
    assert await world.wrong_snapshots() == []
    await (await world.client()).edit(title="danach")
    await fold_all(world.store)
    assert (await world.record())["title"] == "danach"
    assert await world.wrong_snapshots() == []


# --- shared spaces --------------------------------------------------------------------------------


async def owners(world: World) -> dict[str, bool]:
    rows = await world.sql("SELECT user_id, complete FROM mana_ai.mission_snapshots ORDER BY 1")
    return {row["user_id"]: row["complete"] for row in rows}


async def test_a_members_row_folds_into_the_owners_record(world: World):
    owner, member = await world.client("u1"), await world.client("u2")
    await owner.mission(space="s1")
    await member.push("update", "m1", {"title": "von u2"}, space="s1")
    await fold_all(world.store)
    assert await owners(world) == {"u1": True}
    assert (await world.record())["title"] == "von u2"
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize("space", [None, "_personal:u2", "s2", ""])
async def test_rows_of_other_spaces_never_reach_somebody_elses_record(
    world: World, space: str | None
):
    owner, member = await world.client("u1"), await world.client("u2")
    await owner.mission(space="s1")
    await member.push("update", "m1", {"title": "von u2"}, space=space)
    await fold_all(world.store)
    assert await owners(world) == {"u1": True, "u2": False}
    assert (await world.record())["title"] == "Wochenplan"
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize("space", [None, "_personal:u1"])
async def test_a_personal_record_takes_no_rows_of_others(world: World, space: str | None):
    owner, other = await world.client("u1"), await world.client("u2")
    await owner.mission(space=space)
    await other.push("update", "m1", {"title": "von u2"}, space=space)
    await fold_all(world.store)
    assert (await world.record())["title"] == "Wochenplan"
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_members_row_may_come_before_its_owners_insert(world: World, at_once: bool):
    owner, member = await world.client("u1"), await world.client("u2")
    await member.push("update", "m1", {"objective": "von u2"}, space="s1")
    if not at_once:
        await fold_all(world.store)
        assert await owners(world) == {"u2": False}
    await owner.mission(space="s1")
    await fold_all(world.store)
    assert await owners(world) == {"u1": True}
    assert await world.wrong_snapshots() == []


async def test_each_person_keeps_an_agent_of_the_same_id(world: World):
    for user in ("u1", "u2"):
        await (await world.client(user)).agent(name=f"Mana von {user}")
    await fold_all(world.store)
    rows = await world.sql("SELECT record FROM mana_ai.agent_snapshots")
    assert {json.loads(row[0])["name"] for row in rows} == {"Mana von u1", "Mana von u2"}


async def test_a_record_without_an_insert_is_never_due(world: World):
    client = await world.client()
    await client.edit("m1", state="active", nextRunAt=text(LONG_AGO), title="x")
    await fold_all(world.store)
    assert (await world.snapshot())["wake_at"] is None
    assert await world.driver.schedule.due(world.store.lease, 10) == []
    await client.mission("m1")
    await fold_all(world.store)
    assert [due.mission_id for due in await world.driver.schedule.due(world.store.lease, 10)] == [
        "m1"
    ]


async def two_shards(world: World) -> tuple[list[SnapshotStore], str, str]:
    """Two shards, and a user in each."""
    await world.sql("DELETE FROM mana_ai.shards")
    halves = [
        SnapshotStore(world.driver.supervisor, await world.driver.schedule.take_shard(*shard, "h"))
        for shard in (("low", 0, 128), ("high", 128, 256))
    ]
    buckets = {
        f"u{n}": await world.value("SELECT mana_ai.bucket_of($1)", f"u{n}") for n in range(20)
    }
    low = next(user for user, bucket in buckets.items() if bucket < 128)
    high = next(user for user, bucket in buckets.items() if bucket >= 128)
    return halves, low, high


async def test_a_row_that_was_handed_on_goes_back_to_an_author_who_turned_owner(world: World):
    (lower, higher), low, high = await two_shards(world)
    await (await world.client(low)).mission(space="s1")
    author = await world.client(high)
    await author.push("update", "m1", {"title": "von weit"}, space="s1")
    await higher.fold()  # hands the row on to the owner's shard
    await author.mission(title="eigene", space="s1")
    for half in (lower, higher, lower, higher):
        await half.fold()
    assert await owners(world) == {low: True, high: True}
    assert (await world.record(user=low))["title"] == "Wochenplan"
    assert await world.wrong_snapshots() == []
    assert await world.value("SELECT count(*) FROM mana_ai.change_feed") == 0


async def test_a_members_row_is_handed_on_to_the_owners_shard(world: World):
    halves, low, high = await two_shards(world)
    await (await world.client(low)).mission(space="s1")
    await (await world.client(high)).push("update", "m1", {"title": "von weit"}, space="s1")
    for half in (*halves, *halves):
        await half.fold()
    assert await owners(world) == {low: True}
    assert (await world.record(user=low))["title"] == "von weit"
    assert await world.value("SELECT count(*) FROM mana_ai.change_feed") == 0
