"""What people read of their missions' runs: plans, why and how much, and what happens just now."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.integration.support import DONE, PLAN, Json, World, open_world, text
from tests.owners import House
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

ME = "/api/v1/me"
FIRST = datetime(2026, 1, 1, 7, tzinfo=UTC)


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_world(database, [PLAN, DONE]))
        await opened.driver.start()
        yield opened


async def told(house: House, path: str, user: str = "u1", **more: Any) -> Json:
    """What this person reads there."""
    answered = await house.desk(user).ask("GET", f"{ME}{path}", **more)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def refused(house: House, path: str, user: str = "u1", **more: Any) -> tuple[int, str]:
    """Status and error of what this person may not read."""
    answered = await house.desk(user).ask("GET", f"{ME}{path}", **more)
    return answered.status_code, answered.text


async def planned(world: World) -> None:
    """A mission that was planned once."""
    await (await world.client()).mission(title="Woche")
    await world.driver.fold_all()
    await world.run()
    await world.driver.fold_all()


def iteration(number: int) -> Json:
    """One that a client keeps."""
    at = text(FIRST + timedelta(days=number))
    return {"id": f"i{number:04}", "startedAt": at, "plan": [], "overallStatus": "approved"}


async def test_a_run_says_why_it_woke_what_it_called_and_what_it_cost(world: World, house: House):
    await planned(world)
    (short,) = (await told(house, "/missions/m1/runs"))["items"]
    run = await told(house, f"/runs/{short['runId']}")
    assert {name: run[name] for name in short} == short
    assert (run["wokenBy"], run["state"], run["attempt"]) == ("schedule", "committed", 1)
    assert [call["number"] for call in run["calls"]] == [1, 2]
    assert [call["tools"] for call in run["calls"]] == [["create_task"], []]
    assert all(call["state"] == "ended" and call["model"] for call in run["calls"])
    assert run["tokens"] == sum(call["tokens"] for call in run["calls"]) > 0
    assert [each["decision"] for each in run["decisions"]][-1] == "ran"
    (kept,) = (await told(house, "/missions/m1/iterations"))["items"]
    assert (kept["iteration"]["id"], kept["runId"]) == (run["iterationId"], run["runId"])
    assert kept["iteration"]["plan"][0]["intent"]["toolName"] == "create_task"


async def test_a_plan_is_read_by_who_hears_that_its_run_ended_before_anybody_folds_it(
    world: World, house: House
):
    await (await world.client()).mission(iterations=[iteration(0)])
    await world.driver.fold_all()
    await world.run()
    (run,) = (await told(house, "/missions/m1/runs"))["items"]
    newest, older = (await told(house, "/missions/m1/iterations"))["items"]
    assert (newest["iteration"]["id"], newest["runId"]) == (run["iterationId"], run["runId"])
    assert older["iteration"]["id"] == iteration(0)["id"]
    assert [kept["id"] for kept in (await world.record())["iterations"]] == [iteration(0)["id"]]


async def test_a_name_that_the_model_made_up_is_in_no_receipt(database: Database, house: House):
    invented: Json = {"calls": [{"name": "geheimnis_des_lesers", "args": {}}], "usage": [1, 1]}
    async with open_world(database, [invented, DONE]) as world:
        await world.driver.start()
        await planned(world)
    (run,) = (await told(house, "/missions/m1/runs"))["items"]
    detail = await told(house, f"/runs/{run['runId']}")
    assert [call["tools"] for call in detail["calls"]] == [[], []]
    assert [call["refused"] for call in detail["calls"]] == [["another"], []]


async def test_a_run_says_by_call_what_was_asked_for_and_what_came_back_as_failed(
    database: Database, house: House
):
    task: Json = {"name": "create_task", "args": {"title": "Einkaufen"}}
    bare: Json = {"name": "create_task", "args": {}}
    denied: Json = {"name": "create_note", "args": {}}
    asked: Json = {"calls": [task, bare, denied], "usage": [70, 30]}
    async with open_world(database, [asked, {**DONE, "delay_s": 0.01}]) as world:
        await world.driver.start()
        client = await world.client()
        await client.agent("a1", policy={"tools": {"create_note": "deny"}})
        await client.mission(agentId="a1")
        await world.driver.fold_all()
        await world.driver.tick()
        (run,) = (await told(house, "/missions/m1/runs"))["items"]
        first, last = (await told(house, f"/runs/{run['runId']}"))["calls"]
        assert first["tools"] == ["create_task", "create_task"], "as often as it was called"
        assert first["refused"] == ["create_task", "create_note"]
        assert (first["tokens"], first["completionTokens"]) == (100, 30)
        assert last["refused"] == []
        assert last["tookMs"] > 0
        headers = {"Authorization": f"Bearer {house.auth.token('u1')}"}
        stream = f"{ME}/runs/{run['runId']}/stream"
        async with house.client.stream("GET", stream, headers=headers) as response:
            listener = Listener(response)
            while (closed := await listener.next())["event"] != "run-closed":
                pass
        assert closed["refused"] == {"1": ["create_task", "create_note"]}


async def test_nobody_reads_what_is_somebody_elses(world: World, house: House):
    await planned(world)
    (run,) = (await told(house, "/missions/m1/runs"))["items"]
    for path in (
        "/missions/m1/iterations",
        "/missions/m1/stream",
        f"/runs/{run['runId']}",
        f"/runs/{run['runId']}/stream",
    ):
        status, _ = await refused(house, path, "u2")
        assert status == 404, path
    assert (await told(house, "/missions/m1/runs", "u2"))["items"] == []


@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/runs/none", "no such run", 404),
        ("/missions/m1/runs?limit=0", "limit", 400),
        ("/missions/m1/runs?after=zzz", "after", 400),
        ("/missions/m1/iterations?after=WzFd", "after", 400),
        ("/missions/m1/runs?after=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIl0=", "after", 400),  # no zone
        ("/data/todo?after=WyJcdTAwMDAiLCAiIl0=", "after", 400),  # a NUL
        ("/missions/m1/iterations?page=2", "page", 400),
        ("/missions/%00/iterations", "mission", 400),
    ],
)
async def test_a_wrong_question_names_its_field(house: House, path: str, field: str, status: int):
    got, text_ = await refused(house, path)
    assert (got, field in text_) == (status, True), text_


async def test_iterations_that_the_record_no_longer_keeps_are_read_from_the_log(
    world: World, house: House
):
    client = await world.client()
    await client.mission(iterations=[])
    for last in range(4, 25, 2):  # each write keeps the newest five
        kept = [iteration(number) for number in range(max(0, last - 5), last)]
        await client.edit(iterations=kept, stamp=FIRST + timedelta(days=last))
    await world.driver.fold_all()
    found: list[str] = []
    place: str | None = None
    while True:
        query = {"limit": "3"} | ({} if place is None else {"after": place})
        page = await told(house, "/missions/m1/iterations", params=query)
        found += [each["iteration"]["id"] for each in page["items"]]
        place = page["after"]
        if place is None:
            break
    assert found == [f"i{number:04}" for number in reversed(range(24))]


class Listener:
    """One open stream: its frames as they come."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> Json:
        """The next event that says something, with its name and id."""
        frame: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for line in self._lines:
                if not line and "data" in frame:
                    data = json.loads(frame["data"])
                    return {"event": frame["event"], "id": frame.get("id"), **data}
                name, _, value = line.partition(": ")
                if name in ("event", "id", "data"):
                    frame[name] = value
        raise AssertionError("the stream ended")


