"""People make agents and missions over HTTP, and what they made runs: real supervision."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from state.log.stamps import parse_instant
from tests.integration.support import DONE, PLAN, World, open_world
from tests.owners import House
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

API_DOC = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
AGENTS, MISSIONS = "/api/v1/me/agents", "/api/v1/me/missions"
ITERATIONS = "SELECT record -> 'iterations' AS made FROM mana_ai.mission_snapshots"
Json = dict[str, Any]


@pytest.fixture
async def world(database: Database, house: House) -> AsyncGenerator[World]:
    del house  # opened first, closed last
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_world(database, [PLAN, DONE] * 3))
        await opened.driver.start()
        yield opened


async def ask(
    house: House, verb: str, path: str, body: Any = None, status: int = 200, **more: Any
) -> Json:
    """The JSON that this person is answered."""
    user = more.pop("user", "u1")
    given = {} if body is None else {"json": body}
    answered = await house.desk(user).ask(verb, path, **given, **more)
    assert answered.status_code == status, answered.text
    if status >= 400:
        assert answered.headers["content-type"] == "application/problem+json"
        assert answered.json()["status"] == status
    return answered.json()


async def refused(house: House, verb: str, path: str, body: Any, status: int = 422) -> list[str]:
    """The fields that an answer says are wrong."""
    told = await ask(house, verb, path, body, status)
    return [wrong["field"] for wrong in told.get("errors", [])]


async def mission(house: House, **fields: Any) -> Json:
    """A new mission."""
    return await ask(house, "POST", MISSIONS, {"title": "Plan my week", **fields}, 201)


async def test_an_agent_is_made_changed_and_archived_as_a_client_would(house: House):
    made = await ask(house, "POST", AGENTS, {"template": "planner", "role": "Plans"}, 201)
    assert (made["name"], made["role"], made["state"]) == ("Planner", "Plans", "active")
    assert made["policy"]["tools"]["create_task"] == "propose"
    assert made["policy"]["tools"]["list_tasks"] == "auto"
    path = f"{AGENTS}/{made['id']}"
    edited = await ask(house, "PATCH", path, {"name": "Anna", "maxTokensPerDay": 1000})
    assert (edited["name"], edited["maxTokensPerDay"]) == ("Anna", 1000)
    cleared = await ask(house, "PATCH", path, {"maxTokensPerDay": None})
    assert cleared["maxTokensPerDay"] is None
    assert (await ask(house, "POST", f"{path}/pause"))["state"] == "paused"
    assert (await ask(house, "POST", f"{path}/archive"))["state"] == "archived"
    (listed,) = (await ask(house, "GET", AGENTS))["items"]
    assert listed == await ask(house, "GET", path)
    rows = await house.sql(
        "SELECT op, actor, origin, field_meta FROM sync_changes WHERE record_id = $1"
        " ORDER BY created_at",
        made["id"],
    )
    assert [row["op"] for row in rows] == ["insert", "update", "update", "update", "update"]
    assert {row["origin"] for row in rows} == {"user"}
    assert {json.loads(row["actor"])["principalId"] for row in rows} == {"u1"}
    await ask(house, "GET", path, user="u2", status=404)
    await ask(house, "PATCH", path, {"name": "x"}, user="u2", status=404)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name"]),
        ({"name": " "}, ["name"]),
        ({"name": "x" * 501}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"name": "a\0b"}, ["name"]),
        ({"name": "a", "colour": "red"}, ["colour"]),
        ({"name": "a", "template": "nobody"}, ["template"]),
        ({"name": "a", "maxTokensPerDay": -1}, ["maxTokensPerDay"]),
        ({"name": "a", "maxConcurrentMissions": 0}, ["maxConcurrentMissions"]),
        ({"name": "a", "policy": {"tools": {"create_task": "maybe"}}}, ["policy.tools"]),
        ({"name": "a", "policy": {"tools": 5}}, ["policy.tools"]),
        ({"name": "a", "spaceId": "s1"}, ["spaceId"]),
    ],
)
async def test_an_agent_that_cannot_be_is_refused_by_field(
    house: House, body: Json, fields: list[str]
):
    assert await refused(house, "POST", AGENTS, body) == fields
    assert (await ask(house, "GET", AGENTS))["items"] == []


async def test_a_modules_word_is_not_hidden_by_its_tools(house: House):
    policy = {"defaultsByModule": {"calendar": "deny"}}
    made = await ask(house, "POST", AGENTS, {"name": "a", "policy": policy}, 201)
    assert "create_event" not in made["policy"]["tools"]
    assert made["policy"]["defaultsByModule"] == {"calendar": "deny"}


async def test_two_agents_of_one_name_are_not_made_at_once(house: House):
    import asyncio

    desk = house.desk()
    made = await asyncio.gather(
        *(desk.ask("POST", AGENTS, json={"name": name}) for name in ("Max", "max", "Max "))
    )
    assert sorted(answered.status_code for answered in made) == [201, 422, 422]


async def test_a_mission_says_when_it_runs_next_on_its_owners_clock(house: House):
    await house.sql(
        "INSERT INTO mana_ai.user_settings (user_id, time_zone) VALUES ('u1', 'Asia/Tokyo')"
    )
    made = await mission(house, every="mon 07:00")
    assert made["cadence"] == {"kind": "weekly", "dayOfWeek": 1, "atHour": 7}
    assert (made["every"], made["timeZone"], made["agentId"]) == (
        "mon 07:00",
        "Asia/Tokyo",
        "legacy:ai-default",
    )
    runs = made["nextRuns"]
    assert len(runs) == 5
    assert runs[0]["at"] == made["nextRunAt"]
    assert {run["local"].split()[0] for run in runs} == {"Mon"}
    assert {run["local"].split()[2] for run in runs} == {"07:00"}
    path = f"{MISSIONS}/{made['id']}"
    edited = await ask(house, "PATCH", path, {"every": "30 7 * * 1-5", "title": "Day"})
    assert edited["cadence"] == {"kind": "cron", "expression": "30 7 * * 1-5"}
    assert edited["nextRunAt"] != made["nextRunAt"]
    assert edited["objective"] == "Plan my week"
    manual = await ask(house, "PATCH", path, {"every": "manual"})
    assert (manual["nextRunAt"], manual["nextRuns"]) == (None, [])


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["title"]),
        ({"title": ""}, ["title"]),
        ({"title": "  "}, ["title"]),
        ({"title": "a", "every": "now and then"}, ["every"]),
        ({"title": "a", "every": "0 7 30 2 *"}, ["every"]),
        ({"title": "a", "every": "manual", "cadence": {"kind": "manual"}}, ["every"]),
        ({"title": "a", "cadence": {"kind": "yearly"}}, ["cadence.kind"]),
        ({"title": "a", "cadence": {"kind": "cron", "expression": "x"}}, ["cadence.expression"]),
        ({"title": "a", "agentId": "nobody"}, ["agentId"]),
        ({"title": "a", "read": ["gaols", "notes:n1"]}, ["read[0]", "read[1]"]),
        ({"title": "a", "read": [5]}, ["read[0]"]),
        ({"title": "a", "inputs": [{"module": "notes"}]}, ["inputs[0].table"]),
        ({"title": "a", "missedRuns": "all"}, ["missedRuns"]),
        ({"title": "a", "nextRunAt": "2026-01-01"}, ["nextRunAt"]),
    ],
)
async def test_a_mission_that_cannot_be_is_refused_by_field(
    house: House, body: Json, fields: list[str]
):
    assert await refused(house, "POST", MISSIONS, body) == fields
    assert (await ask(house, "GET", MISSIONS))["items"] == []


async def test_a_module_alone_means_its_records_and_an_unknown_one_its_nearest(house: House):
    for number in (1, 2):
        await house.sql(
            "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data, client_id)"
            " VALUES ('companion', 'companionGoals', $1, 'u1', 'insert', '{}', 'c')",
            f"g{number}",
        )
    made = await mission(house, read=["goals", "goals:g1"])
    assert sorted(ref["id"] for ref in made["inputs"]) == ["g1", "g2"]
    assert made["inputs"][0]["table"] == "companionGoals"
    assert "2 records" in made["notes"][0]
    told = await ask(house, "POST", MISSIONS, {"title": "a", "read": ["gaols"]}, 422)
    assert "did you mean goals?" in told["errors"][0]["message"]


async def test_asking_again_under_a_key_changes_nothing(house: House):
    desk, headers = house.desk(), {"Idempotency-Key": "k1"}
    body = {"title": "Plan my week"}
    first = await desk.ask("POST", MISSIONS, json=body, headers=headers)
    again = await desk.ask("POST", MISSIONS, json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await desk.ask("POST", MISSIONS, json={"title": "b"}, headers=headers)
    assert other.status_code == 422
    long = {"Idempotency-Key": "k" * 256}
    assert (await desk.ask("POST", MISSIONS, json=body, headers=long)).status_code == 400
    assert len((await ask(house, "GET", MISSIONS))["items"]) == 1


async def test_a_change_meant_for_an_older_version_is_refused(house: House):
    made = await mission(house)
    path, headers = f"{MISSIONS}/{made['id']}", {"If-Match": f'"{made["version"]}"'}
    await ask(house, "PATCH", path, {"title": "b"}, headers=headers)
    await ask(house, "PATCH", path, {"title": "c"}, 412, headers=headers)
    await ask(house, "DELETE", path, None, 412, headers=headers)
    assert (await ask(house, "GET", path))["title"] == "b"


async def test_lists_go_on_behind_a_cursor(house: House):
    made = sorted([(await mission(house, title=f"m{number}"))["id"] for number in range(5)])
    found: list[str] = []
    after: str | None = None
    while True:
        query = {"limit": "2"} | ({"after": after} if after else {})
        page = await ask(house, "GET", MISSIONS, params=query)
        found += [one["id"] for one in page["items"]]
        after = page["after"]
        if after is None:
            break
    assert found == made
    assert await refused(house, "GET", f"{MISSIONS}?after=x", None, 400) == ["after"]
    assert await refused(house, "GET", f"{MISSIONS}?limit=0", None, 400) == ["limit"]
    assert await refused(house, "GET", f"{MISSIONS}?sort=title", None, 400) == ["sort"]


async def test_bad_bodies_get_one_clear_answer(house: House):
    desk = house.desk()
    for body, status in ((b"{", 400), (b"[]", 422), (b"\xff", 400), (b"x" * 600_000, 413)):
        answered = await desk.ask("POST", MISSIONS, content=body)
        assert (answered.status_code, answered.json()["status"]) == (status, status)
    deep = b'{"cadence":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    assert (await desk.ask("POST", MISSIONS, content=deep)).status_code in (400, 422)
    nested = {"title": "a", "cadence": {"kind": "manual", "x": json.loads("[" * 200 + "]" * 200)}}
    assert (await desk.ask("POST", MISSIONS, json=nested)).status_code == 422
    unsigned = await house.client.post(MISSIONS, json={"title": "a"})
    assert unsigned.status_code == 401
    assert unsigned.headers["content-type"] == "application/problem+json"


async def test_a_mission_that_was_made_over_http_runs(world: World, house: House):
    made = await mission(house, every="daily 07:00")
    headers = {"Idempotency-Key": "now"}
    path = f"{MISSIONS}/{made['id']}"
    await world.driver.fold_all()
    asked = await ask(house, "POST", f"{path}/run", None, 202, headers=headers)
    assert asked == await ask(house, "POST", f"{path}/run", None, 202, headers=headers)
    report = await world.run(mission=made["id"])
    assert report.outcome == "ran"
    await world.driver.fold_all()
    shown = await ask(house, "GET", path)
    assert parse_instant(shown["nextRunAt"]) == parse_instant(made["nextRunAt"])
    assert shown["title"] == "Plan my week"
    told = await ask(house, "GET", f"{path}/schedule")
    assert [(one["outcome"], one["requested"]) for one in told["past"]] == [("planned", True)]
    assert told["nextRuns"] == shown["nextRuns"]
    await ask(house, "POST", f"{path}/pause")
    await ask(house, "POST", f"{path}/run", None, 409)
    resumed = await ask(house, "POST", f"{path}/resume")
    assert resumed["state"] == "active"
    assert resumed["nextRunAt"] is not None


async def under_way(world: World, house: House) -> tuple[str, asyncio.Task[Any]]:
    """A mission whose run waits for its model's first answer."""
    made = await mission(house, every="daily 07:00")
    path = f"{MISSIONS}/{made['id']}"
    await world.driver.fold_all()
    await ask(house, "POST", f"{path}/run", None, 202)
    world.provider.hold()
    run = asyncio.create_task(world.run(mission=made["id"]))
    while not world.provider.requests:
        assert not run.done(), run.result()
        await asyncio.sleep(0.01)
    return path, run


