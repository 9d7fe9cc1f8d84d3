"""The operators' page as a person sees it: a real Chromium, the real gateway, real HTTP."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Route, expect

from mana_actors.http.server import RunningServer, serve
from tests.browser.chromium import NEEDED, open_browser
from tests.gateway_parts import KEY, FakeSupervisor, app_of, fleet_of
from tests.inbox import TASK, call, plan, records
from tests.integration.support import World, open_world, until
from tests.owners import open_house
from tests.postgres import Database

pytestmark = [*NEEDED, pytest.mark.one_postgres]
AGENT = "a:<b>/1"
POLICY = {"tools": {"create_task": "deny"}, "defaultForAi": "propose", "defaultsByModule": {}}
TITLE = "Geheimer Plan der Woche"
MISSION = """
INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, state, agent_id, complete,
       decision, reason)
VALUES ('u<1>', 'm1', jsonb_build_object('title', $1::text), 'active', 'a1', true, 'skipped-paused',
        'the agent is paused')
"""


COUNTED = """
window.came = 0;
const isOne = (node) => node.nodeType === 1 && node.outerHTML.includes('proposal');
new MutationObserver((all) => all.forEach((one) => {
  window.came += [...one.addedNodes].filter(isOne).length;
})).observe(document.body, { childList: true, subtree: true });
"""


class SlowLook:
    """An open page's first look at what is new: read at once, and here only when it `may_come`."""

    def __init__(self) -> None:
        self.is_read, self.may_come = asyncio.Event(), asyncio.Event()
        self.looks = self.done = 0

    async def kept_back(self, route: Route) -> None:
        if route.request.resource_type == "document":
            await route.continue_()
            return
        self.looks += 1
        answer = await route.fetch()
        if self.looks == 1:
            self.is_read.set()
            await self.may_come.wait()
        await route.fulfill(response=answer)
        self.done += 1

    async def has_looked_again(self) -> bool:
        return self.done > 1


@asynccontextmanager
async def gateway(
    database: Database, folder: Path, supervisor: FakeSupervisor | None = None
) -> AsyncGenerator[RunningServer]:
    fleet = fleet_of(database)
    app = app_of(fleet, supervisor or FakeSupervisor(), folder)
    serving = await serve(app, "127.0.0.1", 0)
    try:
        yield serving
    finally:
        await serving.stop()
        await fleet.close()


async def test_an_operator_sees_states_and_reasons_but_no_title(database: Database, tmp_path: Path):
    owner = await database.connect("postgres")
    await owner.execute(MISSION, TITLE)
    await owner.close()
    supervisor = FakeSupervisor()
    async with gateway(database, tmp_path, supervisor) as serving:
        async with httpx2.AsyncClient(headers={"X-Service-Key": KEY}) as service:
            token = (await service.post(f"{serving.url}/internal/login")).json()["token"]
        async with open_browser() as browser:
            page = await browser.new_page()
            await page.goto(f"{serving.url}/login?token={token}")
            await page.wait_for_url(f"{serving.url}/")
            await page.goto(f"{serving.url}/fleet")
            shown = await page.content()
            assert "skipped-paused" in shown
            assert "The agent is paused" in shown
            assert "u&lt;1&gt;" in shown
            assert TITLE not in shown
            fetched: list[str] = []
            page.on("request", lambda one: fetched.append(one.url))
            owner = await database.connect("postgres")
            await owner.execute(MISSION.replace("'m1'", "'m2'"), TITLE)
            await owner.close()
            supervisor.more["stirs"] = 1
            await expect(page.locator("tr[data-key$='/m2']")).to_be_visible()
            assert f"{serving.url}/fleet" not in fetched, "it came along with the event"
            assert TITLE not in await page.content()
            stranger = await (await browser.new_context()).new_page()
            await stranger.goto(f"{serving.url}/login?token={token}")
            await stranger.locator(".note pre").wait_for()
            assert "skipped-paused" not in await stranger.content()  # the token was spent


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
        async with open_browser() as browser:
            page = await browser.new_page()
            agent = f"{serving.url}/agents/u%2F1/a%3A%3Cb%3E%2F1"
            await page.goto(f"{serving.url}/login?token={token}")
            await page.wait_for_url(f"{serving.url}/")
            await page.goto(f"{serving.url}/fleet")
            await page.locator("a[href^='/agents/']").first.click()
            await page.wait_for_url(agent)
            assert TITLE not in await page.content()
            for verb, state, button in (
                ("pause", "paused", "Resume"),
                ("resume", "active", "Pause"),
            ):
                await page.locator(f"nav form[action$='/{verb}'] button").click()
                await until(lambda: _is(world, state))  # noqa: B023  # awaited in the loop
                await page.goto(agent)
                await expect(page.locator("nav button").last).to_have_text(button)