async def listened(house: House, path: str, last: str | None = None) -> tuple[int, list[Json]]:
    """Status and events of a stream, up to its end."""
    headers = {} if last is None else {"Last-Event-ID": last}
    answered = await house.desk().ask("GET", f"{ME}{path}", headers=headers)
    events: list[Json] = []
    for frame in answered.text.split("\n\n"):
        lines = (line.partition(": ") for line in frame.splitlines())
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            data = json.loads(fields["data"])
            events.append({"event": fields["event"], "id": fields["id"], **data})
    return answered.status_code, events


async def test_a_stream_tells_a_run_from_its_beginning_and_goes_on_where_it_was_left(
    world: World, house: House
):
    await planned(world)
    (run,) = (await told(house, "/missions/m1/runs"))["items"]
    path = f"/runs/{run['runId']}/stream"
    status, events = await listened(house, path)
    assert status == 200
    assert events[0]["event"] == "run-opened"
    assert events[0]["phase"] == "resolving-inputs"
    assert [each["number"] for each in events if each["event"] == "call-ended"] == [1, 2]
    assert events[-1]["event"] == "run-closed"
    assert events[-1]["iterationId"] == run["iterationId"]
    assert len({each["id"] for each in events}) == len(events)

    status, again = await listened(house, path, events[2]["id"])
    assert status == 200
    assert {each["id"] for each in again} >= {each["id"] for each in events[3:]}
    status, nothing = await listened(house, path, events[-1]["id"])
    assert (status, nothing) == (204, []), "an EventSource would come back for ever"


