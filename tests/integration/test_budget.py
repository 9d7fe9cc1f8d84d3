"""No model call is started over its owner's cap, and each is charged once (P5)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import AliasFacts, Exposure
from mana_actors.messages import Order, Report
from state.runs.reasons import told
from state.store.agent import AgentStore, Unsettled
from state.store.connect import Database as Connections
from state.store.connect import Unavailable
from tests.integration.support import DONE, PLAN, World, until

MANA = ("u1", "legacy:ai-default")
HOLDS = "SELECT tokens FROM mana_ai.token_holds"
NO_LOCK = """
CREATE OR REPLACE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN END $$
"""


async def hold_of_one_call(world: World) -> int:
    """What one call of these missions holds, learnt without a cap from a mission of its own."""
    client = await world.client("probe")
    await client.agent()  # a known agent is offered more, so its calls are larger
    await client.mission("m0")
    await world.driver.fold_all()
    world.provider.hold()
    running = asyncio.create_task(
        (await world.driver.runner(("probe", MANA[1]))).run(Order("m0", 0))
    )
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    size = await world.value(HOLDS)
    running.cancel()
    await asyncio.wait([running])
    world.provider.release()
    await world.sql("DELETE FROM mana_ai.token_holds")
    return int(size)


async def race(world: World, missions: int, cap: int) -> list[Report]:
    """Missions of one agent that ask for their first call at once, answers held back."""
    client = await world.client()
    await client.agent(maxConcurrentMissions=missions, maxTokensPerDay=cap)
    for number in range(missions):
        await client.mission(f"m{number}")
    await world.driver.fold_all()
    asked = len(world.provider.requests)
    world.provider.hold()
    runs = [asyncio.create_task(world.run(f"m{number}")) for number in range(missions)]

    async def all_decided() -> bool:
        over = sum(task.done() for task in runs)
        return over + len(world.provider.requests) - asked == missions

    await until(all_decided, 30)
    world.provider.release()
    return list(await asyncio.gather(*runs))


async def test_twenty_racing_missions_start_no_call_over_the_cap(world: World):
    hold = await hold_of_one_call(world)
    cap = hold * 5 + hold // 2
    reports = await race(world, 20, cap)
    outcomes = [report.outcome for report in reports]
    assert outcomes.count("ran") == 5
    assert outcomes.count("waiting") == 15
    assert {r.decision for r in reports if r.outcome == "waiting"} == {"skipped-budget"}
    assert len(world.provider.requests) == 1 + 5
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0


async def test_without_the_ledgers_lock_the_cap_is_overrun(world: World):
    hold = await hold_of_one_call(world)
    # A check that is slower than its neighbour's insert, and no lock that keeps them apart.
    await world.sql(NO_LOCK)
    await world.sql(
        "CREATE OR REPLACE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text)"
        " RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp"
        " BEGIN ATOMIC SELECT; END"
    )
    await world.sql(
        "CREATE FUNCTION mana_ai.dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$"
    )
    await world.sql(
        "CREATE TRIGGER dawdle BEFORE INSERT ON mana_ai.token_holds"
        " FOR EACH ROW EXECUTE FUNCTION mana_ai.dawdle()"
    )
    await race(world, 4, hold)
    assert len(world.provider.requests) > 1 + 1


async def test_missions_that_waited_for_holds_run_once_these_are_settled(world: World):
    hold = await hold_of_one_call(world)
    reports = await race(world, 3, hold + hold // 2)
    assert sorted(report.outcome for report in reports) == ["ran", "waiting", "waiting"]
    for run in await world.runs():
        if run["state"] == "waiting":
            assert run["waiting_for"] in ("budget", "holds")
            wake = (await world.snapshot(run["mission_id"]))["wake_at"]
            assert wake < datetime.now(UTC) + timedelta(seconds=30)


async def test_a_cap_of_zero_asks_nobody(world: World):
    client = await world.client()
    await client.agent(maxTokensPerDay=0)
    await client.mission()
    assert (await world.driver.tick())[1] == []
    assert world.driver.decisions == {"skipped-budget": 1}
    assert (await world.snapshot())["wake_at"] is None
    await client.edit("legacy:ai-default", table="agents", maxTokensPerDay=100_000)
    assert len((await world.driver.tick())[1]) == 1


async def test_a_used_up_budget_is_looked_at_when_it_returns(world: World):
    client = await world.client()
    await client.agent(maxTokensPerDay=120)
    await client.mission()
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts)"
        " VALUES ('u1', 'legacy:ai-default', 'x', 200, clock_timestamp() - interval '23 hours')"
    )
    assert (await world.driver.tick())[1] == []
    wake = (await world.snapshot())["wake_at"]
    assert timedelta(minutes=59) < wake - datetime.now(UTC) <= timedelta(minutes=60)


async def test_a_plan_that_runs_out_of_room_keeps_what_it_has(world: World):
    hold = await hold_of_one_call(world)
    client = await world.client()
    await client.agent(maxTokensPerDay=hold + 90)
    await client.mission()
    await world.driver.fold_all()
    world.provider.script = [DONE, {**PLAN, "usage": [hold, 1]}]
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert report.reason == told("cut-budget")
    assert len(world.provider.requests) == 1 + 1


async def in_flight(world: World) -> asyncio.Task[Report]:
    await (await world.client()).mission()
    await world.driver.fold_all()
    world.provider.hold()
    running = asyncio.create_task(world.run())
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    return running


async def test_a_hold_past_its_deadline_is_charged_whole_and_once(world: World):
    running = await in_flight(world)
    hold = await world.value(HOLDS)
    await world.sql("UPDATE mana_ai.token_holds SET deadline = clock_timestamp()")
    assert await world.driver.schedule.charge_expired_holds() == 1
    assert await world.driver.schedule.charge_expired_holds() == 0
    world.provider.script = [DONE]
    world.provider.release()
    assert (await running).outcome == "ran"
    assert await world.spent() == [hold]


async def test_an_answer_without_usage_is_charged_at_its_hold(world: World):
    running = await in_flight(world)
    hold = await world.value(HOLDS)
    world.provider.release()
    report = await running
    assert (await world.spent(), report.tokens) == ([hold], hold)
    assert await world.value("SELECT basis FROM mana_ai.token_usage") == "hold"


async def test_more_usage_than_was_held_is_charged_as_reported(world: World):
    world.provider.script = [{**DONE, "usage": [90_000, 10]}]
    await (await world.client()).mission()
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert await world.spent() == [90_010]


@pytest.mark.parametrize(
    ("entry", "charged"),
    [
        ({"status": 500}, False),
        ({"status": 429}, False),
        ({"close": "body"}, True),
        ({"half": True}, True),
    ],
)
async def test_a_call_that_may_have_cost_something_is_charged(
    world: World, entry: dict[str, object], charged: bool
):
    world.provider.script = [entry]
    await (await world.client()).mission()
    await world.driver.fold_all()
    assert (await world.run()).outcome == "waiting"
    assert [tokens > 0 for tokens in await world.spent()] == [charged]
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0


async def test_the_providers_total_is_charged_where_it_is_larger(world: World):
    world.provider.script = [{**DONE, "usage": [40, 10, 5000]}]
    await (await world.client()).mission()
    await world.driver.fold_all()
    assert (await world.run()).tokens == 5000
    assert await world.spent() == [5000]


async def test_usage_above_the_hold_is_counted(world: World):
    world.provider.script = [{**DONE, "usage": [90_000, 10]}, {**DONE, "usage": [9, 1]}]
    for mission in ("m1", "m2"):
        await (await world.client()).mission(mission)
        await world.driver.fold_all()
        report = await world.run(mission)
        above = [count for count in report.counts if count.name == "calls_above_hold_total"]
        assert len(above) == (mission == "m1")
    rows = await world.sql("SELECT basis FROM mana_ai.token_usage ORDER BY id")
    assert [row["basis"] for row in rows] == ["above-hold", "reported"]


async def test_settling_twice_charges_once_and_says_the_same(world: World):
    running = await in_flight(world)
    (hold,) = await world.sql("SELECT call_id, attempt FROM mana_ai.token_holds")
    async with store_of(world) as store:
        for _ in range(2):
            charged = await store.end_call(
                Unsettled(hold["call_id"], hold["attempt"], "h", tokens=77)
            )
            assert charged == 77
    world.provider.release()
    assert (await running).tokens == 77
    assert await world.spent() == [77]


@asynccontextmanager
async def store_of(world: World) -> AsyncGenerator[AgentStore]:
    """What a process of the agent holds."""
    token = await world.driver.schedule.sign_capability(*MANA, [], [], 900)
    database = Connections(world.access("mana_agent"), max_connections=1)
    yield AgentStore(database, *MANA, lambda: token)
    await database.close()


async def test_no_model_is_asked_while_the_ledger_cannot_be_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("state.store.connect._MOST_S", 0.05)
    await (await world.client()).mission()
    await world.driver.fold_all()
    runner = await world.driver.runner(MANA)

    fetchrow, refused = Connections.fetchrow, 0

    async def cut_off(self: Connections, statement: str, *values: object) -> Any:
        nonlocal refused
        if "begin_call" not in statement:
            return await fetchrow(self, statement, *values)
        refused += 1
        raise Unavailable("cut off")

    monkeypatch.setattr(Connections, "fetchrow", cut_off)
    assert (await runner.run(Order("m1", 0))).outcome == "interrupted"
    assert refused == 8, "it was asked for again, and not for ever"
    assert world.provider.requests == []


class Priced(HttpProvider):
    """A provider of whose alias the facts are known."""

    known = AliasFacts(bytes_per_token=1, micros_per_prompt_token=2, micros_per_completion_token=10)

    async def facts(self, model: str, exposure: Exposure = "any") -> AliasFacts:
        """The same for every model."""
        assert (model, exposure) == ("mana/reasoning", "any")
        return self.known


@pytest.fixture
async def priced(world: World) -> World:
    world.driver.new_provider = lambda settings: Priced(settings.model_url)
    return world


async def test_the_alias_says_how_many_bytes_a_token_has(priced: World):
    running = await in_flight(priced)
    (request,) = priced.provider.requests
    hold = await priced.sql("SELECT tokens, cost_micros FROM mana_ai.token_holds")
    size = len(request.raw)
    assert [tuple(row) for row in hold] == [(size + 100, size * 2 + 100 * 10)]
    priced.provider.release()
    assert (await running).outcome == "ran"


@pytest.mark.parametrize(
    ("usage", "micros"),
    [([40, 10], 40 * 2 + 10 * 10), ([40, 10, 60], 40 * 2 + 20 * 10), (None, None)],
    ids=["reported", "total", "silent"],
)
async def test_a_call_is_charged_its_price(
    priced: World, usage: list[int] | None, micros: int | None
):
    priced.provider.script = [{"content": "fertig", "usage": usage}]
    running = await in_flight(priced)
    bound = await priced.value("SELECT cost_micros FROM mana_ai.token_holds")
    priced.provider.release()
    await running
    cost = await priced.value("SELECT cost_micros FROM mana_ai.token_usage")
    assert cost == (bound if micros is None else micros)


async def test_two_agents_of_one_id_have_budgets_of_their_own(world: World):
    for user in ("u1", "u2"):
        client = await world.client(user)
        await client.agent(maxTokensPerDay=100_000)
        await client.mission()
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used)"
        " VALUES ('u1', 'legacy:ai-default', 'x', 100000)"
    )
    _, reports = await world.driver.tick()
    assert [(report.user_id, report.outcome) for report in reports] == [("u2", "ran")]
