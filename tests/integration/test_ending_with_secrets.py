"""A process that decrypted something is put to sleep, and what comes meanwhile goes to another."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from mana_actors.messages import Bind, Hello, Identity, Order, Orders, Report, Sleep
from mana_actors.processes import AgentProcess, ProcessGone
from state.runs.outcome import Interrupted
from state.store.connect import Database as Pool
from state.store.janitor import JanitorStore
from supervisor.node.settings import Settings
from supervisor.supervision import loop, upkeep
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.loop import Supervision
from tests.integration.support import World, open_world, until
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

PAIR: Pair = ("u1", "legacy:ai-default")


class Process:
    """An agent's process that does what it is told, and nothing by itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held_a_key = False
        self.refuses = False
        self.orders: list[Order] = []
        self._bound: Bind | None = None
        self.ended = asyncio.Event()

    async def tell(self, message: msgspec.Struct, timeout_s: float = 10.0) -> Identity:
        """Who it is; ProcessGone once it sleeps."""
        if self.ended.is_set():
            raise ProcessGone(self.name)
        match message:
            case Bind():
                self._bound = message
            case Orders() if not self.refuses:
                self.orders += message.orders
            case Orders():
                return self._identity(accepted=False)
            case Sleep():
                self.ended.set()
            case _:
                assert isinstance(message, Hello)
        return self._identity(accepted=True)

    def _identity(self, *, accepted: bool) -> Identity:
        user, agent = (self._bound.user_id, self._bound.agent_id) if self._bound else (None, None)
        kept: dict[str, Any] = {"accepted": accepted, "held_a_key": self.held_a_key}
        return Identity(self.name, 1, "r1", user, agent, **kept)

    async def gone(self) -> None:
        """Return once it sleeps or was killed."""
        await self.ended.wait()

    def kill(self) -> None:
        """End it."""
        self.ended.set()


class Processes:
    """Made when they are needed; remembered in that order."""

    def __init__(self) -> None:
        self.made: list[Process] = []

    def create(self, name: str) -> AgentProcess:
        """A new one."""
        self.made.append(Process(name))
        return self.made[-1]

    def existing(self, prefix: str) -> list[AgentProcess]:
        """Those that a supervisor finds when it starts."""
        return [one for one in self.made if not one.ended.is_set()]

    def ordered(self, mission: str) -> Process | None:
        """The last process that was given this mission and lives."""
        found = [one for one in self.made if mission in [order.mission_id for order in one.orders]]
        return found[-1] if found and not found[-1].ended.is_set() else None


class Scene:
    """A supervision at work with such processes; all agents are kept awake."""

    def __init__(self, world: World, processes: Processes) -> None:
        self.world, self.processes = world, processes
        settings = Settings(
            data_dir="/", secrets_dir="/", warm_pool=0, prepare_ahead_s=0, agent_keep_awake=True
        )
        self.pools = [
            Pool(world.access(role), max_connections=4)
            for role in ("mana_supervisor", "mana_janitor")
        ]
        self.supervision = Supervision(
            settings,
            world.settings(),
            self.pools[0],
            processes,
            name="supervisor-r1-0",
            release="r1",
            janitor=JanitorStore(self.pools[1]),
        )

    async def given(self, mission: str) -> Process:
        """The living process that has the order for a mission."""

        async def look() -> bool:
            return self.processes.ordered(mission) is not None

        await until(look, 20)
        found = self.processes.ordered(mission)
        assert found is not None
        return found

    async def report(self, process: Process, mission: str, *, held_a_key: bool) -> None:
        """The process's run of a mission is over."""
        process.held_a_key |= held_a_key
        over = Report(process.name, *PAIR, mission, 1, Interrupted(), held_a_key=held_a_key)
        await self.supervision.report(over)

    def is_awake(self, process: Process) -> bool:
        """Whether orders would go to it."""
        assert self.supervision.tenure is not None
        awake = self.supervision.tenure.placement.awake.get(PAIR)
        return awake is not None and awake.process.name == process.name


@asynccontextmanager
async def at_work(world: World, processes: Processes) -> AsyncGenerator[Scene]:
    """A scene whose supervision runs."""
    scene = Scene(world, processes)
    running = asyncio.create_task(scene.supervision.run())
    try:
        yield scene
    finally:
        await scene.supervision.drain(0)
        await asyncio.wait_for(running, 10)
        for pool in scene.pools:
            await pool.close()


@pytest.fixture
async def scene(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Scene]:
    """One without upkeep, which puts to sleep what a report did not."""

    async def no_upkeep(_: Supervision) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(loop, "upkeep", no_upkeep)
    async with open_world(database) as world, at_work(world, Processes()) as scene:
        yield scene


async def test_it_sleeps_after_its_run_and_the_next_order_goes_to_a_new_process(scene: Scene):
    client = await scene.world.client()
    await client.mission("m1")
    first = await scene.given("m1")
    await scene.report(first, "m1", held_a_key=True)
    await asyncio.wait_for(first.ended.wait(), 10)
    assert not scene.is_awake(first)
    await client.mission("m2")
    assert (await scene.given("m2")).name != first.name


async def test_a_process_that_held_no_key_stays_awake(scene: Scene):
    client = await scene.world.client()
    await client.mission("m1")
    first = await scene.given("m1")
    await scene.report(first, "m1", held_a_key=False)
    await client.mission("m2")
    assert (await scene.given("m2")).name == first.name


async def test_it_does_not_sleep_while_another_run_of_its_is_in_flight(scene: Scene):
    client = await scene.world.client()
    await client.agent(maxConcurrentMissions=2)
    await client.mission("m1")
    await client.mission("m2")
    first = await scene.given("m1")
    assert (await scene.given("m2")).name == first.name
    await scene.report(first, "m1", held_a_key=True)
    assert scene.is_awake(first)
    await scene.report(first, "m2", held_a_key=True)
    await asyncio.wait_for(first.ended.wait(), 10)


async def test_a_report_of_an_earlier_process_ends_no_other(scene: Scene):
    client = await scene.world.client()
    await client.mission("m1")
    first = await scene.given("m1")
    await scene.report(Process("agent-r1-earlier"), "m1", held_a_key=True)
    await client.mission("m2")
    assert (await scene.given("m2")).name == first.name


async def test_an_order_that_an_ending_process_refuses_is_given_to_another(scene: Scene):
    client = await scene.world.client()
    await client.mission("m1")
    first = await scene.given("m1")
    await scene.report(first, "m1", held_a_key=False)
    first.refuses = True  # it was told to sleep, or ends by itself
    await client.mission("m2")

    async def is_put_off() -> bool:
        return bool(
            await scene.world.sql(
                "SELECT FROM mana_ai.mission_snapshots WHERE mission_id = 'm2'"
                " AND wake_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '2 s'"
            )
        )

    await until(is_put_off)
    first.kill()
    assert (await scene.given("m2")).name != first.name


async def test_an_adopted_process_that_held_a_key_sleeps_at_the_next_round(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upkeep, "EVERY_S", 0.05)
    left, processes = Process("agent-r1-left"), Processes()
    processes.made.append(left)
    async with open_world(database) as world:
        await left.tell(Bind(*PAIR, 0, "supervisor-r1-0", "capability", world.settings()))
        left.held_a_key = True
        async with at_work(world, processes):
            await asyncio.wait_for(left.ended.wait(), 10)