async def test_a_mission_is_heard_while_it_is_planned(world: World, house: House):
    await (await world.client()).mission()
    await world.driver.fold_all()
    headers = {"Authorization": f"Bearer {house.auth.token('u1')}"}
    stream = house.client.stream("GET", f"{ME}/missions/m1/stream", headers=headers)
    async with stream as response:
        listener = Listener(response)
        running = asyncio.create_task(world.run())
        seen = [await listener.next()]
        while seen[-1]["event"] != "run-closed":
            seen.append(await listener.next())
        await running
    assert "run-opened" in [each["event"] for each in seen]
    assert {each["runId"] for each in seen if each["event"] != "decision"} == {seen[-1]["runId"]}


async def test_what_a_call_decided_is_told_while_the_run_goes_on(world: World, house: House):
    await (await world.client()).mission()
    await world.driver.fold_all()
    world.provider.hold()
    running = asyncio.create_task(world.run())
    headers = {"Authorization": f"Bearer {house.auth.token('u1')}"}
    async with house.client.stream("GET", f"{ME}/missions/m1/stream", headers=headers) as response:
        listener = Listener(response)
        while (await listener.next())["event"] != "call-began":
            pass
        await asyncio.to_thread(world.provider.wait_for_requests, 1)  # told before it is asked
        world.provider.release()  # the answer that waits, and no other
        world.provider.hold()
        while (ended := await listener.next())["event"] != "call-ended":
            pass
        assert not running.done(), "the second call waits for its answer"
        assert (ended["number"], ended["tools"], ended["phase"]) == (
            1,
            ["create_task"],
            "parsing-response",
        )
        assert ended["model"], "which model answered"
        assert ended["tokensSoFar"] == ended["tokens"] > 0
        (run,) = (await told(house, "/missions/m1/runs"))["items"]
        first, *_ = (await told(house, f"/runs/{run['runId']}"))["calls"]
        assert first["tools"] == ["create_task"]
        assert not any("Einkaufen" in str(each) for each in (ended, first)), "names, no arguments"
        world.provider.release()
        await running


async def test_a_stream_begins_at_the_run_that_was_asked_for_and_ends_with_it(
    world: World, house: House
):
    await planned(world)
    (run,) = (await told(house, "/missions/m1/runs"))["items"]
    due = run["openedAt"]
    status, events = await listened(house, f"/missions/m1/stream?since={due}&until=run-closed")
    assert (status, events[-1]["event"]) == (200, "run-closed")
    assert "run-opened" in [each["event"] for each in events]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ("since=yesterday", "since"),
        ("since=2020-01-01T00:00:00Z", "since"),
        ("until=run-opened", "until"),
    ],
)
async def test_a_stream_takes_only_beginnings_and_ends_that_it_has(
    house: House, asked: str, field: str
):
    await house.mission()
    got, text_ = await refused(house, f"/missions/m-1/stream?{asked}")
    assert (got, field in text_) == (400, True), text_


async def test_nobody_opens_more_streams_than_their_share(world: World, house: House):
    await (await world.client()).mission()
    await world.driver.fold_all()
    headers = {"Authorization": f"Bearer {house.auth.token('u1')}"}
    lines: list[AsyncIterator[str]] = []  # a reader that is dropped closes its stream
    async with AsyncExitStack() as stack:
        for _ in range(8):
            stream = house.client.stream("GET", f"{ME}/missions/m1/stream", headers=headers)
            response = await stack.enter_async_context(stream)
            assert response.status_code == 200
            lines.append(response.aiter_lines())
            await anext(lines[-1])
        assert (await refused(house, "/missions/m1/stream"))[0] == 429


async def test_a_stream_takes_no_last_event_that_is_none(world: World, house: House):
    await planned(world)
    status, text_ = await refused(house, "/missions/m1/stream", headers={"Last-Event-ID": "x"})
    assert (status, "Last-Event-ID" in text_) == (400, True)
