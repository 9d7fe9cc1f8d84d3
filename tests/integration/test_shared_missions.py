"""Missions in shared spaces: whose agents run them, and what leaving the space does to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from state.log.principals import DEFAULT_AGENT_ID
from state.runs.reasons import codes_of
from tests.integration.support import DONE, LONG_AGO, Json, World, open_world
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

MISSIONS = "/api/v1/me/missions"


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(database, tmp_path, auth_url=None) as opened:
        for user in ("anna", "bert"):
            answer = await opened.operator("POST", "/people", {"user": user})
            assert answer.status_code == 201, answer.text
        yield opened


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with open_world(database, [DONE, DONE]) as opened:
        await opened.driver.start()
        yield opened


@pytest.fixture
async def space(house: House) -> str:
    made = await house.operator("POST", "/spaces", {"name": "Home", "member": "anna"})
    space = made.json()["space_id"]
    await shares(house, space, "bert")
    return space


async def shares(house: House, space: str, user: str) -> None:
    answer = await house.operator("PUT", f"/spaces/{space}/members/{user}")
    assert answer.status_code == 200, answer.text


async def leaves(house: House, space: str, user: str) -> None:
    answer = await house.operator("DELETE", f"/spaces/{space}/members/{user}")
    assert answer.status_code == 200, answer.text


async def as_person(house: House, user: str, verb: str, path: str, body: Json) -> httpx2.Response:
    token = (await house.operator("POST", f"/people/{user}/token")).json()["accessToken"]
    headers = {"Authorization": f"Bearer {token}"}
    return await house.client.request(verb, path, json=body, headers=headers)


async def ran(world: World) -> list[str]:
    """The missions that ran in a turn of the supervisor."""
    return [report.mission_id for report in (await world.driver.tick())[1]]


async def told_last(world: World, mission: str) -> tuple[str, list[str]]:
    """The decision that a mission's owner was told last, and its reason by code."""
    (row,) = await world.sql(
        "SELECT decision, reason FROM mana_ai.mission_snapshots WHERE mission_id = $1", mission
    )
    return row["decision"], codes_of(row["reason"])


async def test_missions_of_whoever_left_a_space_wait_and_go_on_when_they_are_back(
    world: World, house: House, space: str
):
    client = await world.client("anna")
    await client.mission("shared", space=space)
    await client.mission("own")
    await leaves(house, space, "anna")
    assert await ran(world) == ["own"]
    assert await told_last(world, "shared") == ("skipped-left-space", ["left-space"])
    assert await ran(world) == [], "nothing looks at it again before something changes"
    await shares(house, space, "anna")
    assert await ran(world) == ["shared"]


async def test_who_leaves_after_the_order_was_given_claims_nothing(
    world: World, house: House, space: str
):
    await (await world.client("anna")).mission("shared", space=space)
    await world.driver.fold_all()
    store = await world.driver.store(("anna", DEFAULT_AGENT_ID))
    await leaves(house, space, "anna")
    claim = await store.claim("shared", LONG_AGO, 60_000, "hand", "{}", claim_id=uuid4())
    assert claim.outcome == "stale"
    assert await world.value("SELECT count(*) FROM mana_ai.runs") == 0


async def test_another_members_agent_is_told_from_one_that_is_not_there(
    world: World, house: House, space: str
):
    agent = {"id": "berts", "name": "Planer", "role": "", "state": "active", "spaceId": space}
    await (await world.client("bert")).push("insert", "berts", agent, table="agents", space=space)
    client = await world.client("anna")
    await client.mission("shared", agentId="berts", space=space)
    await client.mission("own", agentId="berts")
    await client.mission("gone", agentId="nobodys", space=space)
    assert await ran(world) == []
    assert await told_last(world, "shared") == ("skipped-missing-agent", ["agent-of-another"])
    for mission in ("own", "gone"):  # nobody hears of agents of people they share nothing with
        assert await told_last(world, mission) == ("skipped-missing-agent", ["missing-agent"])

    wanted = {"title": "Woche", "agentId": "berts", "spaceId": space}
    answer = await as_person(house, "anna", "POST", MISSIONS, wanted)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "agentId")
    assert "another member's" in answer.text
    answer = await as_person(house, "bert", "POST", MISSIONS, wanted)
    assert answer.status_code == 201, answer.text
    theirs = f"{MISSIONS}/{answer.json()['id']}"
    answer = await as_person(house, "anna", "PATCH", theirs, {"agentId": "berts"})
    assert answer.status_code == 200, "the agent is that of the mission's owner, whoever says so"


async def test_a_member_neither_runs_another_members_mission_nor_ends_its_run(
    world: World, house: House, space: str
):
    await (await world.client("anna")).mission("shared", space=space)
    await world.driver.fold_all()
    for verb, what in (("run", "runs it"), ("cancel", "ends its runs")):
        answer = await as_person(house, "bert", "POST", f"{MISSIONS}/shared/{verb}", {})
        assert (answer.status_code, what in answer.json()["detail"]) == (403, True)
    await leaves(house, space, "bert")
    for verb in ("run", "cancel"):
        answer = await as_person(house, "bert", "POST", f"{MISSIONS}/shared/{verb}", {})
        assert answer.status_code == 404, "nobody hears of a mission that they have no part in"
    answer = await as_person(house, "anna", "POST", f"{MISSIONS}/shared/cancel", {})
    assert answer.status_code == 409, "hers, and no run of it is under way"
