"""Proposals over HTTP, as an inbox of whoever's making reads and answers them."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from supervisor.gateway.people.inbox.stager import Stager
from tests.inbox import TASK, call, mission_with, plan, records, shown
from tests.integration.support import Json, World, open_world
from tests.owners import Desk, House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

PROPOSALS = "/api/v1/me/proposals"
APPROVE: Json = {"status": "resolved", "payload": {"approved": True}}


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[tuple[World, House]]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        yield world, await stack.enter_async_context(open_house(database, tmp_path))


async def listed(desk: Desk, **query: str) -> list[Json]:
    told = await desk.ask("GET", PROPOSALS, params=query)
    assert told.status_code == 200, told.text
    return told.json()["proposals"]


async def test_a_proposal_is_an_interrupt_with_a_schema_for_its_answer(scene: tuple[World, House]):
    world, house = scene
    await mission_with(world, plan(TASK))
    (told,) = await listed(house.desk())
    assert (told["reason"], told["toolCallId"]) == ("tool_call", "i1-0")
    assert told["message"] == "create_task: Weil es heute dran ist"
    assert told["expiresAt"].endswith("Z")
    schema = told["responseSchema"]
    assert schema["properties"]["editedArgs"]["required"] == ["title"]
    assert told["metadata"]["mana"]["state"] == "pending"


async def test_an_approved_proposal_is_in_the_data_and_answering_again_changes_nothing(
    scene: tuple[World, House],
):
    world, house = scene
    await mission_with(world, plan(TASK))
    desk = house.desk()
    (told,) = await listed(desk)
    path = f"{PROPOSALS}/{told['id']}/answer"
    first = await desk.ask("POST", path, json=APPROVE)
    assert first.status_code == 200, first.text
    assert (first.json()["changed"], first.json()["metadata"]["mana"]["state"]) == (True, "done")
    again = await desk.ask("POST", path, json=APPROVE)
    assert (again.status_code, again.json()["changed"]) == (200, False)
    other = await desk.ask(
        "POST", path, json={"status": "resolved", "payload": {"approved": False}}
    )
    assert (other.status_code, other.json()["code"]) == (409, "answered")
    assert len(await records(world, "tasks")) == 1


async def test_nobody_sees_or_answers_the_proposals_of_another(scene: tuple[World, House]):
    world, house = scene
    await mission_with(world, plan(TASK))
    (told,) = await listed(house.desk())
    stranger = house.desk("u2")
    assert await listed(stranger) == []
    for path in ("answer", "undo"):
        answered = await stranger.ask("POST", f"{PROPOSALS}/{told['id']}/{path}", json=APPROVE)
        assert answered.status_code == 404
    assert await records(world, "tasks") == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "status"),
        ({"status": "resolved"}, "payload"),
        ({"status": "resolved", "payload": {}}, "payload.approved"),
        ({"status": "resolved", "payload": {"approved": "yes"}}, "payload.approved"),
        ({"status": "resolved", "payload": {"approved": True, "x": 1}}, "payload.x"),
        ({"status": "resolved", "payload": {"later": "soon"}}, "payload.later"),
        ({"status": "resolved", "payload": {"approved": False, "feedback": 3}}, "payload.feedback"),
        ({**APPROVE, "who": "me"}, "who"),
    ],
)
async def test_a_wrong_answer_is_told_its_field(scene: tuple[World, House], body: Json, field: str):
    world, house = scene
    await mission_with(world, plan(TASK))
    (told,) = await listed(house.desk())
    answered = await house.desk().ask("POST", f"{PROPOSALS}/{told['id']}/answer", json=body)
    assert (answered.status_code, answered.json()["errors"][0]["field"]) == (400, field)


async def test_many_are_answered_each_on_its_own(scene: tuple[World, House]):
    world, house = scene
    steps = (TASK, call(1, "complete_task", taskId="t-gone"))
    await mission_with(world, plan(*steps))
    desk = house.desk()
    found = {one["metadata"]["mana"]["tool"]: one["id"] for one in await listed(desk)}
    entries = [{"interruptId": id_, **APPROVE} for id_ in found.values()]
    told = await desk.ask("POST", f"{PROPOSALS}/answers", json={"resume": entries})
    assert told.status_code == 200, told.text
    by_id = {one["interruptId"]: one for one in told.json()["answers"]}
    assert "error" not in by_id[found["create_task"]]
    assert by_id[found["complete_task"]]["code"] == "not-carried-out"
    assert "no such record" in by_id[found["complete_task"]]["error"]


async def test_a_standing_approval_is_made_listed_and_revoked(scene: tuple[World, House]):
    _, house = scene
    desk = house.desk()
    path = "/api/v1/me/standing-approvals"
    body = {"agentId": "legacy:ai-default", "tool": "create_task", "perDay": 3}
    key = {"Idempotency-Key": "one"}
    made = await desk.ask("POST", path, json=body, headers=key)
    assert made.status_code == 201, made.text
    assert (await desk.ask("POST", path, json=body, headers=key)).json() == made.json()
    (one,) = (await desk.ask("GET", path)).json()["standingApprovals"]
    assert (one["tool"], one["perDay"], one["usedToday"]) == ("create_task", 3, 0)
    gone = await desk.ask("DELETE", f"{path}/{one['id']}")
    assert gone.status_code == 200
    assert (await desk.ask("DELETE", f"{path}/{one['id']}")).status_code == 404
    assert (await desk.ask("GET", path)).json()["standingApprovals"] == []
    for wrong in ({"tool": "list_tasks"}, {"tool": None}, {"perDay": 0}, {"until": "2020-01-01"}):
        assert (await desk.ask("POST", path, json={**body, **wrong})).status_code == 400


async def test_what_nobody_answered_expires_though_nobody_looks(scene: tuple[World, House]):
    world, house = scene
    await mission_with(world, plan(TASK))
    stager = Stager(house.owners)
    assert await stager.once() == 1
    await world.sql("UPDATE mana_ai.proposals SET expires_at = clock_timestamp()")
    await stager.once()
    states = "SELECT state, decided_by FROM mana_ai.proposals"
    ((state, by),) = [tuple(row) for row in await world.sql(states)]
    assert (state, by) == ("expired", "auto-expire")
    assert [step["status"] for step in (await shown(world))[0]["plan"]] == ["skipped"]
