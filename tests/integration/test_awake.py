"""Who stays awake: as long as it is worth its CPU, and no more than the machine can feed."""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from mana_actors.agent.footprint import Footprint
from mana_actors.messages import Identity
from mana_actors.processes import AgentProcess
from supervisor.node.idle_time import CROWDED_S, UNMEASURED_S, IdleCosts
from supervisor.node.settings import Settings
from supervisor.supervision import placement
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.placement import Awake, most_awake
from supervisor.supervision.upkeep import one_round
from tests.driver import Driver
from tests.integration.support import DONE, World, open_world, text, until
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

AGENT = "legacy:ai-default"
PLAIN = Settings(data_dir="/", secrets_dir="/")


def nothing(_: Footprint) -> float:
    return 0.0


@pytest.fixture
async def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[World]:
    """Its agents share a process, so none of them says what it burned by itself."""
    monkeypatch.setattr(Footprint, "cpu_s", nothing)
    async with open_world(database, [DONE] * 12) as opened:
        yield opened


async def used(world: World, driver: Driver, user: str) -> Pair:
    """An agent that has just run a mission."""
    await (await world.client(user)).mission(f"m-{user}")
    _, reports = await driver.tick()
    assert [report.outcome for report in reports] == ["ran"]
    return user, AGENT


@pytest.mark.parametrize(
    ("settings", "costs", "seconds"),
    [
        ({}, None, UNMEASURED_S),
        ({}, (0.1, 0.01), 10),
        ({"agent_idle_s": 40}, (0.1, 0.01), 40),
        ({"agent_idle_s": 40, "agent_keep_awake": True}, (0.1, 0.01), None),
    ],
)
async def test_an_idle_agent_sleeps_when_it_has_cost_what_a_start_costs(
    world: World,
    settings: dict[str, Any],
    costs: tuple[float, float] | None,
    seconds: float | None,
):
    await world.driver.tenure.placement.watches.cancel()
    driver = world.new_driver(supervision=settings)
    await driver.start()
    pair = await used(world, driver, "u1")
    known = driver.tenure.placement
    if costs is not None:
        known.idle_costs.started(costs[0])
        known.idle_costs.idled(costs[1], 1.0)
    known.awake[pair].used_at -= 86_400 if seconds is None else seconds - 2
    await one_round(driver.supervision)
    assert pair in known.awake
    assert driver.supervision.status()["idle"]["seconds"] == seconds
    gauge = driver.supervision.metrics.snapshot()["gauges"]["agent_idle_seconds"]["[]"]
    assert gauge == (float("inf") if seconds is None else seconds)
    if seconds is not None:
        known.awake[pair].used_at -= 2
        await one_round(driver.supervision)
        assert known.awake == {}


async def test_who_is_done_makes_way_while_more_are_woken_than_start_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    pair = await used(world, world.driver, "u1")
    known = world.driver.tenure.placement
    known.awake[pair].used_at -= CROWDED_S
    await one_round(world.driver.supervision)
    assert pair in known.awake
    may_start = asyncio.Event()
    create = world.driver.processes.create

    def slow(name: str) -> AgentProcess:
        process = create(name)
        tell = process.tell

        async def told(message: msgspec.Struct, timeout_s: float = 10.0) -> Identity:
            await may_start.wait()
            return await tell(message, timeout_s)

        process.tell = told
        return process

    monkeypatch.setattr(world.driver.processes, "create", slow)
    crowd = [f"c{number}" for number in range(placement.STARTS_AT_ONCE + 1)]
    for user in crowd:
        await (await world.client(user)).mission()
    await world.driver.fold_all()
    await world.driver.supervision.look()

    async def is_crowded() -> bool:
        return known.is_crowded

    await until(is_crowded)
    await one_round(world.driver.supervision)
    assert pair not in known.awake
    may_start.set()

    async def all_ran() -> bool:
        return len(world.driver.reports) == 1 + len(crowd)

    await until(all_ran, 30)
    assert not known.is_crowded


async def test_no_more_are_awake_or_made_ready_than_the_cores_can_feed(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert most_awake(PLAIN) == 2 * placement.AWAKE_PER_CORE
    monkeypatch.setattr(placement, "AWAKE_PER_CORE", 1)
    driver = world.new_driver(supervision={"prepare_ahead_s": 3600})
    await driver.start()
    for user in ("u1", "u2"):
        await used(world, driver, user)
    soon = text(await world.value("SELECT now() + interval '1 minute'"))
    for user in ("u3", "u4", "u5", "u6"):
        await (await world.client(user)).mission(nextRunAt=soon)
    await driver.fold_all()
    await one_round(driver.supervision)
    known = driver.tenure.placement
    assert (len(known.awake), known.warm + known.making) == (2, 0)
    await used(world, driver, "u7")
    assert {user for user, _ in known.awake} == {"u2", "u7"}


def said(*, cpu_s: float, idle_s: float, running: tuple[str, ...] = ()) -> Identity:
    return Identity("agent-1", 1, "r", "u1", AGENT, running=running, idle_s=idle_s, cpu_s=cpu_s)


async def test_only_a_process_that_did_nothing_says_what_idleness_costs(world: World):
    await used(world, world.driver, "u1")
    process = world.driver.tenure.placement.awake[("u1", AGENT)].process
    agent = Awake(("u1", AGENT), process, said(cpu_s=1.0, idle_s=3.0))
    assert agent.idled(said(cpu_s=1.5, idle_s=5.0)) == (0.5, 2.0)
    assert agent.idled(said(cpu_s=1.5, idle_s=0.0, running=("m1",))) is None
    agent.used_at += 1  # an order that was given and reported on since
    assert agent.idled(said(cpu_s=1.5, idle_s=5.0)) is None
    agent.learn(said(cpu_s=1.5, idle_s=5.0, running=("m1",)))
    assert agent.idled(said(cpu_s=2.0, idle_s=5.0)) is None


async def test_an_idle_process_is_greeted_less_often_than_a_busy_one(world: World):
    await used(world, world.driver, "u1")
    known, pair = world.driver.tenure.placement, ("u1", AGENT)
    agent = known.awake[pair]
    spoke_at = agent.spoke_at
    await known.greet([])
    assert agent.spoke_at == spoke_at
    await known.greet([pair])
    assert agent.spoke_at > spoke_at


async def test_starts_and_greetings_are_what_is_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    burned = iter(n * 0.25 for n in range(1, 1000))

    def ever_more(_: Footprint) -> float:
        return next(burned)

    monkeypatch.setattr(Footprint, "cpu_s", ever_more)
    await used(world, world.driver, "u1")
    known = world.driver.tenure.placement
    await known.greet([], idle_s=0.0)

    async def has_idled() -> bool:
        await known.greet([], idle_s=0.0)
        return known.idle_costs.idle_time(PLAIN).idle_cpu_share is not None

    await until(has_idled)
    assert known.idle_costs.idle_time(PLAIN).start_cpu_s == 0.25
    known.refill(1)

    async def is_warm() -> bool:
        return known.warm == 1

    await until(is_warm)
    assert isinstance(known.idle_costs, IdleCosts)
    assert known.idle_costs.idle_time(PLAIN).start_cpu_s != 0.25
