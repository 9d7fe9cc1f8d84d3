"""Operators' limits hold beside the owners' caps, in tokens and in money (P5)."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import AliasFacts, Exposure
from state.store.gateway.fleet import Filter, FleetStore
from state.store.gateway.limits import LimitChange
from tests.gateway_parts import FakeSupervisor, app_of, client_of, fleet_of
from tests.integration.support import DONE, World, open_world, until
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

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


async def limited(fleet: FleetStore, kind: Any, user: str = "", agent: str = "", **what: Any):
    await fleet.set_limit(LimitChange(kind, user, agent, **what))


async def asked(world: World, user: str = "u1", mission: str = "m1", **agent: Any) -> Any:
    """The report of a due mission of an agent."""
    client = await world.client(user)
    await client.agent(**agent)
    await client.mission(mission)
    await world.driver.fold_all()
    return await world.run(mission, (user, MANA))


@pytest.mark.parametrize(
    ("owner", "default", "named", "cap", "source"),
    [
        (None, None, None, None, "none"),
        (None, 70, None, 70, "default"),
        (None, 70, 90, 90, "operator"),
        (80, 70, None, 80, "owner"),
        (80, 70, 50, 50, "operator"),
        (80, None, 90, 80, "owner"),
        (0, 70, 90, 0, "owner"),
        ("many", 70, 90, 0, "owner"),
    ],
)
async def test_the_least_of_owners_and_operators_cap_holds(
    world: World,
    fleet: FleetStore,
    owner: Any,
    default: int | None,
    named: int | None,
    cap: int | None,
    source: str,
):
    await (await world.client()).agent(maxTokensPerDay=owner)
    await world.driver.fold_all()
    await limited(fleet, "each-agent", tokens=default)
    await limited(fleet, "agent", "u1", MANA, tokens=named)
    found = await fleet.budget("u1", MANA)
    assert found is not None
    assert (found.cap, found.cap_source) == (cap, source)
    (listed,) = await fleet.agents(Filter(user="u1"))
    assert (listed.cap, listed.cap_source) == (cap, source)


@pytest.mark.parametrize(
    ("kind", "user", "agent", "said"),
    [
        ("each-agent", "", "", "the agent's cap is 10 tokens"),
        ("agent", "u1", MANA, "the agent's cap is 10 tokens"),
        ("each-user", "", "", "the user's cap is 10 tokens"),
        ("user", "u1", "", "the user's cap is 10 tokens"),
        ("installation", "", "", "more than is left of the installation's limit"),
    ],
)
async def test_a_cap_below_one_call_is_a_visible_reason_until_something_changes(
    world: World, fleet: FleetStore, kind: str, user: str, agent: str, said: str
):
    await limited(fleet, kind, user, agent, tokens=10)
    report = await asked(world)
    assert (report.outcome, report.decision) == ("waiting", "skipped-budget")
    assert said in report.reason
    assert "one call needs up to" in report.reason
    assert world.provider.requests == []
    assert (await world.snapshot())["wake_at"] is None
    await limited(fleet, kind, user, agent, tokens=None)
    assert await world.driver.schedule.wake_after_limits() == 1
    assert [r.outcome for r in (await world.driver.tick())[1]] == ["ran"]


async def test_a_changed_agent_wakes_what_its_cap_refused(world: World):
    assert (await asked(world, maxTokensPerDay=10)).outcome == "waiting"
    await (await world.client()).edit(MANA, table="agents", maxTokensPerDay=100_000)
    assert [r.outcome for r in (await world.driver.tick())[1]] == ["ran"]


async def test_a_limit_wakes_once_more_for_those_that_were_deciding(
    world: World, fleet: FleetStore
):
    await limited(fleet, "each-agent", tokens=10)
    await world.driver.schedule.wake_after_limits()
    (again,) = await world.sql("SELECT whose, wake_at FROM mana_ai.budget_wakes")
    assert again["whose"] == ""
    assert timedelta(seconds=50) < again["wake_at"] - datetime.now(UTC) < timedelta(seconds=70)


@pytest.mark.parametrize("kind", ["user", "each-user", "installation"])
async def test_what_others_spend_counts_under_a_wider_limit(
    world: World, fleet: FleetStore, kind: str
):
    await limited(fleet, kind, "u1" if kind == "user" else "", tokens=100_000)
    await world.sql(SPEND, "u1", "other", 99_990, 0)
    report = await asked(world)
    assert report.decision == "skipped-budget"
    assert world.provider.requests == []
    wake = (await world.snapshot())["wake_at"]
    assert timedelta(hours=22) < wake - datetime.now(UTC) < timedelta(hours=23, minutes=1)


async def test_an_installations_limit_counts_every_user_and_tells_no_agent_how_much(
    world: World, fleet: FleetStore
):
    await limited(fleet, "installation", tokens=100_000)
    await world.sql(SPEND, "u2", "other", 99_990, 0)
    report = await asked(world)
    assert report.decision == "skipped-budget"
    assert "99" not in report.reason
    assert "100000" not in report.reason


@pytest.mark.parametrize("scope", ["user", "installation"])
async def test_a_used_up_wider_limit_costs_no_process(world: World, fleet: FleetStore, scope: str):
    await limited(fleet, scope, "u1" if scope == "user" else "", tokens=500)
    await world.sql(SPEND, "u1", "other", 500, 0)
    await (await world.client()).mission()
    looked, reports = await world.driver.tick()
    assert (looked.orders, reports) == ({}, [])
    reason = (await world.snapshot())["reason"]
    assert reason == f"the {scope}'s limit in tokens is used up for these 24 hours"


DAWDLE = """
CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
CREATE TRIGGER dawdle BEFORE INSERT ON mana_ai.token_holds
  FOR EACH ROW EXECUTE FUNCTION public.dawdle();
