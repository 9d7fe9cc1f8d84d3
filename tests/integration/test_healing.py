"""A whole-array write cannot erase a server iteration by accident, nor be erased by one."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from mana_actors.messages import Order
from tests.integration.support import LONG_AGO, Json, World, occurrence, open_world, text, until
from tests.postgres import SUPERUSER, Database

MANA = ("u1", "legacy:ai-default")
OURS = occurrence(LONG_AGO)
LATER = "2099-01-01T07:00:00.000Z"
OLD: Json = {"id": "old", "startedAt": "2025-12-01T00:00:00.000Z", "plan": []}


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        await (await opened.client()).mission(iterations=[OLD])
        await opened.driver.tick()
        await opened.driver.fold_all()
        yield opened


def ahead(hours: float = 1) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


async def ids(world: World) -> list[str]:
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []
    return [iteration["id"] for iteration in (await world.record())["iterations"]]


async def test_a_dropped_server_iteration_is_put_back_at_once(world: World):
    await (await world.client()).edit(iterations=[OLD], stamp=ahead())
    looked, (report,) = await world.driver.tick()
    assert [order.kind for orders in looked.orders.values() for order in orders] == ["heal"]
    assert report.outcome == "healed"
    assert await ids(world) == ["old", OURS]
    assert (await world.driver.tick())[1] == []
    assert len(world.provider.requests) == 1


async def test_a_second_removal_is_the_owners_will(world: World):
    client = await world.client()
    for number in (1, 2, 3):
        await client.edit(iterations=[OLD], stamp=ahead(number))
        await world.driver.tick()
    assert await ids(world) == ["old"]
    assert len(await world.written()) == 2
    assert not (await world.snapshot())["heal"]
    assert (await world.driver.tick())[1] == []


async def test_what_was_removed_for_good_stays_away_when_another_is_healed(world: World):
    client = await world.client()
    for number in (1, 2):
        await client.edit(iterations=[], stamp=ahead(number))
        await world.driver.tick()
    second = LONG_AGO + timedelta(days=1)
    await world.open_slot(slot=second)
    await world.driver.tick()
    assert await ids(world) == [occurrence(second)]
    await client.edit(iterations=[], stamp=ahead(24 * 500))
    await world.driver.tick()
    assert await ids(world) == [occurrence(second)]


async def test_executed_steps_are_put_back_never_the_original_plan(world: World):
    client = await world.client()
    (row,) = await world.written()
    executed = {**row["data"]["iterations"][-1], "overallStatus": "approved", "userFeedback": "ja"}
    await client.edit(iterations=[OLD, executed])
    await client.edit(iterations=[OLD], stamp=ahead())
    await world.driver.tick()
    await ids(world)
    healed = (await world.record())["iterations"][-1]
    assert (healed["overallStatus"], healed["userFeedback"]) == ("approved", "ja")


async def test_feedback_that_lost_against_our_write_is_kept(world: World):
    before = datetime.now(UTC) - timedelta(minutes=5)
    browser: Json = {"id": "b1", "startedAt": text(before), "plan": []}
    await (await world.client()).edit(
        iterations=[{**OLD, "userFeedback": "gut"}, browser], stamp=before
    )
    _, (report,) = await world.driver.tick()
    assert report.outcome == "healed"
    assert await ids(world) == ["old", "b1", OURS]
    assert (await world.record())["iterations"][0]["userFeedback"] == "gut"
    assert (await world.driver.tick())[1] == []


async def test_a_client_an_hour_ahead_causes_at_most_one_healing_write(world: World):
    client = await world.client()
    await client.edit(iterations=[OLD], nextRunAt=LATER, stamp=ahead())
    for _ in range(4):
        await world.driver.tick()
    assert await ids(world) == ["old", OURS]
    assert len(await world.written()) == 2
    assert (await world.record())["nextRunAt"] == LATER


async def test_ordinary_edits_heal_nothing(world: World):
    client = await world.client()
    (row,) = await world.written()
    ours = row["data"]["iterations"][-1]
    await client.edit(iterations=[{**OLD, "userFeedback": "gut"}, ours])
    await client.edit(title="anders")
    await client.edit(iterations=[ours])  # the owner removes an entry of a browser
    await world.driver.fold_all()
    assert not (await world.snapshot())["heal"]
    assert await ids(world) == [OURS]


async def test_a_paused_mission_is_healed_without_being_run(world: World):
    client = await world.client()
    await client.edit(state="paused")
    await client.edit(iterations=[OLD], stamp=ahead())
    _, (report,) = await world.driver.tick()
    assert report.outcome == "healed"
    assert await ids(world) == ["old", OURS]
    assert (await world.snapshot())["wake_at"] is None


async def test_a_deleted_mission_is_not_healed(world: World):
    await (await world.client()).edit(iterations=[], deletedAt=text(LONG_AGO), stamp=ahead())
    assert (await world.driver.tick())[1] == []
    assert not (await world.snapshot())["heal"]


async def test_a_change_that_came_while_healing_stands(world: World):
    client = await world.client()
    await client.edit(iterations=[OLD], stamp=ahead())
    await world.driver.fold_all()
    runner = await world.driver.runner(MANA)
    await client.edit(iterations=[{**OLD, "userFeedback": "neu"}], stamp=ahead(2))
    assert (await runner.heal(Order("m1", 0, "heal"))).outcome == "whole"
    await world.driver.tick()
    assert await ids(world) == ["old", OURS]
    assert (await world.record())["iterations"][0]["userFeedback"] == "neu"


@pytest.mark.one_postgres
async def test_what_a_sweep_replays_while_it_is_healed_stands(world: World):
    """It comes from the log, so that nothing in the feed tells of it."""
    client = await world.client()
    await client.edit(iterations=[OLD], stamp=ahead())
    await world.driver.fold_all()
    runner, sweep = await world.driver.runner(MANA), await world.connect(SUPERUSER)
    waits = f"{sweep.get_server_pid()} = ANY (pg_blocking_pids(pid))"
    async with sweep.transaction():
        await sweep.execute("UPDATE mana_ai.mission_snapshots SET version = version + 1")
        healing = asyncio.create_task(runner.heal(Order("m1", 0, "heal")))
        await until(lambda: world.sql(f"SELECT FROM pg_stat_activity WHERE {waits}"))
    assert (await healing).outcome == "whole"
    assert len(await world.written()) == 1
    assert (await world.snapshot())["heal"], "it is looked at again"
