"""Agents whose missions list thousands of inputs: they work, and where they cannot it is said."""

import base64
import uuid
from collections.abc import AsyncGenerator

import pytest

from state.log.tables import scope_of
from state.store.agent import AgentStore
from state.store.connect import CapabilityInvalid, CapabilityTooLong
from state.store.connect import Database as Pool
from tests.integration.support import DONE, PLAN, Json, World, open_world, until
from tests.integration.test_ending_with_secrets import Processes, at_work
from tests.postgres import Database
from tests.record_shapes import GOAL

PAIR = ("u1", "legacy:ai-default")
pytestmark = pytest.mark.one_postgres


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE] * 3) as opened:
        yield opened


def listed(count: int, **last: str) -> list[Json]:
    """So many references into the table with the longest name, each another."""
    refs: list[Json] = [{**GOAL.ref, "id": str(uuid.uuid4())} for _ in range(count)]
    return [*refs[:-1], refs[-1] | last]


async def token_of(world: World) -> str:
    """What the supervisor signs for the agent now."""
    schedule = world.driver.schedule
    inputs, spaces, policy = await schedule.reach_of_agent(*PAIR)
    scope = scope_of(inputs, policy)
    return await schedule.sign_capability(*PAIR, spaces, scope, 900)


async def check(world: World, token: str) -> Json | None:
    agent = await world.connect("mana_agent")
    async with agent.transaction():
        await agent.execute("SELECT set_config('app.capability', $1, true)", token)
        return await agent.fetchval("SELECT mana_ai.capability()")


async def test_a_mission_with_a_thousand_inputs_is_claimed_read_and_committed(world: World):
    client = await world.client()
    await client.push("insert", GOAL.id, GOAL.record, table=GOAL.table, app=GOAL.app)
    await client.mission(inputs=listed(1000, id=GOAL.id))
    await world.driver.fold_all()
    report = await world.run()
    assert (report.outcome, report.reason) == ("ran", "")
    assert GOAL.content in world.provider.requests[0].body["messages"][1]["content"]
    assert [row["state"] for row in await world.runs()] == ["committed"]


async def test_three_missions_with_a_thousand_inputs_each_run(world: World):
    client = await world.client()
    for mission in ("m1", "m2", "m3"):
        await client.mission(mission, inputs=listed(1000))
    await world.driver.fold_all()
    assert len(await token_of(world)) > 250_000
    reports = [await world.run(mission) for mission in ("m1", "m2", "m3")]
    assert [report.outcome for report in reports] == ["ran"] * 3


async def test_a_renewal_keeps_all_that_was_listed(world: World):
    await (await world.client()).mission(inputs=listed(3000))
    await world.driver.fold_all()
    token = await token_of(world)
    pool = Pool(world.access("mana_agent"), max_connections=1)
    store = AgentStore(pool, *PAIR, lambda: token)
    claim = await store.claim("m1", (await world.snapshot())["next_run_at"], 60_000, "h", "{}")
    _, renewed = await store.renew([(claim.run_id, 1)], 60_000)
    await pool.close()
    assert renewed is not None
    scopes: list[list[str]] = []
    for shown in (token, renewed):
        agent = await world.connect("mana_agent")
        async with agent.transaction():
            await agent.execute("SELECT set_config('app.capability', $1, true)", shown)
            scopes.append(await agent.fetchval("SELECT mana_ai.capability_scope()"))
    assert len(scopes[0]) == 3000
    assert scopes[0] == scopes[1]


async def test_what_nobody_signed_is_refused_and_never_parsed(world: World):
    """Parsed, so deep a text is an error of the server's and costs its stack."""
    deep = base64.urlsafe_b64encode(b"[" * 300_000).decode().rstrip("=")
    await (await world.client()).mission(inputs=listed(3000))
    await world.driver.fold_all()
    token = await token_of(world)
    assert await check(world, token) is not None
    signature = token.rsplit(".", 1)[1]
    assert await check(world, f"{deep}.{signature}") is None
    assert await check(world, f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}") is None
    assert await check(world, f"A{token[1:]}") is None


async def test_a_reach_that_does_not_fit_is_not_signed(world: World):
    """And what is signed leaves room for its renewal under a secret with a longer name."""
    schedule = world.driver.schedule
    with pytest.raises(CapabilityTooLong):
        await schedule.sign_capability(*PAIR, (), ["x" * 400_000], 900)
    most = await longest(world)
    await world.sql(
        "UPDATE mana_ai.capability_secrets SET kid = repeat('k', 200) WHERE audience = 'db'"
    )
    renewing = "SELECT mana_ai.sign_payload(($1::jsonb - 'kid'))"
    payload = base64.urlsafe_b64decode(most.split(".")[0] + "==").decode()
    assert await check(world, await world.value(renewing, payload)) is not None


async def longest(world: World) -> str:
    """The longest token that can be signed."""
    lo, hi, found = 1, 400_000, ""
    while lo < hi:
        middle = (lo + hi + 1) // 2
        try:
            scope = ["x" * middle]
            found = await world.driver.schedule.sign_capability(*PAIR, (), scope, 900)
            lo = middle
        except CapabilityTooLong:
            hi = middle - 1
    return found


async def test_an_agent_that_lists_too_much_is_told_of(world: World):
    processes = Processes()
    async with at_work(world, processes) as scene:
        await (await world.client()).mission(inputs=listed(7000))

        async def told() -> bool:
            return "skipped-inputs" in str(scene.supervision.metrics.snapshot())

        await until(told, 20)
        assert (await world.snapshot())["decision"] == "skipped-inputs"
        assert await world.value("SELECT decision FROM mana_ai.decisions") == "skipped-inputs"
        assert [one.orders for one in processes.made if one.orders] == []


async def test_a_refused_capability_is_no_unwanted_mission(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    pool = Pool(world.access("mana_agent"), max_connections=1)
    with pytest.raises(CapabilityInvalid):
        await AgentStore(pool, *PAIR, lambda: "forged").memory(None)
    await pool.close()