async def test_an_edit_while_a_run_is_under_way_is_not_lost(world: World, house: House):
    path, run = await under_way(world, house)
    edited = await ask(house, "PATCH", path, {"title": "Plan my month", "every": "daily 09:00"})
    world.provider.release()
    assert (await run).outcome == "ran"
    await world.driver.fold_all()
    shown = await ask(house, "GET", path)
    assert (shown["title"], shown["every"]) == ("Plan my month", "daily 09:00")
    assert shown["nextRunAt"] == edited["nextRunAt"]
    (kept,) = await world.sql(
        "SELECT record -> 'iterations' AS made FROM mana_ai.mission_snapshots"
    )
    assert len(json.loads(kept["made"])) == 1
    assert await world.wrong_snapshots() == []


@pytest.mark.parametrize(("verb", "word"), [("POST", "/pause"), ("DELETE", "")])
async def test_a_pause_or_delete_withdraws_the_run_under_way(
    world: World, house: House, verb: str, word: str
):
    path, run = await under_way(world, house)
    await ask(house, verb, path + word)
    world.provider.release()
    assert (await run).outcome == "withdrawn"
    assert await world.value("SELECT state FROM mana_ai.runs") == "withdrawn"
    (kept,) = await world.sql(
        "SELECT record -> 'iterations' AS made FROM mana_ai.mission_snapshots"
    )
    assert json.loads(kept["made"]) == []


async def test_the_example_of_the_docs_is_answered_as_it_says(house: House):
    lines = API_DOC.split("```http\n")[1].split("```")[0].splitlines()
    known: dict[str, str] = {}
    for line in lines:
        for name, id_ in known.items():
            line = line.replace(f"{{{name}}}", id_)  # noqa: PLW2901
        verb, path, *body, status = line.split(" ")
        given = json.loads(" ".join(body)) if body else None
        told = await ask(house, verb, path, given, int(status))
        if status == "201":
            known[path.rpartition("/")[2].removesuffix("s")] = told["id"]
    assert known.keys() == {"agent", "mission"}
