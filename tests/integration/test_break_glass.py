"""Break-glass over HTTP: a reason that is durable comes before any text, and its owner sees it."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from state.store.gateway import openings
from tests.gateway_parts import KEY
from tests.inbox import TASK, plan
from tests.integration.steps import session
from tests.integration.support import open_world
from tests.integration.test_owner_pages import Tab
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

SECRET = "Kidney clinic"
HOSTILE = '"><script>alert(1)</script> a ticket'
TEXTS = "/agents/u1/a-1/texts"


class Desk:
    """A browser of an operator, and one of the person."""

    def __init__(self, house: House, operator: httpx2.AsyncClient, tab: Tab) -> None:
        self.house, self.operator, self.tab = house, operator, tab

    async def see(self, path: str, status: int = 200) -> str:
        """A page of an operator's."""
        answer = await self.operator.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status, answer.text
        return answer.text

    async def say_why(self, reason: str, **fields: str) -> httpx2.Response:
        """The form of the page."""
        found = re.search('name="seal" value="([^"]*)"', await self.see("/"))
        assert found is not None
        form = {"seal": found[1], "reason": reason, **fields}
        headers = {"Origin": str(self.operator.base_url).rstrip("/")}
        return await self.operator.post(TEXTS, data=form, headers=headers)

    async def rows(self) -> list[dict[str, Any]]:
        """What was written down."""
        found = await self.house.sql("SELECT * FROM mana_ai.openings ORDER BY at")
        return [dict(row) for row in found]


@pytest.fixture
async def desk(database: Database, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path, auth_url=None))
        url = str(house.client.base_url)
        for user in ("u1", "u2"):
            assert (await house.operator("POST", "/people", {"user": user})).status_code == 201
        tab = Tab(
            house,
            await stack.enter_async_context(httpx2.AsyncClient(base_url=url, trust_env=False)),
        )
        await tab.sign_in()
        operator = httpx2.AsyncClient(base_url=url, trust_env=False)
        await stack.enter_async_context(operator)
        token = (await house.operator("POST", "/login")).json()["token"]
        assert (await operator.get(f"/login?token={token}")).status_code == 200
        client = await world.client()
        await client.agent("a-1", name=SECRET, role=SECRET)
        await client.mission(title=SECRET, objective=SECRET, agentId="a-1", iterations=[plan(TASK)])
        await world.driver.fold_all()
        yield Desk(house, operator, tab)


async def test_no_text_is_shown_before_a_reason_is_kept_and_the_owner_reads_it(desk: Desk):
    for path in ("/", "/agents/u1/a-1", TEXTS, "/openings"):
        assert SECRET not in await desk.see(path)
    assert "Operator" not in await desk.tab.see("/me")
    answer = await desk.say_why(HOSTILE)
    assert answer.headers["location"] == TEXTS
    shown = await desk.see(TEXTS)
    assert SECRET in shown
    assert "<script>" not in shown
    (row,) = await desk.rows()
    assert (row["user_id"], row["agent_id"], row["reason"]) == ("u1", "a-1", HOSTILE)
    assert row["opened_by"].startswith("session ")
    assert row["opened_by"].removeprefix("session ") not in str(dict(desk.operator.cookies))
    assert "&lt;script&gt;" in await desk.see("/openings")
    assert SECRET not in await desk.see("/agents/u1/a-1")
    home = await desk.tab.see("/me")
    assert "An operator opened your texts." in home
    access = await desk.tab.see("/me/access")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a ticket" in access
    told = (await desk.tab.client.get("/api/v1/me/ai-openings")).json()["items"]
    assert [(one["reason"], one["agentId"], one["isNew"]) for one in told] == [
        (HOSTILE, "a-1", True)
    ]


async def test_it_is_told_on_home_until_its_person_saw_it_and_a_later_one_again(desk: Desk):
    await desk.say_why("the first ticket")
    first = (await desk.rows())[0]["opening_id"]
    await desk.say_why("the second ticket")
    assert "opened your texts 2 times" in await desk.tab.see("/me")
    assert (await desk.tab.press("/me/access/seen", opening=str(first))).status_code == 303
    assert "An operator opened your texts." in await desk.tab.see("/me")
    last = (await desk.rows())[1]["opening_id"]
    await desk.tab.press("/me/access/seen", opening=str(last))
    await desk.tab.press("/me/access/seen", opening=str(first))  # never back again
    assert "opened your texts" not in await desk.tab.see("/me")
    assert "the second ticket" in await desk.tab.see("/me/access")
    for strange in ("x", "00000000-0000-0000-0000-000000000000"):
        answer = await desk.tab.press("/me/access/seen", opening=strange)
        assert answer.status_code in (400, 404)


@pytest.mark.parametrize("reason", ["", "because", " " * 40, "x" * 501, "a bell\x07 rings here"])
async def test_without_a_reason_nothing_is_opened(desk: Desk, reason: str):
    answer = await desk.say_why(reason)
    assert answer.status_code == 400
    assert SECRET not in answer.text
    assert SECRET not in await desk.see(TEXTS)
    assert await desk.rows() == []
    told = await desk.house.operator("POST", "/agents/u1/a-1/texts", {"reason": reason})
    assert (told.status_code, told.json()["field"]) == (400, "reason")


