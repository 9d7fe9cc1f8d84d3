"""What an agent's process remembers, as real folds, routes and reads make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from datetime import timedelta
from typing import Any

import pytest

from mana_actors.agent.attempt import attempt
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.memory import Memory
from mana_actors.messages import Ask, Changed, Remembered, Report
from state.log.deltas import MAX_DELTA_BYTES
from state.runs.found import Found
from state.store.agent import AgentStore
from supervisor.supervision.dispatch import Pair
from tests.integration.support import DONE, PLAN, Client, World, open_world, text, until
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
    await world.driver.settled()
    return client


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
    await world.driver.settled()
    assert await is_as_the_rows(world)
    assert set((await remembered(world)).missions) == {"m1", "m2"}
    assert (await remembered(world)).cap == 9000


async def test_a_mission_that_moves_to_another_agent_and_back(world: World):
    client = await awake(world)
    await client.agent("other")
    await client.mission("m2", agentId="other", state="paused")
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = NULL")
    await client.edit(agentId="other")
    await world.driver.settled()
    assert (await remembered(world)).missions == {}
    await client.edit(title="Dort geändert")
    await client.edit(agentId="legacy:ai-default")
    await world.driver.settled()
    assert await is_as_the_rows(world)
    assert set((await remembered(world)).missions) == {"m1"}


async def test_what_is_too_long_for_a_delta_is_read(world: World):
    client = await awake(world)
    await client.edit(objective="x" * (MAX_DELTA_BYTES + 1))
    await world.driver.settled()
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
        await world.driver.settled()
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
    await world.driver.settled()
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
    await world.driver.settled()
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
    await world.driver.settled()
    _, reports = await world.driver.tick()
    assert reports == []
    await remembered(world)
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.supervision.loop.changes_by_agent", nobody)
        await change(world, client)
        await world.driver.settled()
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


async def one_waits(world: World) -> tuple[Client, int]:
    """The model keeps `m1` waiting, and that `m2`; with how many reports came before."""
    client = await awake(world)
    await client.mission("m2", nextRunAt=text(await world.open_slot()))
    await world.driver.settled()
    await remembered(world)
    world.provider.hold()
    first = len(world.driver.reports)
    await world.driver.supervision.look()

    async def waits() -> bool:
        memory = await remembered(world)
        return (memory.under_way, memory.waiting) == (("m1",), ("m2",))

    await until(waits)
    return client, first


async def ended(world: World, first: int, count: int) -> list[tuple[str, str]]:
    """Missions and how their orders ended, once so many were reported."""

    async def came() -> bool:
        return len(world.driver.reports) >= first + count

    await until(came)
    await world.driver.settled()
    return [(each.mission_id, each.outcome) for each in world.driver.reports[first:]]


async def test_an_order_without_a_place_waits_in_its_process(world: World):
    _, first = await one_waits(world)
    await world.driver.supervision.look()
    assert world.driver.decisions["skipped-concurrency"] == 0
    assert (world.driver.tenure.ordering.count, world.driver.tenure.ordering.running) == (2, 1)
    world.provider.release()
    assert await ended(world, first, 2) == [("m1", "ran"), ("m2", "ran")]
    assert world.provider.most_in_flight == 1


async def test_one_that_waits_too_long_goes_back_and_its_owner_hears_why(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attempt, "PLACE_PATIENCE", timedelta(seconds=0.1))
    _, first = await one_waits(world)
    assert await ended(world, first, 1) == [("m2", "skip")]
    assert (await world.snapshot("m2"))["decision"] == "skipped-concurrency"
    world.provider.release()
    await ended(world, first, 2)
    _, (report,) = await world.driver.tick()
    assert (report.mission_id, report.outcome) == ("m2", "ran")


async def test_one_that_waits_begins_at_once_when_its_owner_allows_another_run(world: World):
    client, first = await one_waits(world)
    await client.edit(MANA[1], table="agents", maxConcurrentMissions=2)
    await world.driver.settled()
    assert await ended(world, first, 1) == [("m2", "later")]  # what it may read is signed anew
    await world.driver.supervision.look()

    async def both_run() -> bool:
        return (await remembered(world)).under_way == ("m1", "m2")

    await until(both_run)
    world.provider.release()
    await ended(world, first, 3)
    assert world.driver.decisions == {"ran": 3}


async def test_one_whose_mission_changed_meanwhile_may_read_what_it_lists_now(world: World):
    client, first = await one_waits(world)
    note = {"id": "n1", "title": "Einkauf", "content": "Zwiebeln"}
    await client.push("insert", "n1", note, table="notes", app="notes")
    await client.edit("m2", inputs=[{"module": "notes", "table": "notes", "id": "n1"}])
    await world.driver.settled()
    world.provider.release()
    assert set(await ended(world, first, 2)) == {("m1", "ran"), ("m2", "later")}
    _, (report,) = await world.driver.tick()
    assert (report.mission_id, report.outcome) == ("m2", "ran")
    assert "Zwiebeln" in str(world.provider.requests[-1])


async def test_none_that_waits_begins_in_a_process_that_held_a_key(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    _, first = await one_waits(world)
    monkeypatch.setattr(Means, "held_a_key", True)
    world.provider.release()
    assert await ended(world, first, 2) == [("m1", "ran"), ("m2", "later")]
    assert MANA not in world.driver.tenure.placement.awake


async def test_none_that_waits_begins_once_there_is_no_room_on_a_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    _, first = await one_waits(world)

    async def short() -> list[str]:
        return ["data folder"]

    monkeypatch.setattr(world.driver.supervision.rooms, "look", short)
    await world.driver.supervision.look()
    assert await ended(world, first, 1) == [("m2", "later")]
    await world.driver.supervision.look()
    assert (await world.snapshot("m2"))["decision"] == "skipped-concurrency"
    world.provider.release()
    assert await ended(world, first, 2) == [("m2", "later"), ("m1", "ran")]


async def test_none_that_waits_begins_while_its_supervisor_drains(world: World):
    _, first = await one_waits(world)
    draining = asyncio.create_task(world.driver.supervision.drain(20))
    assert await ended(world, first, 1) == [("m2", "later")]
    world.provider.release()
    assert await draining == 0
    assert await world.runs("m2") == []


async def test_one_that_waited_in_a_process_that_died_is_ordered_again(world: World):
    await one_waits(world)
    world.driver.tenure.placement.awake[MANA].process.kill()
    await world.driver.settled()

    async def is_free() -> bool:
        return (
            not world.driver.tenure.ordering.in_flight and not world.driver.tenure.ordering.places
        )

    await until(is_free)
    await world.driver.settled()
    world.provider.release()
    _, reports = await world.driver.tick()
    assert {(each.mission_id, each.outcome) for each in reports} == {("m1", "ran"), ("m2", "ran")}
