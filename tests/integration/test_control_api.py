"""Pause, resume, cancel and an agent's facts over HTTP: services by key, operators by form."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest

from mana_actors.messages import Remembered
from tests.gateway_parts import FakeSupervisor, app_of, client_of, fleet_of
from tests.integration.support import World, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

AGENT = "legacy:ai-default"
TITLE = "Geheimer Plan"
POLICY = {
    "tools": {"create_task": "deny", "list_tasks": "auto", "<b>none</b>": "deny"},
    "defaultsByModule": {"todo": "auto", "Mein geheimes Modul": "deny"},
    "defaultForAi": "propose",
}


class Site:
    """A gateway over a world with one agent and one mission due; `browser` has a session."""

    def __init__(self, world: World, database: Database, folder: Path) -> None:
        self.world, self.supervisor = world, FakeSupervisor()
        self.fleet = fleet_of(database)
        self.app = app_of(self.fleet, self.supervisor, folder)
        self.service = client_of(self.app)
        self.browser = client_of(self.app, key=None)

    async def login(self) -> None:
        token = (await self.service.post("/internal/login")).json()["token"]
        await self.browser.get("/login", params={"token": token})

    async def press(
        self, path: str, origin: str | None = "http://gateway", seal: str | None = None
    ) -> httpx2.Response:
        """A form of the agent's page, with the seal of the session unless another is given."""
        if seal is None:
            found = re.search('name="seal" value="([^"]*)"', (await self.browser.get("/")).text)
            seal = found[1] if found else ""
        headers = {"host": "gateway"} | ({} if origin is None else {"origin": origin})
        form = {"seal": seal}
        return await self.browser.post(f"{page()}{path}", headers=headers, data=form)

    async def state(self, table: str = "agent_snapshots") -> str:
        await self.world.driver.fold_all()
        return await self.world.value(f"SELECT state FROM mana_ai.{table}")


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_world(database) as world:
        client = await world.client()
        await client.agent(name=TITLE, policy=POLICY, maxTokensPerDay=1000)
        await client.mission(title=TITLE)
        await world.driver.fold_all()
        made = Site(world, database, tmp_path)
        yield made
        await made.service.aclose()
        await made.browser.aclose()
        await made.fleet.close()


def page(user: str = "u1", agent: str = AGENT) -> str:
    return f"/agents/{quote(user, safe='')}/{quote(agent, safe='')}"


async def waiting(site: Site) -> str:
    site.world.provider.script[:0] = [{"status": 503, "text": "busy", "retry_after": "3600"}]
    await site.world.driver.tick()
    (run,) = await site.world.runs()
    assert run["state"] == "waiting"
    return str(run["run_id"])


async def test_an_agent_is_paused_and_resumed_as_often_as_asked(site: Site):
    for verb, state in (("pause", "paused"), ("resume", "active")):
        for changed in (True, False):
            answer = await site.service.post(f"/internal{page()}/{verb}")
            assert answer.status_code == 200
            told = {"user_id": "u1", "agent_id": AGENT, "state": state, "changed": changed}
            assert answer.json() == told
        assert await site.state() == state


async def test_a_mission_is_paused_and_cancelled(site: Site):
    run = await waiting(site)
    answer = await site.service.post("/internal/missions/u1/m1/cancel")
    assert (answer.status_code, answer.json()["run_id"]) == (200, run)
    assert [told[:4] for told in site.supervisor.stopped] == [("u1", AGENT, "m1", run)]
    again = await site.service.post(f"/internal/runs/{run}/cancel")
    assert (again.status_code, again.json()["changed"]) == (200, False)
    answer = await site.service.post("/internal/missions/u1/m1/pause")
    assert answer.json()["state"] == "paused"
    assert await site.state("mission_snapshots") == "paused"
    (count,) = [
        line
        for line in (await site.service.get("/metrics")).text.splitlines()
        if line.startswith("mana_ai_agent_decisions_total") and "withdrawn" in line
    ]
    assert count.endswith(" 1.0")


async def test_a_cancel_holds_though_the_supervisor_is_silent(site: Site):
    run = await waiting(site)
    site.supervisor.dead = True
    assert (await site.service.post(f"/internal/runs/{run}/cancel")).status_code == 200
    assert (await site.world.runs())[0]["state"] == "withdrawn"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/agents/u1/nobody/pause", 404, "agent"),
        ("/agents/u2/legacy%3Aai-default/pause", 404, "agent"),
        ("/missions/u1/none/resume", 404, "mission"),
        ("/missions/u1/m1/cancel", 404, "mission"),
        ("/runs/00000000-0000-0000-0000-000000000000/cancel", 404, "run"),
        ("/runs/no-id/cancel", 400, "run"),
        ("/missions/u1/m%00/pause", 400, "mission"),
    ],
)
async def test_what_is_missing_or_wrong_is_named(site: Site, path: str, status: int, field: str):
    answer = await site.service.post(f"/internal{path}")
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_a_user_without_a_default_agent_is_told_that_there_is_no_record(site: Site):
    answer = await site.service.post("/internal/agents/u2/legacy%3Aai-default/pause")
    assert "no record of the default agent" in answer.json()["error"]


