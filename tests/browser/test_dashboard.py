"""The operators' page as a person sees it: a real Chromium, the real gateway, real HTTP."""

import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from mana_actors.http.server import RunningServer, serve
from tests.browser.tab import open_tab
from tests.gateway_parts import KEY, FakeSupervisor, app_of, fleet_of
from tests.inbox import TASK, call, plan, records
from tests.integration.support import World, open_world, until
from tests.owners import open_house
from tests.postgres import Database

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install -y chromium"),
    pytest.mark.skipif(sys.platform != "linux", reason="Debian's chromium"),
]
AGENT = "a:<b>/1"
POLICY = {"tools": {"create_task": "deny"}, "defaultForAi": "propose", "defaultsByModule": {}}
TITLE = "Geheimer Plan der Woche"
MISSION = """
INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, state, agent_id, complete,
       decision, reason)
VALUES ('u<1>', 'm1', jsonb_build_object('title', $1::text), 'active', 'a1', true, 'skipped-paused',
        'the agent is paused')
"""


@asynccontextmanager
async def gateway(database: Database, folder: Path) -> AsyncGenerator[RunningServer]:
    fleet = fleet_of(database)
    serving = await serve(app_of(fleet, FakeSupervisor(), folder), "127.0.0.1", 0)
    try:
        yield serving
    finally:
        await serving.stop()
        await fleet.close()


async def page(url: str, profile: Path) -> str:
    """What the browser made of a page, as HTML."""
    assert CHROMIUM is not None
    async with open_tab(CHROMIUM, profile) as tab:
        await tab.go(url)
        await tab.sees("location.pathname === '/' || !!document.querySelector('.note pre')")
        return await tab.value("document.documentElement.outerHTML")


async def test_an_operator_sees_states_and_reasons_but_no_title(database: Database, tmp_path: Path):
    owner = await database.connect("postgres")
    await owner.execute(MISSION, TITLE)
    await owner.close()
    async with gateway(database, tmp_path) as serving:
        async with httpx2.AsyncClient(headers={"X-Service-Key": KEY}) as service:
            token = (await service.post(f"{serving.url}/internal/login")).json()["token"]
        shown = await page(f"{serving.url}/login?token={token}", tmp_path / "first")
        assert "skipped-paused" in shown
        assert "the agent is paused" in shown
        assert "u&lt;1&gt;" in shown
        assert TITLE not in shown
        stranger = await page(f"{serving.url}/login?token={token}", tmp_path / "second")
        assert "skipped-paused" not in stranger  # the token was spent


async def test_an_operator_pauses_and_resumes_an_agent_with_a_button(
    database: Database, tmp_path: Path
):
    async with open_world(database) as world, gateway(database, tmp_path) as serving:
        client = await world.client("u/1")
        await client.agent(AGENT, name=TITLE, policy=POLICY, maxTokensPerDay=20_000)
        await client.mission(agentId=AGENT, title=TITLE)
        world.provider.script[:0] = [{"status": 503, "text": "busy", "retry_after": "3600"}]
        await world.driver.tick()
        async with httpx2.AsyncClient(headers={"X-Service-Key": KEY}) as service:
            token = (await service.post(f"{serving.url}/internal/login")).json()["token"]
        assert CHROMIUM is not None
        async with open_tab(CHROMIUM, tmp_path / "profile") as tab:
            await tab.go(f"{serving.url}/login?token={token}")
            await tab.sees("location.pathname === '/'")
            await tab.click("a[href^='/agents/']")
            await tab.sees("location.pathname === '/agents/u%2F1/a%3A%3Cb%3E%2F1'")
            assert TITLE not in await tab.value("document.documentElement.outerHTML")
            await tab.screenshot(tmp_path / "agent.png")
            for verb, state, button in (
                ("pause", "paused", "Resume"),
                ("resume", "active", "Pause"),
            ):
                await tab.click(f"nav form[action$='/{verb}'] button")
                await until(lambda: _is(world, state))  # noqa: B023  # awaited in the loop
                await tab.sees("location.pathname.startsWith('/agents/')")
                await tab.go(f"{serving.url}/agents/u%2F1/a%3A%3Cb%3E%2F1")
                await tab.sees(f"document.querySelector('nav button')?.innerText === '{button}'")


async def test_an_owner_answers_by_keyboard_and_sees_what_is_new_without_a_reload(
    database: Database, tmp_path: Path
):
    async with (
        open_world(database) as world,
        open_house(database, tmp_path, auth_url=None) as house,
    ):
        assert CHROMIUM is not None
        await house.operator("POST", "/people", {"user": "u1"})
        link = (await house.operator("POST", "/people/u1/link")).json()["link"]
        url = str(house.client.base_url).rstrip("/")
        client = await world.client("u1")
        await client.mission(title=TITLE, iterations=[plan(TASK)])
        await world.driver.fold_all()
        async with open_tab(CHROMIUM, tmp_path / "profile") as tab:
            await tab.go(f"{url}/sign-in?link={link.rpartition('link=')[2]}")
            await tab.sees("!!document.querySelector('form[action=\"/sign-in\"] button')")
            await tab.click("form[action='/sign-in'] button")
            await tab.sees("location.pathname === '/me'")
            await tab.go(f"{url}/me/inbox")
            await tab.sees("document.querySelectorAll('.proposal').length === 1")
            await tab.value("window.isStill = true")
            await tab.press("j")
            await tab.sees("document.activeElement.matches('.proposal')")
            await tab.press("a")
            await tab.sees("document.querySelectorAll('.proposal').length === 0 && isStill")
            assert len(await records(world, "tasks")) == 1
            another = call(0, "create_task", title="Noch etwas")
            await client.mission("m2", title=TITLE, iterations=[plan(another, id_="i2")])
            await world.driver.fold_all()
            await tab.sees("document.body.innerText.includes('Noch etwas') && isStill")


async def _is(world: World, state: str) -> bool:
    await world.driver.fold_all()
    return await world.value("SELECT state FROM mana_ai.agent_snapshots") == state
