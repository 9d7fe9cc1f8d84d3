"""Who did what, by principal: each row that a person may see, whoever wrote it."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from state.store.own import records
from state.store.own.records import DeedFilter, OwnRecords
from tests.gateway_parts import fleet_of
from tests.integration.support import Client, Json
from tests.owners import House
from tests.postgres import LOG_OWNER, Database

pytestmark = pytest.mark.one_postgres

TIMELINE = "/api/v1/me/timeline"
AGENT: Json = {"kind": "ai", "principalId": "a1", "displayName": "Planer", "missionId": "m1",
               "iterationId": "i1", "rationale": "enc:1:geheim"}  # fmt: skip
RUNNER: Json = {"kind": "system", "source": "mission-runner"}
VECTORS = Path(__file__).parents[1] / "vectors" / "actor.json"


@pytest.fixture
async def client(database: Database) -> AsyncGenerator[Client]:
    connection = await database.connect(LOG_OWNER)
    yield Client(connection, "u1")
    await connection.close()


async def timeline(house: House, user: str = "u1", **query: Any) -> Json:
    answered = await house.desk(user).ask("GET", TIMELINE, params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def done(house: House, client: Client, id_: str, actor: Any, **data: Any) -> None:
    """A row of `tasks` that says it was written by this actor."""
    row = await client.push("insert", id_, {"id": id_, **data}, app="todo", table="tasks")
    await house.sql(
        "UPDATE public.sync_changes SET actor = $1::jsonb WHERE id = $2", json.dumps(actor), row
    )


async def test_a_row_is_told_with_who_did_it_and_what_it_touched(house: House, client: Client):
    await done(house, client, "t1", AGENT, title="enc:1:abc", updatedAt="2026-01-01T00:00:00Z")
    (deed,) = (await timeline(house))["items"]
    assert (deed["op"], deed["module"], deed["table"], deed["record"]) == (
        "insert", "todo", "tasks", "t1",
    )  # fmt: skip
    assert deed["fields"] == ["id", "title"], "updatedAt is no field: readers derive it"
    assert deed["actor"] == AGENT | {"rationale": "(sealed)"}
    assert (deed["client"], deed["origin"]) == ("c-1", "user")


async def test_old_and_damaged_actors_are_told_whole(house: House, client: Client):
    given = [
        case
        for case in json.loads(VECTORS.read_text())["cases"]
        if case["input"]["fn"] == "normalize_actor" and case["input"]["args"][0] is not None
    ]
    assert len(given) > 10
    for number, case in enumerate(given):
        await done(house, client, f"t{number}", case["input"]["args"][0])
    await client.push("insert", "none", {}, app="todo", table="tasks")
    told = {each["record"]: each["actor"] for each in (await timeline(house, limit=200))["items"]}
    assert told.pop("none")["principalId"] == "legacy:user"
    for number, case in enumerate(given):
        wanted = {
            name: value
            for name, value in case["expected"]["value"].items()
            if name not in case["expected"].get("unspecified", ())
        }
        assert wanted.items() <= told[f"t{number}"].items(), case["name"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"kind": "ai"}, ["t1"]),
        ({"kind": "system"}, ["t2"]),
        ({"principal": "system:mission-runner"}, ["t2"]),
        ({"principal": "legacy:user"}, ["t3"]),
        ({"kind": "user", "principal": "a1"}, []),
        ({"record": "t2"}, ["t2"]),
        ({"table": "notes"}, ["n1"]),
        ({"module": "todo", "principal": "a1"}, ["t1"]),
    ],
)
async def test_it_is_filtered_by_who_and_by_what(
    house: House, client: Client, query: dict[str, str], found: list[str]
):
    await done(house, client, "t1", AGENT)
    await done(house, client, "t2", RUNNER)
    await done(house, client, "t3", None)
    note = await client.push("insert", "n1", {}, app="notes", table="notes")
    told_by = json.dumps({"kind": "user", "principalId": "u1", "displayName": "Du"})
    await house.sql("UPDATE public.sync_changes SET actor = $1::jsonb WHERE id = $2", told_by, note)
    assert [each["record"] for each in (await timeline(house, **query))["items"]] == found


async def test_pages_tell_every_row_once_also_of_one_moment(
    house: House, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(records, "MOST_ROWS", 4)
    for number in range(9):
        await done(house, client, f"t{number}", AGENT if number in (0, 8) else None)
    await house.sql("UPDATE public.sync_changes SET created_at = '2026-05-01T10:00:00Z'")
    for query, count in (({"limit": "2"}, 9), ({"principal": "a1"}, 2)):
        seen: list[str] = []
        page = await timeline(house, **query)
        while True:
            seen += [each["id"] for each in page["items"]]
            if page["after"] is None:
                break
            page = await timeline(house, **query, after=page["after"])
        assert len(seen) == len(set(seen)) == count


async def test_nobody_is_told_of_others_but_of_those_they_share_a_space_with(
    house: House, client: Client, database: Database
):
    await client.push("insert", "t1", {"id": "t1"}, app="todo", table="tasks")
    await client.push("insert", "t2", {"id": "t2"}, app="todo", table="tasks", space="s1")
    assert (await timeline(house, "u2"))["items"] == []
    fleet = fleet_of(database)
    shared = await OwnRecords(fleet.database).timeline("u2", DeedFilter(), 10, spaces=("s1",))
    await fleet.close()
    assert [deed.record for deed in shared.deeds] == ["t2"]


@pytest.mark.parametrize(
    "query",
    [{"kind": "robot"}, {"after": "x"}, {"after": "WzEsMl0="}, {"limit": "0"}, {"who": "me"}],
)
async def test_a_wrong_question_is_answered_with_the_parameter(house: House, query: dict[str, str]):
    answered = await house.desk().ask("GET", TIMELINE, params=query)
    assert answered.status_code == 400
    assert next(iter(query)) in answered.text


async def test_a_row_whose_data_is_no_object_wrote_no_field(house: House, client: Client):
    await client.push("update", "t1", "[1]", app="todo", table="tasks")
    (deed,) = (await timeline(house))["items"]
    assert deed["fields"] == []
