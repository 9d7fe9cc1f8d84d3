"""Operators' open pages: what they hear, when, and how often the database is read for them."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from mana_actors.http.server import serve
from supervisor.gateway.pages.operator import live
from tests.integration.support import until
from tests.integration.test_gateway import Gateway, new_session, opened_gateway
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

NEVER_S = 3600.0


@pytest.fixture
async def gateway(database: Database, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with opened_gateway(database, tmp_path) as opened:
        # Nobody folds here: of a fold that is still to come, no page says how long ago it was.
        await opened.add_shard(age_s=-3600)
        yield opened


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.02)
    monkeypatch.setattr(live, "AGAIN_S", NEVER_S)


class Reading:
    """One open page: what its stream sent, event by event."""

    def __init__(self, client: httpx2.AsyncClient, lines: AsyncIterator[str]) -> None:
        self.client, self._lines, self.last = client, lines, ""

    async def next(self) -> str:
        """The next page that is sent."""
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last = line.removeprefix("id: ")
                if line.startswith("data: "):
                    return msgspec.json.decode(line.removeprefix("data: "), type=str)
        raise EOFError

    async def over(self) -> None:
        """Return once the stream has ended."""
        async with asyncio.timeout(20):
            async for _ in self._lines:
                pass


@asynccontextmanager
async def opened(
    gateway: Gateway, path: str, session: dict[str, str], has: str = ""
) -> AsyncGenerator[Reading]:
    """A page that was fetched, and its stream as the page names it."""
    serving = await serve(gateway.app, "127.0.0.1", 0)
    try:
        async with httpx2.AsyncClient(
            base_url=serving.url, trust_env=False, timeout=30, headers=session
        ) as client:
            page = await client.get(path)
            assert page.status_code == 200, page.text
            (stream,) = re.findall('data-live="([^"]*)"', page.text)
            came_with = {"Last-Event-ID": has} if has else {}
            stream = stream.replace("&amp;", "&")
            async with client.stream("GET", stream, headers=came_with) as told:
                assert told.headers["content-type"].startswith("text/event-stream")
                yield Reading(client, told.aiter_lines())
    finally:
        await serving.stop()


async def looked_twice(gateway: Gateway) -> None:
    """The stream has looked since, at least once from beginning to end."""
    seen = gateway.supervisor.asked

    async def looked() -> bool:
        return gateway.supervisor.asked >= seen + 5

    await until(looked)


async def test_an_open_page_is_sent_again_only_once_it_says_something_else(gateway: Gateway):
    session = await new_session(gateway)
    async with opened(gateway, "/fleet?list=missions&user=u1", session) as reading:
        await looked_twice(gateway)
        gateway.supervisor.more["stirs"] = 1
        await looked_twice(gateway)
        await gateway.add_mission("u1", "m1")
        gateway.supervisor.more["stirs"] = 2
        assert "m:u1/m1" in await reading.next(), "what was as before was not sent"
        assert reading.last


async def test_what_time_alone_changes_is_read_again_after_a_while(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "AGAIN_S", 0.1)
    async with opened(gateway, "/", await new_session(gateway)) as reading:
        await looked_twice(gateway)
        await gateway.add_mission("u1", "m1", problems=["its cadence is none"])
        assert "t-damaged-m1" in await reading.next()


async def test_what_is_never_the_same_twice_sends_no_page(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """Idle times, signs of life and free room: a page is sent where what they mean changes."""
    monkeypatch.setattr(live, "AGAIN_S", 0.05)
    one = {"user": "u1", "agent": "a1", "pid": 7, "idle_s": 1.0}
    gateway.supervisor.more["awake"] = [one]
    async with opened(gateway, "/system", await new_session(gateway)) as reading:
        await looked_twice(gateway)
        gateway.supervisor.more["awake"] = [one | {"idle_s": 9.0}]
        await gateway.sql("UPDATE mana_ai.shards SET heartbeat_at = heartbeat_at - interval '9 s'")
        await looked_twice(gateway)
        gateway.supervisor.more["awake"] = [one | {"idle_s": 20.0, "pid": 8}]
        sent = await reading.next()
        assert ">8<" in sent.partition('id="awake"')[2], "what was as before was not sent"


async def test_a_browser_that_comes_back_is_sent_what_it_missed_and_nothing_twice(
    gateway: Gateway,
):
    session, page = await new_session(gateway), "/fleet?list=missions"
    async with opened(gateway, page, session) as reading:
        await gateway.add_mission("u1", "m1")
        gateway.supervisor.more["stirs"] = 1
        await reading.next()
        has = reading.last
    await gateway.add_mission("u1", "m2")
    async with opened(gateway, page, session, has) as reading:
        assert "m:u1/m2" in await reading.next(), "its address says what was here before"
        has = reading.last
    async with opened(gateway, page, session, has) as reading:
        await looked_twice(gateway)
        await gateway.add_mission("u1", "m3")
        gateway.supervisor.more["stirs"] = 2
        assert "m:u1/m3" in await reading.next()


async def test_an_open_page_hears_nothing_more_once_its_session_has_ended(gateway: Gateway):
    async with opened(gateway, "/", await new_session(gateway)) as reading:
        await looked_twice(gateway)
        await gateway.client.delete("/internal/sessions")
        await reading.over()
        assert (await reading.client.get("/live/-/")).status_code == 401


async def test_only_pages_that_are_kept_up_to_date_have_a_stream(gateway: Gateway):
    session = await new_session(gateway)
    for path in ("/live/-/limits", "/live/-/nothing", "/live/-"):
        assert (await gateway.stranger.get(path, headers=session)).status_code == 404, path
