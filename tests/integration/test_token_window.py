"""The actor's token window is rebuilt from the ledger when it wakes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from mana_actors.agent.actor import AgentActor
from mana_actors.llm.client import HttpProvider
from mana_actors.messages import Bind, Hello, Identity, Order, Orders, decode_identity, encode
from state.store.connect import Database as Connections
from tests.integration.support import DONE, World, open_world
from tests.postgres import Database

MANA = ("u1", "legacy:ai-default")


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [DONE]) as opened:
        yield opened


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the actor reports, which it does to nobody here."""
    heard = asyncio.Event()

    async def report_to(_supervisor: str, _report: bytes) -> None:
        heard.set()

    monkeypatch.setattr("mana_actors.agent.actor.report_to", report_to)
    return heard


@pytest.fixture
async def closed(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """Closes what the actor opens: in its own process it ends with it."""
    opened: list[Connections | HttpProvider] = []

    def kept(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **more: Any) -> Any:
            opened.append(make(*args, **more))
            return opened[-1]

        return made

    monkeypatch.setattr("mana_actors.agent.actor.Database", kept(Connections))
    monkeypatch.setattr("mana_actors.agent.actor.HttpProvider", kept(HttpProvider))
    yield
    for one in opened:
        await (one.close() if isinstance(one, Connections) else one.aclose())


async def identity(actor: AgentActor) -> Identity:
    return decode_identity(await actor.tell(encode(Hello(1, "nobody"))))


@pytest.mark.usefixtures("closed")
async def test_a_woken_actor_knows_what_was_spent_before_it_woke(
    world: World, reported: asyncio.Event
):
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
    actor = AgentActor("agent-test-1", "test")
    await actor.tell(encode(Bind(*MANA, 1, "nobody", token, world.settings())))
    assert (await identity(actor)).tokens_24h is None
    await actor.tell(encode(Orders(1, token, (Order("m1", 0),))))
    async with asyncio.timeout(20):
        await reported.wait()
    assert (await identity(actor)).tokens_24h == 300 + 50
    assert await world.spent() == [300, 700, 9000, 90000, 50]
