"""Devices hear of what is new, whoever wrote it, and miss nothing while they were away."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest

from supervisor.gateway.sync.hub import Listener
from tests.integration.support import Json, until
from tests.owners import House
from tests.sync_parts import SyncDevice, insert, membership, update, writing

pytestmark = pytest.mark.one_postgres
SOON_S = 20.0


@pytest.fixture
async def hub(house: House) -> AsyncGenerator[None]:
    """What the gateway's process runs beside its servers."""
    running = asyncio.create_task(house.owners.sync_hub.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@asynccontextmanager
async def stream(
    device: SyncDevice, last: str | None = None, **query: Any
) -> AsyncGenerator[AsyncGenerator[tuple[str, str, Json]]]:
    """Events as (name, id, data)."""
    headers = device.headers | ({} if last is None else {"Last-Event-ID": last})
    async with (
        asyncio.timeout(SOON_S),
        device.house.client.stream(
            "GET", "/sync/todo/stream", params=query, headers=headers, timeout=SOON_S
        ) as answered,
    ):
        assert answered.status_code == 200
        assert answered.headers["content-type"].startswith("text/event-stream")
        yield events(answered)


async def events(answered: httpx2.Response) -> AsyncGenerator[tuple[str, str, Json]]:
    found: dict[str, str] = {}
    async for line in answered.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            found[name] = value
        elif "event" in found:
            yield found["event"], found.get("id", ""), json.loads(found["data"])
            found = {}


async def test_a_stream_begins_with_what_there_is_and_goes_on(house: House, hub: None):
    anna = SyncDevice(house)
    await anna.push(insert("t1"), insert("n1") | {"table": "notes"})
    async with stream(SyncDevice(house, client="c-2")) as told:
        first = [await anext(told), await anext(told)]
        assert sorted(data["table"] for _, _, data in first) == ["notes", "tasks"]
        assert [bool(id_) for _, id_, _ in first] == [False, True], "an id ends the page"
        await anna.push(update("t1", title="x"))
        name, id_, data = await anext(told)
        assert name == "changes"
        assert id_ == data["syncedUntil"]
        assert data["changes"][0]["fields"]["title"]["value"] == "x"
        async with writing(house, "psql"):
            pass
        _, _, data = await anext(told)
        assert data["changes"][0]["id"] == "psql"


async def test_a_stream_goes_on_where_it_was_broken_off(
    house: House, hub: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.sync.stream.PULL_ROWS", 2)
    anna = SyncDevice(house)
    await anna.push(*[insert(f"t{number}") for number in range(5)])
    other = SyncDevice(house, client="c-2")
    async with stream(other) as told:
        _, last, data = await anext(told)
        assert data["hasMore"]
        assert [one["id"] for one in data["changes"]] == ["t0", "t1"]
    async with stream(other, last) as told:
        rest = [await anext(told), await anext(told)]
        assert [one["id"] for _, _, data in rest for one in data["changes"]] == ["t2", "t3", "t4"]


async def test_a_stream_of_some_tables_has_no_others(house: House, hub: None):
    anna = SyncDevice(house)
    await anna.push(insert("n1") | {"table": "notes"}, insert("t1"))
    async with stream(SyncDevice(house, client="c-2"), collections=" tasks ,,") as told:
        _, _, data = await anext(told)
        assert (data["table"], [one["id"] for one in data["changes"]]) == ("tasks", ["t1"])


async def test_a_device_hears_nothing_of_its_own(house: House, hub: None):
    anna = SyncDevice(house)
    async with stream(anna) as told:
        await anna.push(insert("mine"))
        await SyncDevice(house, client="c-2").push(insert("theirs"))
        _, _, data = await anext(told)
        assert [one["id"] for one in data["changes"]] == ["theirs"]


async def test_an_open_stream_follows_who_joins_and_leaves(
    house: House, hub: None, monkeypatch: pytest.MonkeyPatch
):
    spaces = membership(house, monkeypatch, "bert")
    anna = SyncDevice(house, "anna", spaces=("s-1",))
    own = SyncDevice(house, "bert", client="c-2")
    shared = {"spaceId": "s-1"}
    await anna.push(insert("t1") | shared)
    await own.push(insert("own1"))
    async with stream(SyncDevice(house, "bert")) as told:
        assert [one["id"] for one in (await anext(told))[2]["changes"]] == ["own1"]
        spaces.append("s-1")
        await own.push(insert("own2"))
        heard: set[str] = set()
        while not heard >= {"t1", "own2"}:
            heard |= {one["id"] for one in (await anext(told))[2]["changes"]}
        spaces.clear()
        await anna.push(insert("t2") | shared)
        await own.push(insert("own3"))
        assert [one["id"] for one in (await anext(told))[2]["changes"]] == ["own3"]


async def heard(listener: Listener) -> list[tuple[str, tuple[str, ...]]]:
    found = await listener.notices(SOON_S)
    return [(one.app, one.tables) for one in found]


async def test_members_of_the_space_and_other_devices_are_told_and_nobody_else(
    house: House, hub: None
):
    told = house.owners.sync_hub
    member = Listener("bert", ("s-1",), "c-b", None)
    second = Listener("anna", ("s-1",), "c-2", None)
    pusher = Listener("anna", ("s-1",), "c-1", None)
    stranger = Listener("carl", (), "c-c", None)
    elsewhere = Listener("anna", ("s-1",), "c-3", "notes")
    listeners = (member, second, pusher, stranger, elsewhere)
    with (
        told.listening(member),
        told.listening(second),
        told.listening(pusher),
        told.listening(stranger),
        told.listening(elsewhere),
    ):
        await told.look()
        anna = SyncDevice(house, "anna", "c-1", spaces=("s-1",))
        await anna.push(insert("t1") | {"spaceId": "s-1"})
        assert await heard(member) == [("todo", ("tasks",))]
        assert await heard(second) == [("todo", ("tasks",))]
        async with writing(house, "m1", user="anna", app_id="ai", table_name="aiMissions"):
            pass
        assert await heard(second) == [("ai", ("aiMissions",))]
        assert await heard(pusher) == [("ai", ("aiMissions",))], "its own push is no news"
        assert [await one.notices(0) for one in listeners] == [[], [], [], [], []]


async def test_what_nobody_reads_is_not_kept_for_ever(house: House):
    async with writing(house, "never", user="nobody"):
        pass
    await SyncDevice(house).push(insert("t1"))
    async with writing(house, "later"):
        pass
    assert await house.owners.sync.settle(3600) > 0
    assert len(await house.sql("SELECT FROM mana_ai.sync_pending")) == 2
    assert await house.owners.sync.settle(0) == 0
    assert await house.sql("SELECT FROM mana_ai.sync_pending") == []
    found, _ = await SyncDevice(house, client="c-2").pull()
    assert {one["id"] for one in found} == {"t1", "later"}
    found, _ = await SyncDevice(house, "nobody").pull()
    assert [one["id"] for one in found] == ["never"]


async def test_health_and_metrics_say_who_listens(house: House, hub: None):
    counted = house.owners.sync_hub.metrics

    async def shows_one() -> bool:
        return counted.snapshot()["gauges"].get("sync_connections") == {'["people"]': 1}

    with house.owners.sync_hub.listening(Listener("anna", (), "c-1", None)):
        answered = (await house.client.get("/sync/health")).json()
        assert (answered["status"], answered["service"]) == ("ok", "mana-sync")
        assert (answered["connections"], answered["users"]) == (1, 1)
        await SyncDevice(house).push(insert("t1"), insert("t2"))
        await until(shows_one, SOON_S)
    assert counted.snapshot()["counters"]["sync_changes_pushed_total"] == {"[]": 2}
