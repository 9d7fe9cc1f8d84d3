"""The actor's token window is rebuilt from the ledger when it wakes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mana_actors.agent.actor import AgentActor
from mana_actors.local_processes import LocalProcesses
from mana_actors.messages import Bind, Hello, Order, Orders
from tests.integration.support import DONE, World, open_world
from tests.postgres import Database

MANA = ("u1", "legacy:ai-default")


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [DONE]) as opened:
        yield opened


@pytest.fixture
async def processes() -> AsyncGenerator[LocalProcesses]:
    """Where the actor lives; it ends with the test."""
    made = LocalProcesses(lambda name, host: AgentActor(name, "test", host))
    yield made
    await made.aclose()


async def test_a_woken_actor_knows_what_was_spent_before_it_woke(
    world: World, processes: LocalProcesses
):
    reported = asyncio.Event()

    async def take(_report: bytes) -> None:
        reported.set()

    processes.supervisors["somebody"] = take
    await (await world.client()).mission()
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts) VALUES"
        " ('u1', $1, 'x', 300, clock_timestamp() - interval '1 hour'),"
        " ('u1', $1, 'x', 700, clock_timestamp() - interval '25 hours'),"
        " ('u1', 'other', 'x', 9000, clock_timestamp()), ('u2', $1, 'x', 90000, clock_timestamp())",
        MANA[1],
    )
    token = await world.driver.schedule.sign_capability(*MANA, [], [], 900)
    agent = processes.create("agent-test-1")
    bound = await agent.tell(Bind(*MANA, 1, "somebody", token, world.settings()))
    assert bound.tokens_24h is None
    await agent.tell(Orders(1, token, (Order("m1", 0),)))
    async with asyncio.timeout(20):
        await reported.wait()
    assert (await agent.tell(Hello(1, "somebody"))).tokens_24h == 300 + 50
    assert await world.spent() == [300, 700, 9000, 90000, 50]
