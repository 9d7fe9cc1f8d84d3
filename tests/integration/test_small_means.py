"""A small model and a small cap are enough for a plan, with the limits that a deployment has."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from mana_actors.llm.router.settings import AliasFile
from mana_actors.messages import Order, Report
from tests.fake_provider import Entry, FakeProvider
from tests.integration.support import World, killed_at
from tests.router_parts import RunningRouter

pytestmark = pytest.mark.one_postgres

MANA = ("u1", "legacy:ai-default")
REAL_OUTPUT = 4096
READS: Entry = {"calls": [{"name": "list_tasks", "args": {}}], "usage": [1700, 60]}
FINDS: Entry = {"calls": [{"name": "find_tools", "args": {"words": "habits"}}], "usage": [1900, 60]}
PROPOSES: Entry = {
    "calls": [{"name": "create_task", "args": {"title": f"Schritt {n}"}} for n in range(5)],
    "usage": [2000, 250],
}
DONE: Entry = {"content": "Fünf Schritte.", "usage": [2200, 120]}


async def run(world: World, mission: dict[str, Any], **settings: Any) -> Report:
    client = await world.client()
    await client.mission(**mission)
    driver = world.new_driver(max_output_tokens=REAL_OUTPUT, **settings)
    await driver.start()
    await driver.fold_all()
    return await (await driver.runner(MANA)).run(Order("m1", 0))


async def test_ten_thousand_tokens_a_day_let_a_daily_mission_run(world: World):
    await (await world.client()).agent(maxTokensPerDay=10_000)
    world.provider.script = [READS, PROPOSES, DONE]
    report = await run(world, {"objective": "Plane die Woche mit meinen Zielen und Terminen"})
    assert (report.outcome, report.reason) == ("ran", "")
    assert sum(await world.spent()) == 6330
    (row,) = await world.written()
    assert len(row["data"]["iterations"][-1]["plan"]) == 5
    first = world.provider.requests[0].body
    assert first["max_tokens"] == 10_000 // 8


async def test_without_a_cap_an_answer_may_be_as_long_as_the_deployment_says(world: World):
    world.provider.script = [DONE]
    await run(world, {})
    assert world.provider.requests[0].body["max_tokens"] == REAL_OUTPUT


async def test_a_model_with_a_context_of_8192_can_plan(world: World, tmp_path: Path):
    with FakeProvider([READS, FINDS, PROPOSES, DONE]) as near:
        path = tmp_path / "aliases.yaml"
        path.write_text(
            textwrap.dedent(f"""
                default: mana/reasoning
                aliases:
                  mana/reasoning: {{chain: [near/small]}}
                providers:
                  near: {{url: {near.url}/v1, exposure: local, probe_path: null}}
                models:
                  near/small: {{context: 8192}}
            """)
        )
        await (await world.client()).agent()
        with RunningRouter(tmp_path, AliasFile(str(path))) as router:
            mission = {"objective": "Plane die Woche mit meinen Zielen, Ausgaben und Gewohnheiten"}
            report = await run(
                world, mission, model_url=router.url, model_key_file=str(router.token_file)
            )
    assert (report.outcome, report.reason) == ("ran", "")
    assert len(near.requests) == 4
    for request in near.requests:
        asked = request.body
        assert len(request.raw) / 2 + asked["max_tokens"] <= 8192
    names = [tool["function"]["name"] for tool in near.requests[2].body["tools"]]
    assert "log_habit" in names


async def test_an_attempt_after_a_crash_finds_the_same_tools_and_pays_nothing_twice(world: World):
    keeps: Entry = {
        "calls": [{"name": "create_habit", "args": {"title": "a", "icon": "x", "color": "#000"}}],
        "usage": [2000, 40],
    }
    world.provider.script = [FINDS, keeps, DONE]
    client = await world.client()
    await client.agent()
    await client.mission()
    await world.driver.fold_all()
    await killed_at(world, "after_journal")
    report = await world.run()
    assert (report.outcome, report.reason) == ("ran", "")
    first, second, third = (request.body["tools"] for request in world.provider.requests)
    assert second[: len(first)] == first
    assert [tool["function"]["name"] for tool in second[len(first) :]] == [
        "create_habit",
        "log_habit",
        "get_habits",
    ]
    assert third == second
    assert sum(await world.spent()) == 1960 + 2040 + 2320
    (row,) = await world.written()
    (step,) = row["data"]["iterations"][-1]["plan"]
    assert step["intent"]["toolName"] == "create_habit"
