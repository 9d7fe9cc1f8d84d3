"""What the supervisor reads is what the gate needs, and its looks and decisions cost nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from state.store.supervisor.schedule import Decided, Look
from supervisor.supervision.dispatch import Caps, dispatch
from tests.integration.support import LONG_AGO, World, text

pytestmark = pytest.mark.one_postgres

MANA = "legacy:ai-default"


NEXT_WAKE = "SELECT min(wake_at) FROM mana_ai.mission_snapshots"


async def due_ids(world: World, limit: int = 100) -> list[tuple[str, str]]:
    due = await world.driver.schedule.due(world.store.lease, limit)
    return [(mission.user_id, mission.mission_id) for mission in due]


async def test_one_mission_of_each_user_comes_before_the_second_of_any(world: World):
    crowd = await world.client("crowd")
    for number in range(30):
        await crowd.mission(f"m{number:02}")
    for user in ("u1", "u2"):
        await (await world.client(user)).mission()
    await world.driver.fold_all()
    first = await due_ids(world, 3)
    assert {user for user, _ in first} == {"crowd", "u1", "u2"}
    assert len(await due_ids(world, 10)) == 10


async def test_a_blocked_mission_is_not_looked_at_again(world: World):
    client = await world.client()
    await client.agent(state="paused")
    for number in range(5):
        await client.mission(f"m{number}")
    await world.driver.tick()
    assert await due_ids(world) == []
    assert await world.value(NEXT_WAKE) is None
    assert world.driver.decisions == {"skipped-paused": 5}
    await client.edit(MANA, table="agents", state="active")
    await world.driver.fold_all()
    assert len(await due_ids(world)) == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "paused"},
        {"state": "archived"},
        {"state": "unbekannt"},
        {"nextRunAt": None},
        {"nextRunAt": "bald"},
        {"deletedAt": text(LONG_AGO)},
        {"nextRunAt": "2099-01-01T00:00:00.000Z"},
    ],
)
async def test_what_is_not_due_is_never_read(world: World, fields: dict[str, Any]):
    await (await world.client()).mission(**fields)
    await world.driver.fold_all()
    assert await due_ids(world) == []


@pytest.mark.parametrize(
    "cadence", [None, "daily", {"kind": "cron"}, {"kind": "interval", "everyMinutes": 0}]
)
async def test_a_bad_cadence_runs_its_slot_and_is_never_scheduled_again(
    world: World, cadence: object
):
    await (await world.client()).mission(cadence=cadence)
    assert len((await world.driver.tick())[1]) == 1
    await world.driver.fold_all()
    assert (await world.record())["nextRunAt"] is None
    assert (await world.snapshot())["problems"]
    assert await due_ids(world) == []


async def test_a_look_never_overrides_a_fold_that_came_between(world: World):
    client = await world.client()
    await client.mission()
    await world.driver.fold_all()
    (seen,) = await world.driver.schedule.due(world.store.lease, 10)
    await client.edit(title="Neu")  # so that it is due at the same time as before
    await world.driver.fold_all()
    word = Look("u1", "m1", seen.version, None, seen.wake_at)
    await world.driver.schedule.look_again([word])
    assert await due_ids(world) == [("u1", "m1")]
    (now,) = await world.driver.schedule.due(world.store.lease, 10)
    await world.driver.schedule.look_again([Look("u1", "m1", now.version, None, now.wake_at)])
    assert await due_ids(world) == []


async def test_a_decision_is_kept_when_it_changes(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    paused = Decided("u1", "m1", MANA, LONG_AGO, "skipped-paused", "the agent is paused")
    note = world.driver.schedule.note_decisions
    assert await note([paused]) == ["skipped-paused"]
    assert await note([paused]) == []
    assert await note([Decided("u1", "m1", MANA, LONG_AGO, "skipped-archived", "")]) != []
    assert await world.value("SELECT count(*) FROM mana_ai.decisions") == 2


async def test_a_named_agent_that_is_gone_is_told_the_default_one_runs(world: World):
    client = await world.client()
    await client.mission("named", agentId="a9")
    await client.mission("nameless")
    _, reports = await world.driver.tick()
    assert [report.mission_id for report in reports] == ["nameless"]
    assert world.driver.decisions["skipped-missing-agent"] == 1
    await client.agent("a9")
    assert [report.mission_id for report in (await world.driver.tick())[1]] == ["named"]


async def test_an_unreadable_mission_says_so_once(world: World):
    await (await world.client()).mission(objective="enc:1:abc")
    for _ in range(3):
        assert (await world.driver.tick())[1] == []
    assert world.driver.decisions == {"skipped-unreadable": 1}


async def test_the_due_row_knows_usage_and_runs(world: World):
    client = await world.client()
    await client.agent(maxTokensPerDay=500, maxConcurrentMissions=3)
    await client.mission()
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts) VALUES"
        " ('u1', $1, 'x', 7, clock_timestamp() - interval '1 hour'),"
        " ('u1', $1, 'x', 9, clock_timestamp() - interval '25 hours'),"
        " ('u2', $1, 'x', 99, clock_timestamp())",
        MANA,
    )
    await world.sql(
        "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, lease_until)"
        " VALUES ('u1', $1, 'other', now(), 'open', now() + interval '1 hour'),"
        " ('u1', $1, 'dead', now(), 'open', now() - interval '1 hour')",
        MANA,
    )
    (due,) = await world.driver.schedule.due(world.store.lease, 10)
    assert (due.used, due.running, due.max_concurrent) == (7, 1, 3)
    assert due.max_tokens_per_day == 500
    assert due.back_at is not None
    assert timedelta(hours=22) < due.back_at - due.now < timedelta(hours=23)


async def test_a_shard_sees_its_own_buckets_only(world: World):
    bucket = await world.value("SELECT mana_ai.bucket_of('u1')")
    await (await world.client()).mission()
    await world.driver.fold_all()
    await world.sql("DELETE FROM mana_ai.shards")
    take = world.driver.schedule.take_shard
    assert await world.driver.schedule.due(await take("no", bucket + 1, 256, "h"), 10) == []
    mine = await take("yes", bucket, bucket + 1, "h")
    assert len(await world.driver.schedule.due(mine, 10)) == 1
    assert await world.driver.schedule.agents_due_soon(mine, 60) == 1


async def test_a_due_row_becomes_one_order(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    due = await world.driver.schedule.due(world.store.lease, 10)
    result = dispatch(due, {}, Caps())
    assert list(result.orders) == [("u1", MANA)]
    await world.driver.schedule.look_again(result.looks)
    assert await due_ids(world) == []
    wake = await world.value(NEXT_WAKE)
    assert wake is not None
    assert timedelta(0) < wake - datetime.now(UTC) <= timedelta(seconds=30)


async def test_an_agents_reach_is_its_missions_inputs_and_spaces(world: World):
    client = await world.client()
    ref = {"module": "goals", "table": "companionGoals", "id": "g1"}
    await client.mission("m1", inputs=[ref, {"bad": 1}, 7], space="s1")
    await client.mission("m2", agentId="a2", inputs=[{**ref, "id": "g2"}])
    await client.mission("m3", state="paused", inputs=[{**ref, "id": "g3"}])
    await world.driver.fold_all()
    inputs, spaces, _ = await world.driver.schedule.reach_of_agent("u1", MANA)
    assert [ref.id for ref in inputs] == ["g1"]
    assert spaces == ["s1"]


async def test_inputs_that_are_no_list_are_survived(world: World):
    await (await world.client()).mission(inputs={"a": 1})
    assert [report.outcome for report in (await world.driver.tick())[1]] == ["ran"]
