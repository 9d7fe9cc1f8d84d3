"""What an agent's process remembers, as real folds, routes and reads make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import Any

import pytest

from mana_actors.agent.memory import Memory
from mana_actors.messages import Ask, Changed, Order, Orders, Remembered, Report
from state.log.deltas import MAX_DELTA_BYTES
from state.runs.found import Found
from state.store.agent import AgentStore
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.orders import capability_of
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


# --- what is decided by it ------------------------------------------------------------------------


def nobody(*_: object) -> dict[Pair, Changed]:
    """The supervisor is killed between a fold and its routes: nobody hears of it."""
    return {}


async def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every later read of a memory, as it happens."""
    seen: list[object] = []
    memory = AgentStore.memory

    async def counted(store: AgentStore, missions: Collection[str] | None = None) -> Found:
        seen.append(missions)
        return await memory(store, missions)

    monkeypatch.setattr(AgentStore, "memory", counted)
    return seen


async def test_an_order_decided_by_what_is_held_reads_nothing_before_its_claim(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await awake(world)
    await world.open_slot()
    await settled(world)
    await remembered(world)
    seen = await reads_of(monkeypatch)
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    assert seen == []


async def cap_raised(world: World, client: Client) -> None:
    await client.edit(MANA[1], table="agents", maxTokensPerDay=900_000)


async def resumed(world: World, client: Client) -> None:
    await client.edit(MANA[1], table="agents", state="active")


async def run_now(world: World, client: Client) -> None:
    await world.sql("SELECT mana_ai.request_run($1, 'm1', 'a-key')", client.user_id)


async def zone_moved(world: World, client: Client) -> None:
    zone = "INSERT INTO mana_ai.user_settings (user_id, time_zone) VALUES ($1, 'Asia/Tokyo')"
    await world.sql(zone, client.user_id)
    await world.open_slot()


async def limit_raised(world: World, client: Client) -> None:
    await world.sql(
        "SELECT mana_ai.set_limit('agent', 'u1', $1, 900000, NULL, true, false)", MANA[1]
    )
    await world.driver.schedule.wake_after_limits()


Change = Callable[[World, Client], Awaitable[None]]
BEFORE: dict[Change, dict[str, Any]] = {
    cap_raised: {"maxTokensPerDay": 10},
    resumed: {"state": "paused"},
    run_now: {},
    zone_moved: {},
    limit_raised: {},
}


async def refused_until(
    world: World, change: Change, monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> list[Report]:
    """What runs at the first look after a change that the agent, awake and refused, never heard."""
    client = await awake(world)
    if change is limit_raised:
        lowered = "SELECT mana_ai.set_limit('agent', 'u1', $1, 10, NULL, true, false)"
        await world.sql(lowered, MANA[1])
    if BEFORE[change]:
        await client.edit(MANA[1], table="agents", **BEFORE[change])
    if change not in (run_now, zone_moved):
        await world.open_slot()
    await settled(world)
    _, reports = await world.driver.tick()
    assert reports == []
    await remembered(world)
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.supervision.loop.changes_by_agent", nobody)
        await change(world, client)
        await settled(world)
    if restarts:
        await world.driver.restart()
    _, reports = await world.driver.tick()
    return reports


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("change", list(BEFORE))
async def test_what_a_change_allows_starts_at_once_though_its_agent_never_heard(
    world: World, change: Change, monkeypatch: pytest.MonkeyPatch, restarts: bool
):
    (report,) = await refused_until(world, change, monkeypatch, restarts=restarts)
    assert report.outcome == "ran"


async def test_memory_used_without_a_look_at_versions_refuses_what_is_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(Memory, "differs", never)
    (report,) = await refused_until(world, cap_raised, monkeypatch, restarts=False)
    assert report.decision == "skipped-budget"


async def test_an_order_without_a_place_waits_in_its_process(world: World):
    client = await awake(world)
    await client.mission("m2")
    await world.open_slot()
    await settled(world)
    world.provider.hold()
    tenure = world.driver.tenure
    process, epoch = tenure.placement.awake[MANA].process, tenure.lease.epoch
    token = await capability_of(world.driver.schedule, MANA)
    seen = len(world.provider.requests)
    tenure.ordering.enter(MANA, ["m1", "m2"])
    await process.tell(Orders(epoch, token, (Order("m1", 0), Order("m2", 0))))
    await asyncio.to_thread(world.provider.wait_for_requests, seen + 1)

    async def held() -> tuple[int, int]:
        memory = await remembered(world)
        return len(memory.under_way), len(memory.waiting)

    async with asyncio.timeout(20):
        while await held() != (1, 1):  # noqa: ASYNC110  # the process has no event to wait for
            await asyncio.sleep(0.002)
    first = len(world.driver.reports)
    world.provider.release()
    async with asyncio.timeout(20):
        while len(world.driver.reports) < first + 2:  # noqa: ASYNC110  # no event of them all
            await asyncio.sleep(0.002)
    assert [each.outcome for each in world.driver.reports[first:]] == ["ran", "ran"]
