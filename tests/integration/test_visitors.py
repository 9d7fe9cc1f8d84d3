"""Pages where people sign in elsewhere: a token of the auth service lets a browser in by a link."""

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from state.rules.sign_ins import hash_of
from tests.owners import PAGE, House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

LINK = "/api/v1/me/browser-link"


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncGenerator[House]:
    """An installation whose people sign in at the deployment's auth service."""
    async with open_house(database, tmp_path) as opened:
        yield opened


def browser(house: House) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=str(house.client.base_url), trust_env=False)


async def link_of(house: House, user: str = "u|1", **claims: Any) -> str:
    headers = {"Authorization": f"Bearer {house.auth.token(user, **claims)}", "Origin": PAGE}
    answer = await house.client.post(LINK, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["access-control-allow-origin"] == PAGE
    return answer.json()["link"]


async def use(client: httpx2.AsyncClient, link: str) -> int:
    origin = str(client.base_url).rstrip("/")
    answer = await client.post("/sign-in", data={"link": link}, headers={"Origin": origin})
    return answer.status_code


async def test_a_token_opens_the_pages_of_its_person_and_of_nobody_else(house: House):
    async with browser(house) as client:
        assert (await client.get("/me")).status_code == 401
        link = await link_of(house)
        assert "<button" in (await client.get(f"/sign-in?link={link}")).text
        assert await use(client, link) == 303
        shown = await client.get("/me")
        assert shown.status_code == 200
        assert "u|1" in shown.text
        (row,) = await house.sql("SELECT user_id, link_hash, cookie_hash FROM mana_ai.visitors")
        assert (row["user_id"], row["link_hash"]) == ("u|1", None)
        assert row["cookie_hash"] == hash_of(next(iter(client.cookies.values())))
        async with browser(house) as another:
            assert await use(another, link) == 404, "a link works once"


async def test_of_two_who_bring_a_link_at_once_one_is_let_in(house: House):
    link = await link_of(house)
    async with browser(house) as one, browser(house) as two:
        assert sorted(await asyncio.gather(use(one, link), use(two, link))) == [303, 404]


async def test_a_link_ends_soon_and_a_visit_within_the_day(house: House):
    async with browser(house) as client:
        link = await link_of(house)
        await house.sql("UPDATE mana_ai.visitors SET expires_at = clock_timestamp()")
        assert await use(client, link) == 404
        assert await use(client, await link_of(house)) == 303
        (row,) = await house.sql(
            "SELECT expires_at - clock_timestamp() AS rest FROM mana_ai.visitors"
            " WHERE cookie_hash IS NOT NULL"
        )
        assert row["rest"].total_seconds() <= 12 * 3600
        await house.sql("UPDATE mana_ai.visitors SET expires_at = clock_timestamp()")
        assert (await client.get("/me")).status_code == 401


async def test_visits_are_listed_and_ended_at_once(house: House):
    async with browser(house) as here, browser(house) as there:
        for client in (here, there):
            assert await use(client, await link_of(house)) == 303
        page = (await here.get("/me/settings")).text
        (which,) = re.findall("/me/sign-ins/([0-9a-f-]+)/end", page)
        seal = re.search('name="seal" value="([^"]*)"', page)
        assert seal is not None
        origin = {"Origin": str(here.base_url).rstrip("/")}
        path, form = f"/me/sign-ins/{which}/end", {"seal": seal[1]}
        foreign = await here.post(path, data=form, headers={"Origin": PAGE})
        assert foreign.status_code in (401, 403), "a form of another page counts for nothing"
        assert (await here.post(path, data=form, headers=origin)).status_code == 303
        assert (await there.get("/me")).status_code == 401
        assert (await here.get("/me")).status_code == 200
        assert (await here.post("/me/sign-out", data=form, headers=origin)).status_code == 303
        assert (await here.get("/me")).status_code == 401


async def test_what_somebody_shares_is_what_the_token_said(house: House):
    async with browser(house) as client:
        assert await use(client, await link_of(house, spaces=["s-1", "a,b", ""])) == 303
        assert (await client.get("/api/v1/me")).json()["spaces"] == ["s-1"]
        (row,) = await house.sql("SELECT spaces FROM mana_ai.visitors")
        assert row["spaces"] == ["s-1"]


async def test_only_a_good_token_gets_a_link_and_a_cookie_gets_none_from_another_page(house: House):
    assert (await house.client.post(LINK)).status_code == 401
    wrong = {"Authorization": f"Bearer {house.auth.token('u1', aud='another')}"}
    assert (await house.client.post(LINK, headers=wrong)).status_code == 401
    async with browser(house) as client:
        assert await use(client, await link_of(house)) == 303
        answer = await client.post(LINK, headers={"Origin": PAGE})
        assert answer.status_code == 401