"""


@pytest.mark.parametrize("kind", ["installation", "user"])
async def test_agents_that_race_one_wider_limit_start_no_call_over_it(
    world: World, fleet: FleetStore, kind: str
):
    hold = await _hold(world)
    await limited(fleet, kind, "u1" if kind == "user" else "", tokens=hold + hold // 2)
    client = await world.client()
    pairs = [("u1", "a0"), ("u1", "a1"), ("u1", "a2")]
    for _, agent in pairs:
        await client.agent(agent)
        await client.mission(f"m-{agent}", agentId=agent)
    await world.driver.fold_all()
    await (await world.connect(SUPERUSER)).execute(DAWDLE)
    before = len(world.provider.requests)
    world.provider.hold()
    runs = [asyncio.create_task(world.run(f"m-{pair[1]}", pair)) for pair in pairs]

    async def all_decided() -> bool:
        over = sum(task.done() for task in runs)
        return over + len(world.provider.requests) - before == len(pairs)

    await until(all_decided, 30)
    world.provider.release()
    outcomes = sorted([(await run).outcome for run in runs])
    assert outcomes == ["ran", "waiting", "waiting"]
    assert len(world.provider.requests) == before + 1


class Priced(HttpProvider):
    """A provider whose tokens cost 3 micro-units each."""

    async def facts(self, model: str, exposure: Exposure = "any") -> AliasFacts:
        """The same for every model."""
        assert (model, exposure) == ("mana/reasoning", "any")
        return AliasFacts(micros_per_prompt_token=3, micros_per_completion_token=3)


@pytest.mark.parametrize(
    ("kind", "user", "agent"),
    [
        ("each-agent", "", ""),
        ("agent", "u1", MANA),
        ("user", "u1", ""),
        ("installation", "", ""),
    ],
)
async def test_money_is_limited_like_tokens(
    world: World, fleet: FleetStore, kind: str, user: str, agent: str
):
    world.driver.new_provider = lambda settings: Priced(settings.model_url)
    await limited(fleet, kind, user, agent, micros=1_000_000)
    await world.sql(SPEND, "u1", MANA, 1, 999_990)
    report = await asked(world)
    assert (report.outcome, report.decision) == ("waiting", "skipped-budget")
    assert "in money" in report.reason
    assert world.provider.requests == []
    await limited(fleet, kind, user, agent, micros=2_000_000)
    await world.driver.schedule.wake_after_limits()
    assert [r.outcome for r in (await world.driver.tick())[1]] == ["ran"]
    assert await world.value("SELECT max(cost_micros) FROM mana_ai.token_usage WHERE run_id"
                             " IS NOT NULL") == 50 * 3  # fmt: skip


async def _hold(world: World) -> int:
    """What one call holds: all of it is charged where no usage is reported."""
    await (await world.client("probe")).mission()
    await world.driver.fold_all()
    world.provider.script[:1] = [{"content": "fertig"}]
    await world.run("m1", ("probe", MANA))
    hold = (await world.spent())[0]
    await world.sql("TRUNCATE mana_ai.token_usage")
    return hold


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "house", "tokens": 1}, "kind"),
        ({"kind": "user", "tokens": 1}, "user"),
        ({"kind": "user", "user": "u", "agent": "a", "tokens": 1}, "agent"),
        ({"kind": "installation"}, "tokens"),
        ({"kind": "installation", "tokens": -1}, "tokens"),
        ({"kind": "installation", "tokens": True}, "tokens"),
        ({"kind": "installation", "micros": 1.5}, "micros"),
        ({"kind": "installation", "tokens": 1, "more": 2}, "body"),
    ],
)
async def test_a_wrong_limit_is_refused_by_name(
    fleet: FleetStore, tmp_path: Path, change: dict[str, Any], field: str
):
    async with client_of(app_of(fleet, FakeSupervisor(), tmp_path)) as client:
        answer = await client.put("/internal/limits", json=change)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert (await client.get("/internal/limits")).json() == {"items": []}


async def test_limits_are_set_lifted_and_shown_over_http(
    world: World, fleet: FleetStore, tmp_path: Path
):
    await (await world.client()).agent()
    await world.driver.fold_all()
    async with client_of(app_of(fleet, FakeSupervisor(), tmp_path)) as client:
        await client.put("/internal/limits", json={"kind": "each-agent", "tokens": 5})
        await client.put("/internal/limits", json={"kind": "each-agent", "micros": 7})
        (one,) = (await client.get("/internal/limits")).json()["items"]
        assert (one["kind"], one["tokens"], one["micros"]) == ("each-agent", 5, 7)
        budget = (await client.get(f"/internal/agents/u1/{MANA}/budget")).json()
        assert (budget["cap"], budget["cap_source"], budget["left"]) == (5, "default", 5)
        missing = await client.get("/internal/agents/u1/nobody/budget")
        assert missing.status_code == 404
        lifted = {"kind": "each-agent", "tokens": None, "micros": None}
        assert (await client.put("/internal/limits", json=lifted)).json() == {"items": []}