async def test_what_cannot_be_written_down_opens_nothing(desk: Desk):
    await desk.house.sql(
        "ALTER TABLE mana_ai.openings ADD CONSTRAINT full_disk CHECK (reason = '') NOT VALID"
    )
    answer = await desk.say_why("a ticket says so")
    assert answer.status_code >= 400
    assert SECRET not in answer.text
    told = await desk.house.operator("POST", "/agents/u1/a-1/texts", {"reason": "a ticket says so"})
    assert told.status_code >= 400
    assert SECRET not in told.text
    assert SECRET not in await desk.see(TEXTS)


async def test_an_opening_ends_and_is_of_one_session_and_one_agent(desk: Desk):
    assert openings.LIFE.total_seconds() <= 3600
    await desk.say_why("a ticket says so")
    assert SECRET in await desk.see(TEXTS)
    assert SECRET not in await desk.see("/agents/u2/a-1/texts")
    assert SECRET not in await desk.see("/agents/u1/legacy:ai-default/texts")
    token = (await desk.house.operator("POST", "/login")).json()["token"]
    async with httpx2.AsyncClient(base_url=desk.operator.base_url, trust_env=False) as another:
        await another.get(f"/login?token={token}")
        assert SECRET not in (await another.get(TEXTS)).text
    await desk.house.sql(
        "UPDATE mana_ai.openings SET at = at - interval '1 hour', ends_at = now() - interval '1 s'"
    )
    assert SECRET not in await desk.see(TEXTS)
    async with httpx2.AsyncClient(base_url=desk.operator.base_url, trust_env=False) as nobody:
        assert (await nobody.get(TEXTS)).status_code == 401
        assert (await nobody.post(TEXTS, data={"reason": "x" * 20})).status_code == 401
    forged = await desk.say_why("a ticket says so", seal="0" * 64)
    assert forged.status_code == 403


async def test_by_the_service_key_the_road_is_the_same(desk: Desk):
    body = {"reason": "a ticket says so", "run": None}
    told = await desk.house.operator("POST", "/agents/u1/a-1/texts", body)
    assert told.status_code == 201
    assert told.json()["texts"]["missions"][0]["title"] == SECRET
    (row,) = await desk.rows()
    assert row["opened_by"] == "service key"
    listed = (await desk.house.operator("GET", "/openings")).json()["items"]
    assert [one["reason"] for one in listed] == ["a ticket says so"]
    for user, agent in (("u1", "nobody"), ("u3", "a-1")):
        missing = await desk.house.operator("POST", f"/agents/{user}/{agent}/texts", body)
        assert missing.status_code == 404
    wrong = await desk.house.operator("POST", "/agents/u1/a-1/texts", body | {"run": "x"})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "run")
    assert len(await desk.rows()) == 1
    assert (await desk.house.client.get("/internal/openings")).status_code == 401
    assert KEY not in str(listed)


async def test_nobody_changes_removes_backdates_or_prolongs_what_was_written(
    desk: Desk, database: Database
):
    await desk.say_why("a ticket says so")
    insert = "INSERT INTO mana_ai.openings (user_id, agent_id, reason, opened_by, ends_at{}) VALUES"
    async with session(database, "mana_gateway") as gateway:
        for statement in (
            "UPDATE mana_ai.openings SET reason = 'nothing at all'",
            "DELETE FROM mana_ai.openings",
            "TRUNCATE mana_ai.openings",
            insert.format(", at") + " ('u1', 'a', 'long enough', 'me', now(), now())",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await gateway.execute(statement)
        for values, error in (
            ("('u1', 'a', 'long enough', 'me', now() + interval '1 m')", "row-level security"),
            ("('u2', 'a', 'long enough', 'me', now() + interval '2 h')", "openings_are_short"),
            ("('u2', 'a', 'too short', 'me', now() + interval '1 m')", "openings_say_why"),
        ):
            async with gateway.transaction():
                await gateway.execute("SELECT set_config('app.current_user_id', 'u2', true)")
                with pytest.raises(asyncpg.PostgresError, match=error):
                    async with gateway.transaction():
                        await gateway.execute(f"{insert.format('')} {values}")
    for login in ("mana_agent", "mana_supervisor", "mana_keys"):
        async with session(database, login) as other:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.fetch("SELECT reason FROM mana_ai.openings")
    told = (await desk.tab.client.get("/api/v1/me/ai-openings")).json()["items"]
    assert len(told) == 1


async def test_the_command_line_says_why_too(desk: Desk, tmp_path: Path):
    (tmp_path / "key").write_text(KEY)
    base = [sys.executable, "-c", "from mana_actors.command import main; main()", "agents", "texts"]
    at = ["--url", str(desk.house.client.base_url), "--data-dir", str(tmp_path)]
    for reason, opens in (([], False), (["--reason", "a ticket says so"], True)):
        done = await asyncio.create_subprocess_exec(
            *base, "u1/a-1", *reason, *at,
            stdout=PIPE, stderr=STDOUT,
            env=os.environ | {"MANA_SERVICE_KEY_FILE": str(tmp_path / "key")},
        )  # fmt: skip
        said, _ = await done.communicate()
        assert (done.returncode == 0) == opens, said
        assert (SECRET in said.decode()) == opens
    assert [row["reason"] for row in await desk.rows()] == ["a ticket says so"]
