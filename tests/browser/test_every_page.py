"""Every page, on a desk and a phone, in light and dark: readable for everybody, nothing cut off.

`make pictures` keeps what was seen under `docs/images`.
"""

import os
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Error, Page, StorageState
from starlette.routing import Route

from supervisor.gateway.pages.forms import FormSeals
from supervisor.gateway.pages.operator.fleet import OperatorPages
from supervisor.gateway.pages.owner.routes import PAGES
from supervisor.health.last_hour import HourTold
from supervisor.health.watch import Watch
from tests.browser.chromium import NEEDED, open_browser
from tests.browser.household import ANNA, PLANNER, RUNNING, WEEK, household
from tests.gateway_parts import KEY, busy_hour
from tests.inbox import call, plan
from tests.integration.support import World, open_world
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = [*NEEDED, pytest.mark.one_postgres]

DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark"},
}
LIVE = "/live/{has}{of:path}"
UNSEEN = {LIVE, "/me/live", "/login", "/me/access/export.csv", "/me/access/export.json"}
"""What is no page: streams, files, and the door that a token opens once."""
UPRIGHT = """[...document.querySelectorAll("dd")].some((one) => one.clientWidth < 40)"""
"""A column so narrow that its letters stand on each other."""
STOLEN = "stolen.example"
HOSTILE = f"\"'><img src=//{STOLEN}/x onerror=alert(1)><svg onload=alert(2)>{{{{7*7}}}}"
HOSTILE_ID = "a'\"><svg onload=alert(3)>/1"
TOO_WIDE = """[document.documentElement, document.querySelector(".ways")].some(
    (one) => one && one.scrollWidth > one.clientWidth)"""
GRAVE = ("serious", "critical")
FOLDER = os.environ.get("MANA_PICTURES")


class Sight:
    """A household behind a gateway, and a browser that is signed in as owner and operator."""

    def __init__(self, world: World, house: House, browser: Browser, run: str) -> None:
        self.world, self.house, self.browser = world, house, browser
        self.url = str(house.client.base_url).rstrip("/")
        self.known = {"agent": PLANNER, "mission": WEEK, "user": ANNA, "run": run}
        self.state: StorageState = {}

    async def sign_in(self) -> None:
        """As anna by a link, and as an operator by a token."""
        link = (await self.house.operator("POST", f"/people/{ANNA}/link")).json()["link"]
        token = (await self.house.operator("POST", "/login")).json()["token"]
        context = await self.browser.new_context()
        page = await context.new_page()
        await page.goto(f"{self.url}/sign-in?link={link.rpartition('link=')[2]}")
        await page.locator("form[action='/sign-in'] button").click()
        await page.wait_for_url("**/me")
        await page.goto(f"{self.url}/login?token={token}")
        await page.wait_for_url(f"{self.url}/")
        self.state = await context.storage_state()
        await context.close()

    async def looking(self, look: str) -> BrowserContext:
        """A window of this look."""
        return await self.browser.new_context(storage_state=self.state, **LOOKS[look])

    def address(self, path: str) -> str:
        """A page of the household; KeyError where nobody said what to show there."""
        if path.endswith("/grant"):
            path = path.replace("{mission}", RUNNING)
        return self.url + re.sub(r"{(\w+)}", lambda part: self.known[part[1]], path)


async def troubled(world: World) -> None:
    """Somebody whose missions an operator's first page is about."""
    client = await world.client("bela")
    await client.agent("thrifty", name="Thrifty", maxTokensPerDay=0)
    await client.mission("market", agentId="thrifty", title="Market day")
    await client.mission("lost", agentId="gone", title="Collect receipts")
    await world.driver.tick()
    await world.driver.fold_all()


async def consented(world: World) -> None:
    """A sealed note that a mission shall read, and looks at it: one of each outcome."""
    client = await world.client(ANNA)
    note = {"id": "budget", "title": "enc:1:x.y"}
    await client.push("insert", "budget", note, table="notes", app="notes")
    inputs = [{"module": "notes", "table": "notes", "id": "budget"}]
    await client.edit(RUNNING, inputs=inputs)
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, table_name, record_id, status,"
        " reason, run_id) SELECT r.user_id, r.mission_id, 'notes', 'budget', s.status, s.reason,"
        " r.run_id FROM mana_ai.runs AS r, (VALUES ('ok', NULL), ('failed', 'decrypt-failed'),"
        " ('scope-violation', 'record-not-in-grant-allowlist')) AS s (status, reason)"
        " WHERE r.user_id = $1",
        ANNA,
    )


