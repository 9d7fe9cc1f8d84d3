"""The supervisor and its agents together: what is folded is heard of, and a death is taken over."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mana_actors.messages import Changed, Report
from supervisor.supervision.dispatch import Pair, Pass
from tests.integration.support import DONE, World, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

MANA = ("u1", "legacy:ai-default")


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [DONE, DONE]) as opened:
        yield opened


async def under_way(world: World) -> "asyncio.Task[tuple[Pass, list[Report]]]":
    """A scan whose run waits for its model's answer."""
    await (await world.client()).mission()
    world.provider.hold()
    scanning = asyncio.create_task(world.driver.tick())
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    return scanning


async def test_a_pause_that_is_folded_reaches_the_run_under_way(world: World):
    scanning = await under_way(world)
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    _, (report,) = await asyncio.wait_for(scanning, 10)
    world.provider.release()
    assert report.outcome in ("withdrawn", "superseded")
    assert [run["state"] for run in await world.runs()] == ["withdrawn"]


async def test_without_routing_a_run_under_way_goes_on_until_its_model_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def nobody(*_: object) -> dict[Pair, Changed]:
        return {}

    monkeypatch.setattr("supervisor.supervision.loop.changes_by_agent", nobody)
    scanning = await under_way(world)
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    await world.driver.supervision.look()
    assert world.driver.tenure.ordering.in_flight == {MANA: {"m1"}}
    assert not scanning.done()
    world.provider.release()
    await scanning


async def test_what_a_process_that_died_left_is_run_by_another(world: World):
    scanning = await under_way(world)
    (process,) = world.driver.processes.existing("agent-")
    process.kill()
    _, reports = await asyncio.wait_for(scanning, 10)
    assert reports == []
    world.provider.release()
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    assert report.holder != process.name
    assert [run["attempt"] for run in await world.runs()] == [2]


async def test_a_restarted_supervisor_adopts_processes_and_their_runs(world: World):
    scanning = await under_way(world)
    epoch = world.driver.tenure.lease.epoch
    await world.driver.restart()
    assert world.driver.tenure.lease.epoch == epoch + 1
    assert world.driver.tenure.ordering.in_flight == {MANA: {"m1"}}
    world.provider.release()
    _, (report,) = await scanning
    assert report.outcome == "ran"
    assert [run["attempt"] for run in await world.runs()] == [1]
    assert len(world.driver.processes.existing("agent-")) == 1
