"""Operators' limits hold beside the owners' caps, in tokens and in money (P5)."""

from collections.abc import AsyncGenerator

import pytest

from state.store.fleet import FleetStore
from state.store.limits import LimitChange
from tests.gateway_parts import fleet_of
from tests.integration.support import DONE, World, open_world
from tests.postgres import Database

MANA = "legacy:ai-default"
SPEND = (
    "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, ts)"
    " VALUES ($1, $2, 'x', $3, $4, clock_timestamp() - interval '1 hour')"
)


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [DONE] * 20) as opened:
        yield opened


@pytest.fixture
async def fleet(database: Database) -> AsyncGenerator[FleetStore]:
    store = fleet_of(database)
    yield store
    await store.close()


async def test_a_budget_says_used_held_left_and_when_room_returns(world: World, fleet: FleetStore):
    client = await world.client()
    await client.agent(maxTokensPerDay=1000)
    await world.driver.fold_all()
    await world.sql(SPEND, "u1", MANA, 900, 5)
    await world.sql(SPEND, "u1", "other", 50, 1)
    await fleet.set_limit(LimitChange("user", "u1", tokens=960))
    found = await fleet.budget("u1", MANA)
    assert found is not None
    assert (found.cap, found.cap_source, found.used, found.held) == (1000, "owner", 900, 0)
    assert (found.left, found.cost_micros_used) == (10, 5)
    assert found.back_at is not None
    assert [one.scope for one in found.limits] == ["agent", "user"]
    assert await fleet.budget("u1", "nobody") is None