@pytest.fixture
async def sight(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Sight]:
    """Everything, made once for all looks."""
    hour = busy_hour()

    def told(_: Watch) -> HourTold:
        return hour

    monkeypatch.setattr(Watch, "last_hour", told)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path, auth_url=None))
        await house.operator("POST", "/people", {"user": ANNA, "displayName": "Anna"})
        await household(world)
        await troubled(world)
        await consented(world)
        (run,) = await world.runs(WEEK)
        browser = await stack.enter_async_context(open_browser())
        seen = Sight(world, house, browser, str(run["run_id"]))
        await seen.sign_in()
        yield seen


def _pages() -> list[str]:
    operator = OperatorPages(Any, Any, FormSeals(KEY)).routes()  # pyright: ignore[reportArgumentType]  # only its paths
    paths = [route.path for route in operator if _is_page(route)]
    paths += [path for verb, path, _, _ in PAGES if verb == "GET"]
    return sorted(set(paths) - UNSEEN)


def _is_page(route: Route) -> bool:
    return "GET" in (route.methods or ())


async def test_every_page_reads_well_for_everybody_and_is_nowhere_cut_off(sight: Sight):
    wrong, broken = list[str](), list[Error]()
    axe = Axe()

    def hear(error: Error) -> None:
        broken.append(error)

    for look in LOOKS:
        context = await sight.looking(look)
        page = await context.new_page()
        page.on("pageerror", hear)
        for path in _pages():
            answer = await page.goto(sight.address(path))
            where = f"{path} ({look})"
            assert answer is not None
            if not answer.ok:
                wrong.append(f"{where}: {answer.status}")
                continue
            told = cast("dict[str, Any]", (await axe.run(page)).response)
            grave = [one for one in told["violations"] if one["impact"] in GRAVE]
            wrong += [f"{where}: {_said(one)}" for one in grave]
            if await page.evaluate(TOO_WIDE):
                wrong.append(f"{where}: wider than the window")
            await _kept(page, path, look)
        await context.close()
    assert not wrong, "\n".join(wrong)
    assert not broken, broken[0].stack


async def test_longer_words_fit_the_smallest_phone(sight: Sight):
    context = await sight.browser.new_context(
        storage_state=sight.state, viewport={"width": 320, "height": 640}, locale="de-DE"
    )
    page = await context.new_page()
    for path in _pages():
        await page.goto(sight.address(path))
        assert await page.get_attribute("html", "lang") == "de"
        assert not await page.evaluate(TOO_WIDE), path
        assert not await page.evaluate(UPRIGHT), path


async def test_what_models_and_people_wrote_is_text_in_a_real_browser(sight: Sight):
    client = await sight.world.client(ANNA)
    await client.agent(HOSTILE_ID, name=HOSTILE, role=HOSTILE)
    step = call(0, "create_task", title=HOSTILE) | {"rationale": HOSTILE}
    await client.mission(
        "hostile",
        title=HOSTILE,
        objective=HOSTILE,
        agentId=HOSTILE_ID,
        iterations=[plan(step, summary=HOSTILE)],
    )
    await sight.world.driver.fold_all()
    sight.known |= {"agent": quote(HOSTILE_ID, safe=""), "mission": "hostile"}
    context = await sight.looking("light")
    page = await context.new_page()
    ran: list[str] = []
    page.on("dialog", lambda dialog: ran.append(dialog.message))
    page.on("request", lambda asked: ran.append(asked.url) if STOLEN in asked.url else None)
    for path in _pages():
        await page.goto(sight.address(path))
        assert await page.locator("img, svg[onload], [onerror]").count() == 0, path
    assert ran == []


def _said(violation: dict[str, Any]) -> str:
    places = ", ".join(" ".join(node["target"]) for node in violation["nodes"][:3])
    return f"{violation['id']} at {places}"


async def _kept(page: Page, path: str, look: str) -> None:
    if FOLDER is not None and look != "phone-dark":
        name = re.sub(r"[/{}]+", "-", path).strip("-") or "operators"
        await page.screenshot(path=Path(FOLDER) / f"{name}-{look}.png")
