"""What an agent's process remembers, as real folds, routes and reads make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mana_actors.messages import Ask, Changed, Remembered
from state.log.deltas import MAX_DELTA_BYTES
from supervisor.supervision.dispatch import Pair
from tests.integration.support import DONE, PLAN, Client, World, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

MANA, OTHER = ("u1", "legacy:ai-default"), ("u1", "other")
ROWS = (
    "SELECT mission_id, version FROM mana_ai.mission_snapshots WHERE user_id = $1 AND agent_id = $2"
)
OWN = "SELECT version FROM mana_ai.agent_snapshots WHERE user_id = $1 AND agent_id = $2"


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE] * 9) as opened:
        yield opened


async def awake(world: World, pair: Pair = MANA) -> Client:
    """A client whose agent was woken by a run of mission `m1`."""
    client = await world.client()
    await client.agent(pair[1])
    await client.mission(agentId=pair[1])
    await world.driver.tick()
    await settled(world)
    return client


async def settled(world: World) -> None:
    """Everything folded, and told to whom it concerns."""
    await world.driver.fold_all()
    async with asyncio.timeout(20):
        while world.driver.supervision.background:  # noqa: ASYNC110  # many tasks, no event of all
            await asyncio.sleep(0.002)


async def remembered(world: World, pair: Pair = MANA) -> Remembered:
    """What the process holds once it has read what it knows it lacks."""
    process = world.driver.tenure.placement.awake[pair].process
    async with asyncio.timeout(20):
        while True:
            identity = await process.tell(Ask(world.driver.tenure.lease.epoch))
            assert identity.memory is not None
            if identity.memory.is_whole and not identity.memory.is_behind:
                return identity.memory
            await asyncio.sleep(0.002)


async def is_as_the_rows(world: World, pair: Pair = MANA) -> bool:
    held = await remembered(world, pair)
    missions = {row["mission_id"]: row["version"] for row in await world.sql(ROWS, *pair)}
    own = [row["version"] for row in await world.sql(OWN, *pair)]
    return held.missions == missions and [held.agent_version] == (own or [None])


async def test_memory_follows_the_rows(world: World):
    client = await awake(world)
    assert await is_as_the_rows(world)
    await client.edit(title="Anders", state="paused")
    await client.mission("m2")
    await client.edit("legacy:ai-default", table="agents", maxTokensPerDay=9000)
    await settled(world)
    assert await is_as_the_rows(world)
    assert set((await remembered(world)).missions) == {"m1", "m2"}
    assert (await remembered(world)).cap == 9000


async def test_a_mission_that_moves_to_another_agent_and_back(world: World):
    client = await awake(world)
    await client.agent("other")
    await client.mission("m2", agentId="other", state="paused")
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = NULL")
    await client.edit(agentId="other")
    await settled(world)
    assert (await remembered(world)).missions == {}
    await client.edit(title="Dort geändert")
    await client.edit(agentId="legacy:ai-default")
    await settled(world)
    assert await is_as_the_rows(world)
    assert set((await remembered(world)).missions) == {"m1"}


async def test_what_is_too_long_for_a_delta_is_read(world: World):
    client = await awake(world)
    await client.edit(objective="x" * (MAX_DELTA_BYTES + 1))
    await settled(world)
    assert await is_as_the_rows(world)


async def test_a_supervisor_killed_between_fold_and_routes_leaves_no_stale_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    client = await awake(world)
    before = await remembered(world)

    def nobody(*_: object) -> dict[Pair, Changed]:
        return {}

    with monkeypatch.context() as patch:
        patch.setattr("supervisor.supervision.loop.changes_by_agent", nobody)
        await client.edit(title="Anders", nextRunAt="2099-01-01T00:00:00.000Z")
        await client.mission("m2", nextRunAt="2099-01-01T00:00:00.000Z")
        await settled(world)
    assert await remembered(world) == before
    await world.driver.restart()
    assert await is_as_the_rows(world)
    assert set((await remembered(world)).missions) == {"m1", "m2"}


async def test_a_process_says_what_it_holds_and_no_word_of_it(world: World):
    client = await awake(world)
    await client.edit("legacy:ai-default", table="agents", maxTokensPerDay=9000)
    await world.sql(
        "INSERT INTO mana_ai.user_settings (user_id, time_zone) VALUES ('u1', 'Asia/Tokyo')"
    )
    await settled(world)
    held = await remembered(world)
    assert (held.cap, held.used, held.held) == (9000, 150, 0)
    assert held.time_zone == "Asia/Tokyo"
    assert "Wochenplan" not in repr(held)


async def test_a_new_epoch_takes_rows_as_they_are_though_their_versions_went_back(world: World):
    await awake(world)
    await world.sql("UPDATE mana_ai.mission_snapshots SET version = 1")  # a restore
    assert not await is_as_the_rows(world)
    await world.driver.restart()
    assert await is_as_the_rows(world)