async def test_what_makes_no_sense_is_a_conflict(site: Site):
    client = await site.world.client()
    await client.edit(state="done")
    await client.edit(AGENT, table="agents", state="archived")
    await site.world.driver.fold_all()
    answer = await site.service.post("/internal/missions/u1/m1/resume")
    assert (answer.status_code, answer.json()["error"]) == (409, "the mission is done")
    answer = await site.service.post(f"/internal{page()}/resume")
    assert (answer.status_code, answer.json()["error"]) == (409, "the agent is archived")


async def test_pausing_needs_the_service_key(site: Site):
    for path in (f"/internal{page()}/pause", "/internal/missions/u1/m1/pause"):
        assert (await site.browser.post(path)).status_code == 401
    assert await site.state() == "active"


async def test_an_id_with_slashes_and_colons_is_one_id(site: Site):
    await (await site.world.client("u/2")).agent("a/b:c")
    await site.world.driver.fold_all()
    answer = await site.service.post(f"/internal{page('u/2', 'a/b:c')}/pause")
    assert (answer.status_code, answer.json()["agent_id"]) == (200, "a/b:c")


# --- what operators see ---------------------------------------------------------------------------


async def test_an_agent_is_shown_with_policy_budget_and_why(site: Site):
    client = await site.world.client()
    await client.edit(AGENT, table="agents", state="paused")
    await site.world.driver.tick()
    answer = await site.service.get(f"/internal{page()}")
    told: dict[str, Any] = answer.json()
    policy = told["policy"]
    assert policy["denied"] == ["create_task"]
    assert "list_tasks" in policy["auto"]
    assert (policy["modules"], policy["default"]) == ({"todo": "auto"}, "propose")
    budget = told["budget"]
    assert (budget["cap"], budget["cap_source"]) == (1000, "owner")
    assert (budget["used"], budget["held"], budget["left"]) == (0, 0, 1000)
    (mission,) = told["missions"]
    assert (mission["decision"], mission["reason"]) == ("skipped-paused", "the agent is paused")
    assert [one["decision"] for one in told["decisions"]] == ["skipped-paused"]
    assert TITLE not in answer.text
    assert "geheimes" not in answer.text


async def test_an_unknown_agent_is_not_found(site: Site):
    assert (await site.service.get("/internal/agents/u1/nobody")).status_code == 404


async def test_a_form_pauses_and_comes_back_to_the_page(site: Site):
    await site.login()
    shown = await site.browser.get(page())
    assert f'action="{page()}/pause"' in shown.text
    assert TITLE not in shown.text
    answer = await site.press("/pause")
    assert (answer.status_code, answer.headers["location"]) == (303, page())
    assert await site.state() == "paused"
    await site.press("/missions/m1/pause")
    assert await site.state("mission_snapshots") == "paused"


async def test_the_page_shows_what_its_process_holds_and_what_it_lacks(site: Site):
    await site.login()
    assert "Asleep: holds nothing." in (await site.browser.get(page())).text
    held = Remembered(is_whole=True, is_behind=False, cap=1000, used=5, held=0)
    site.supervisor.memories["u1", AGENT] = msgspec.to_builtins(held)
    shown = await site.browser.get(page())  # no version of m1 is held
    assert shown.status_code == 200
    assert "differs" in shown.text


async def test_a_form_cancels_a_run_and_says_when_it_is_over(site: Site):
    await site.login()
    run = await waiting(site)
    assert (await site.press(f"/runs/{run}/cancel")).status_code == 303
    assert (await site.world.runs())[0]["state"] == "withdrawn"
    await (await site.world.client()).edit(state="done")
    await site.world.driver.fold_all()
    answer = await site.press("/missions/m1/resume")
    assert answer.status_code == 409
    assert "the mission is done" in answer.text


@pytest.mark.parametrize(
    "origin", [None, "null", "http://elsewhere", "http://gateway:81", "https://gateway"]
)
async def test_a_form_of_another_site_does_nothing(site: Site, origin: str | None):
    await site.login()
    assert (await site.press("/pause", origin)).status_code == 403
    assert await site.state() == "active"


@pytest.mark.parametrize("seal", ["", "0" * 64, "é"])
async def test_a_form_without_the_seal_of_its_session_does_nothing(site: Site, seal: str):
    await site.login()
    assert (await site.press("/pause", seal=seal)).status_code == 403
    assert await site.state() == "active"


async def test_a_form_without_a_session_does_nothing(site: Site):
    assert (await site.press("/pause")).status_code == 401
    assert (await site.browser.get(page())).status_code == 401
    assert await site.state() == "active"
