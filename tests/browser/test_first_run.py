"""From an empty installation to the first approved proposal; and why something did not run."""

from pathlib import Path

import pytest
from playwright.async_api import Locator, expect

from tests.browser.chromium import NEEDED, open_browser
from tests.fake_provider import Entry
from tests.inbox import records
from tests.integration.support import World, open_world, until
from tests.owners import open_house
from tests.postgres import Database

pytestmark = [*NEEDED, pytest.mark.one_postgres]

PLAN: tuple[Entry, ...] = (
    {"calls": [{"name": "create_task", "args": {"title": "Water the plants"}}], "usage": [80, 20]},
    {"content": "One thing.", "usage": [40, 10]},
)
MOST, MOST_TO_KNOW_WHY = 12, 3


class Hand:
    """A person who clicks, and how often."""

    def __init__(self) -> None:
        self.clicks = 0

    async def click(self, what: Locator) -> None:
        await what.click()
        self.clicks += 1


async def test_the_first_proposal_is_approved_without_reading_any_docs(
    database: Database, tmp_path: Path
):
    async with (
        open_world(database) as world,
        open_house(database, tmp_path, auth_url=None) as house,
        open_browser() as browser,
    ):
        token = (await house.operator("POST", "/login")).json()["token"]
        url, hand = str(house.client.base_url).rstrip("/"), Hand()
        page = await browser.new_page()
        await page.goto(f"{url}/login?token={token}")  # what `mana up` prints
        hand.clicks += 1
        await page.get_by_label("Name").fill("u1")
        hand.clicks += 1
        await hand.click(page.get_by_role("button", name="Make a link"))
        await hand.click(page.get_by_role("link", name="Open it here"))
        await hand.click(page.locator("form[action='/sign-in'] button"))
        await page.wait_for_url(f"{url}/me")
        await hand.click(page.get_by_role("link", name="Begin with the agent Planner"))
        await hand.click(page.get_by_role("button", name="Make the mission"))
        await page.wait_for_url(f"{url}/me/missions/*")
        await world.driver.fold_all()
        world.provider.script[:0] = PLAN
        await hand.click(page.get_by_role("button", name="Run now"))
        await until(lambda: _is_asked_for(world))
        await world.driver.tick()
        await world.driver.fold_all()
        approve = page.get_by_role("button", name="Approve: Create a task Water the plants")
        await expect(approve).to_be_visible(timeout=20_000)
        await hand.click(approve)
        await expect(approve).to_have_count(0)
        tasks = await records(world, "tasks")
        assert [task["title"] for task in tasks.values()] == ["Water the plants"]
        assert hand.clicks <= MOST


async def test_why_something_did_not_run_stands_on_the_first_page_and_is_mended_with_a_preview(
    database: Database, tmp_path: Path
):
    async with (
        open_world(database) as world,
        open_house(database, tmp_path, auth_url=None) as house,
        open_browser() as browser,
    ):
        await house.operator("POST", "/people", {"user": "u1"})
        link = (await house.operator("POST", "/people/u1/link")).json()["link"]
        client = await world.client()
        await client.agent("coach", name="Coach", state="paused")
        await client.mission(agentId="coach", title="Keep running")
        await world.driver.tick()
        await world.driver.fold_all()
        page = await browser.new_page()
        url = str(house.client.base_url).rstrip("/")
        await page.goto(f"{url}/sign-in?link={link.rpartition('link=')[2]}")
        await page.locator("form[action='/sign-in'] button").click()
        reason, hand = page.get_by_text("The agent is paused.").first, Hand()
        await expect(reason).to_be_visible()
        await hand.click(page.get_by_role("link", name="Keep running").first)
        await expect(page.get_by_role("heading", name="Keep running")).to_be_visible()
        await expect(page.get_by_text("Nothing runs: Coach is not active.")).to_be_visible()
        assert hand.clicks <= MOST_TO_KNOW_WHY
        await page.get_by_role("link", name="Edit mission Keep running").click()
        preview = page.locator("#preview")
        await expect(preview).to_contain_text("daily at 07:00")
        await page.evaluate("here = document.body")  # gone with a page that is loaded anew
        await page.locator("input[name=time]").fill("08:15")
        await expect(preview).to_contain_text("daily at 08:15")
        await page.locator("select[name=how]").select_option("cron")
        await page.locator("input[name=cron]").fill("0 9 * *")
        await expect(preview).to_contain_text("That is no time to run at")
        assert await page.evaluate("here === document.body")
        await expect(page.locator("input[name=time]")).to_be_hidden()


async def _is_asked_for(world: World) -> bool:
    return await world.value("SELECT count(*) FROM mana_ai.run_requests") == 1
