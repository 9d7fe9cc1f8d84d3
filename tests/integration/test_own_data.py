"""A person's records as the log says now: values, authors, nothing sealed, nobody else's."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from state.store.own.records import OwnRecords
from tests.gateway_parts import fleet_of
from tests.integration.support import Client, Json
from tests.owners import House
from tests.postgres import LOG_OWNER, Database

pytestmark = pytest.mark.one_postgres

DATA = "/api/v1/me/data"
AGENT: Json = {"kind": "ai", "principalId": "a1", "displayName": "Planer", "missionId": "m1",
               "iterationId": "i1", "rationale": "weil"}  # fmt: skip
T1, T2, T3 = (f"2026-04-2{day}T10:00:00.000Z" for day in (1, 2, 3))


@pytest.fixture
async def client(database: Database) -> AsyncGenerator[Client]:
    connection = await database.connect(LOG_OWNER)
    yield Client(connection, "u1")
    await connection.close()


async def read(house: House, path: str = "", user: str = "u1", **query: Any) -> Json:
    answered = await house.desk(user).ask("GET", f"{DATA}{path}", params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def task(client: Client, id_: str, **fields: Any) -> None:
    data = {"id": id_, "title": "Einkaufen", "createdAt": T1, **fields}
    await client.push("insert", id_, data, app="todo", table="tasks")


async def test_each_field_says_who_wrote_it_and_when(house: House, client: Client):
    await task(client, "t1", done=False)
    await client.push(
        "update", "t1", {"title": "Brot"}, app="todo", table="tasks", meta={"title": T3}
    )
    await client.push("update", "t1", {"done": True}, app="todo", table="tasks", meta={"done": T2})
    await house.sql(
        "UPDATE public.sync_changes SET actor = $1::jsonb, origin = 'agent'"
        " WHERE record_id = 't1' AND data ? 'done' AND op = 'update'",
        json.dumps(AGENT),
    )
    told = await read(house, "/todo/tasks/t1")
    assert told["fields"]["title"]["value"] == "Brot"
    assert told["fields"]["title"]["actor"]["displayName"] == "Unbekannt", "an old row names nobody"
    assert told["fields"]["done"] == {"value": True, "at": T2, "actor": AGENT, "origin": "agent"}
    assert told["updatedAt"] == T3
    assert "updatedAt" not in told["fields"]
    assert [row["op"] for row in told["rows"]] == ["insert", "update", "update"]


async def test_an_older_write_that_lost_is_nobodys(house: House, client: Client):
    await task(client, "t1")
    await client.push(
        "update", "t1", {"title": "neu"}, app="todo", table="tasks", meta={"title": T3}
    )
    await client.push(
        "update", "t1", {"title": "alt"}, app="todo", table="tasks", meta={"title": T2}
    )
    told = await read(house, "/todo/tasks/t1")
    assert (told["fields"]["title"]["value"], told["fields"]["title"]["at"]) == ("neu", T3)


async def test_a_stored_updated_at_is_never_told(house: House, client: Client):
    await task(client, "t1", updatedAt=T2)
    late = {"title": "x", "updatedAt": "2099-01-01T00:00:00.000Z"}
    meta = {"title": T3, "updatedAt": "2099-01-01T00:00:00.000Z"}
    await client.push("update", "t1", late, app="todo", table="tasks", meta=meta)
    (told,) = (await read(house, "/todo"))["items"]
    assert "updatedAt" not in told["fields"]
    assert told["updatedAt"] == T3


async def test_ciphertext_is_told_as_sealed_however_deep(house: House, client: Client):
    await task(client, "t1", title="enc:1:abc", parts=[{"a": "enc:1:def"}, "plain"])
    (told,) = (await read(house, "/todo"))["items"]
    assert told["fields"]["title"] == "(sealed)"
    assert told["fields"]["parts"] == [{"a": "(sealed)"}, "plain"]


async def test_deleted_and_unfinished_records_are_not_told(house: House, client: Client):
    for id_ in ("t1", "t2", "t3"):
        await task(client, id_)
    await client.push("delete", "t1", {"deletedAt": T2}, app="todo", table="tasks")
    await client.push("delete", "t2", {}, app="todo", table="tasks")
    await client.push("update", "t4", {"title": "x"}, app="todo", table="tasks", meta={"title": T2})
    page = await read(house, "/todo")
    assert [each["id"] for each in page["items"]] == ["t3"]
    answered = await house.desk().ask("GET", f"{DATA}/todo/tasks/t1")
    assert answered.status_code == 404


async def test_pages_tell_every_record_once(house: House, client: Client):
    for number in range(7):
        await task(client, f"t{number}")
    await client.push("insert", "g1", {"id": "g1"}, app="todo", table="lists")
    found: list[tuple[str, str]] = []
    more: str | None = None
    while True:
        page = await read(house, "/todo", limit=3, **({} if more is None else {"after": more}))
        found += [(each["table"], each["id"]) for each in page["items"]]
        more = page["after"]
        if more is None:
            break
    assert found == [("lists", "g1"), *(("tasks", f"t{number}") for number in range(7))]
    only = await read(house, "/todo", table="lists")
    assert [each["id"] for each in only["items"]] == ["g1"]


async def test_a_record_too_large_for_a_page_is_named_beside_its_neighbours(
    house: House, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("state.store.own.records.PAGE_BYTES", 2_000)
    await task(client, "t1")
    await task(client, "t2", text="x" * 5_000)
    await task(client, "t3")
    page = await read(house, "/todo")
    assert [(each["id"], each["tooLarge"]) for each in page["items"]] == [
        ("t1", False),
        ("t2", True),
        ("t3", False),
    ]


async def test_nobody_sees_what_is_somebody_elses(house: House, client: Client):
    await task(client, "t1")
    assert await read(house, user="u2") == {"items": []}
    assert (await read(house, "/todo", "u2"))["items"] == []
    answered = await house.desk("u2").ask("GET", f"{DATA}/todo/tasks/t1")
    assert answered.status_code == 404


async def test_rows_of_a_space_are_seen_by_those_in_it_only(client: Client, database: Database):
    data = {"id": "t1", "title": "Unser"}
    await client.push("insert", "t1", data, app="todo", table="tasks", space="s1")
    fleet = fleet_of(database)
    records = OwnRecords(fleet.database)
    assert await records.record("u2", "todo", "tasks", "t1") is None
    assert await records.record("u2", "todo", "tasks", "t1", ("s2",)) is None
    found = await records.record("u2", "todo", "tasks", "t1", ("s2", "s1"))
    await fleet.close()
    assert found is not None


async def test_what_there_is_is_listed_by_module(house: House, client: Client):
    await task(client, "t1")
    await client.push("insert", "g1", {"id": "g1"}, app="companion", table="companionGoals")
    listed = await read(house)
    assert [each["module"] for each in listed["items"]] == ["companion", "todo"]
    (goal,) = (await read(house, "/goals"))["items"]
    assert goal["id"] == "g1", "a module by the name that inputs use"


async def test_a_row_that_no_reader_takes_hides_nothing_beside_it(house: House, client: Client):
    await task(client, "t1")
    await client.push("update", "t1", '"text"', app="todo", table="tasks")
    await client.push("insert", "t2", '{"id": "t2", "n": 1e400}', app="todo", table="tasks")
    await task(client, "t3")
    page = await read(house, "/todo")
    assert {"t1", "t3"} <= {each["id"] for each in page["items"]}