async def test_an_owner_answers_by_keyboard_and_sees_what_is_new_without_a_reload(
    database: Database, tmp_path: Path
):
    async with (
        open_world(database) as world,
        open_house(database, tmp_path, auth_url=None) as house,
    ):
        await house.operator("POST", "/people", {"user": "u1"})
        link = (await house.operator("POST", "/people/u1/link")).json()["link"]
        url = str(house.client.base_url).rstrip("/")
        client = await world.client("u1")
        await client.mission(title=TITLE, iterations=[plan(TASK)])
        await world.driver.fold_all()
        async with open_browser() as browser:
            page = await browser.new_page()
            proposals, slow = page.locator(".proposal"), SlowLook()
            await page.route(re.compile(r"/me/inbox(\?|$)"), slow.kept_back)
            await page.goto(f"{url}/sign-in?link={link.rpartition('link=')[2]}")
            await page.locator("form[action='/sign-in'] button").click()
            await page.wait_for_url(f"{url}/me")
            await page.goto(f"{url}/me/inbox")
            await expect(proposals).to_have_count(1)
            await page.evaluate("window.isStill = true")
            await page.evaluate(COUNTED)
            await slow.is_read.wait()
            await page.keyboard.press("j")
            await expect(proposals).to_be_focused()
            await page.keyboard.press("a")
            await expect(proposals).to_have_count(0)
            assert len(await records(world, "tasks")) == 1
            slow.may_come.set()
            await until(slow.has_looked_again)
            assert await page.evaluate("window.came") == 0, "what was answered does not come back"
            another = call(0, "create_task", title="Noch etwas")
            await client.mission("m2", title=TITLE, iterations=[plan(another, id_="i2")])
            await world.driver.fold_all()
            await expect(page.locator("body")).to_contain_text("Noch etwas", timeout=20_000)
            assert await page.evaluate("window.isStill")
            for key in ("j", "e", "Enter"):
                await page.keyboard.press(key)
            await expect(proposals).to_have_count(0)
            assert await page.evaluate("document.activeElement.id") == "main", "not lost"
            await client.agent("a1", name="Coach")
            await world.driver.fold_all()
            await page.keyboard.press("/")
            await page.keyboard.type("coach")
            await page.keyboard.press("Enter")
            await page.locator("main a[href='/me/agents/a1']").click()
            await page.goto(f"{url}/me/agents/a1?module=todo")
            await page.select_option("#t-create_task", "auto")
            policy = {"tools": {"complete_task": "deny"}, "defaultForAi": "propose"}
            await client.edit("a1", table="agents", policy=policy)
            await world.driver.fold_all()
            done, made = page.locator("#t-complete_task"), page.locator("#t-create_task")
            await expect(done).to_have_value("deny", timeout=20_000)
            await expect(made).to_have_value("auto")  # what somebody has chosen is theirs


async def _is(world: World, state: str) -> bool:
    await world.driver.fold_all()
    return await world.value("SELECT state FROM mana_ai.agent_snapshots") == state
