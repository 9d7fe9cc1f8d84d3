"""What a push does, whom it is refused, and what its device is told."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.support import Json
from tests.owners import House
from tests.sync_parts import AT, EPOCH, SyncDevice, insert, update, writing

pytestmark = pytest.mark.one_postgres
LOG = (
    "SELECT id::text, record_id, op, data, field_meta, client_id, created_at, actor, origin,"
    " space_id, user_id FROM public.sync_changes ORDER BY created_at, id"
)


@pytest.fixture
def device(house: House) -> SyncDevice:
    return SyncDevice(house)


@pytest.fixture
def other(house: House) -> SyncDevice:
    return SyncDevice(house, client="c-2")


async def rows_of(house: House) -> list[Json]:
    return [dict(row.items()) for row in await house.sql(LOG)]


async def test_a_push_is_one_transaction_in_order(house: House, device: SyncDevice):
    told = await device.push(*[insert(f"t{number}") for number in range(5)])
    rows = await rows_of(house)
    assert [row["record_id"] for row in rows] == [f"t{number}" for number in range(5)]
    assert len({row["created_at"] for row in rows}) == 5
    assert [one["status"] for one in told["results"]] == ["applied"] * 5


async def test_inserts_are_stamped_with_the_time_that_they_say(house: House, device: SyncDevice):
    undated = insert("t2", title="x")
    del undated["data"]["createdAt"]
    dated = insert("t3", title="x") | {"at": AT.format(7)}
    own = insert("t4", done=True) | {"fields": {"title": {"value": "y", "at": AT.format(8)}}}
    await device.push(insert("t1", title="x"), undated, dated, own)
    meta = {row["record_id"]: json.loads(row["field_meta"]) for row in await rows_of(house)}
    assert meta == {
        "t1": {"createdAt": AT.format(0), "title": AT.format(0)},
        "t2": {},
        "t3": {"createdAt": AT.format(7), "title": AT.format(7)},
        "t4": {"createdAt": AT.format(0), "done": AT.format(0), "title": AT.format(8)},
    }
    found, _ = await SyncDevice(house, client="c-2").pull()
    assert found[0]["data"] == insert("t1", title="x")["data"]
    assert found[0]["fields"]["title"] == {"value": "x", "at": AT.format(0)}
    assert found[3]["data"]["title"] == "y"


async def test_a_change_is_written_once_however_often_it_comes(house: House, device: SyncDevice):
    change = insert("t1") | {"changeId": str(uuid4())}
    first = await device.push(change)
    again = await device.push(change)
    assert [one["status"] for one in first["results"] + again["results"]] == [
        "applied",
        "duplicate",
    ]
    assert first["results"][0]["createdAt"] == again["results"][0]["createdAt"]
    assert [row["id"] for row in await rows_of(house)] == [change["changeId"]]


async def test_a_change_id_of_something_else_is_refused_whole(house: House, device: SyncDevice):
    stranger = SyncDevice(house, user="u2")
    taken = str(uuid4())
    await device.push(insert("t1") | {"changeId": taken})
    for who, change in ((stranger, insert("t1")), (device, insert("t1", title="other"))):
        refused = await who.post(insert("t0"), change | {"changeId": taken})
        assert (refused.status_code, refused.text) == (409, "change id in use in change 1")
    assert len(await rows_of(house)) == 1, "nothing else of those pushes was written"


async def test_a_lost_field_is_said_with_the_stamp_in_force(device: SyncDevice, other: SyncDevice):
    await device.push(insert("t1", title="a", done=False))
    await device.push(update("t1", AT.format(5), title="new"))
    told = await other.push(
        {
            "table": "tasks",
            "id": "t1",
            "op": "update",
            "fields": {
                "title": {"value": "old", "at": AT.format(3)},
                "done": {"value": True, "at": AT.format(3)},
            },
        },
        update("t1", AT.format(2), title="older"),
    )
    lost = {"title": {"reason": "older", "at": AT.format(5)}}
    assert [(one["status"], one["fields"]) for one in told["results"]] == [
        ("applied", lost),
        ("lost", lost),
    ]
    assert told["conflicts"] == [
        {
            "table": "tasks",
            "id": "t1",
            "field": "title",
            "reason": "older",
            "at": AT.format(second),
            "serverAt": AT.format(5),
        }
        for second in (3, 2)
    ]


async def test_what_a_device_replaced_itself_is_no_conflict(device: SyncDevice):
    told = await device.push(insert("t1", title="a"), update("t1", AT.format(5), title="b"))
    assert told["conflicts"] == []
    again = await device.push(update("t1", AT.format(3), title="c"))
    assert again["conflicts"] == []


async def test_of_a_record_with_a_long_history_it_is_said_that_nothing_was_compared(
    house: House, device: SyncDevice, other: SyncDevice
):
    await device.push(insert("t1", title="a"), insert("t2", title="a"))
    await house.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " field_meta, client_id) SELECT 'todo', 'tasks', 't1', 'u1', 'update',"
        " '{\"title\": \"b\"}', jsonb_build_object('title', $1::text), 'c-1'"
        " FROM generate_series(1, 2000)",
        AT.format(5),
    )
    told = await other.push(
        update("t1", AT.format(2), title="older"), update("t2", AT.format(2), title="z")
    )
    assert [one.get("isCompared", True) for one in told["results"]] == [False, True]
    assert told["results"][0]["status"] == "applied"
    assert told["conflicts"] == []


async def test_an_older_deletion_is_lost(device: SyncDevice, other: SyncDevice):
    gone = {"table": "tasks", "id": "t1", "op": "delete"}
    await device.push(insert("t1"), gone | {"deletedAt": AT.format(6)})
    told = await other.push(gone | {"deletedAt": AT.format(4)})
    assert told["results"][0]["status"] == "lost"
    assert told["conflicts"][0]["serverAt"] == AT.format(6)


async def test_a_stamp_from_the_future_is_taken_back(house: House, device: SyncDevice):
    far = "2999-01-01T00:00:00.000Z"
    told = await device.push(
        insert("t1", createdAt=far, title="x"),
        update("t1", far, title="y"),
        {"table": "tasks", "id": "t2", "op": "delete", "deletedAt": far},
    )
    now = told["serverTime"]
    for result, field in zip(told["results"], ("title", "title", "deletedAt"), strict=True):
        assert result["fields"][field]["reason"] == "future-stamp"
        assert result["fields"][field]["at"] <= now
    rows = await rows_of(house)
    assert json.loads(rows[0]["data"])["createdAt"] == far, "what a person wrote stays"
    assert far not in json.dumps([json.loads(row["field_meta"]) for row in rows])
    assert json.loads(rows[2]["data"])["deletedAt"] <= now
    await device.push(update("t1", now, title="z"))
    found, _ = await SyncDevice(house, client="c-2").pull()
    assert found[-1]["fields"]["title"]["value"] == "z"


async def test_an_update_with_data_only_reaches_others(device: SyncDevice, other: SyncDevice):
    await device.push({"table": "tasks", "id": "t1", "op": "update", "data": {"title": "x"}})
    ((change,), _) = await other.pull()
    assert change["fields"]["title"]["value"] == "x"
    assert change["fields"]["title"]["at"]


async def test_a_time_under_its_old_name_counts(device: SyncDevice, other: SyncDevice):
    field = {"value": "x", "updatedAt": AT.format(4)}
    await device.push({"table": "tasks", "id": "t1", "op": "update", "fields": {"title": field}})
    ((change,), _) = await other.pull()
    assert change["fields"]["title"] == {"value": "x", "at": AT.format(4)}


def of_data(value: str) -> str:
    """A push of one insert whose field `a` is this JSON."""
    return '{"changes": [{"table": "t", "id": "1", "op": "insert", "data": {"a": ' + value + "}}]}"


def of_field(field: str) -> str:
    """A push of one update of a field `a`."""
    return (
        '{"changes": [{"table": "t", "id": "1", "op": "update", "fields": {"a": ' + field + "}}]}"
    )


def of_insert(more: str) -> str:
    """A push of one insert with these members more."""
    return '{"changes": [{"table": "t", "id": "1", "op": "insert", ' + more + "}]}"


MANY = '{"changes": [' + ",".join(['{"table":"t","id":"1","op":"insert"}'] * 100_000) + "]}"
BAD: list[tuple[str, str]] = [
    ("", "invalid JSON"),
    ("[]", "invalid JSON"),
    ("[" * 100_000, "invalid JSON"),
    ('{"changes": {}}', "invalid JSON"),
    ('{"changes": [null]}', "invalid JSON"),
    (MANY, "invalid JSON"),
    ('{"schemaVersion": 2}', "unsupported schemaVersion 2 (max 1)"),
    (of_insert('"op": "upsert"'), 'invalid op "upsert" in change 0'),
    (of_insert('"table": ""'), "missing table or id in change 0"),
    (of_insert('"id": 1'), "invalid JSON"),
    (of_insert('"id": "a\\u0000"'), "id cannot be kept in change 0"),
    (of_insert('"data": "x"'), "invalid JSON"),
    (of_insert('"actor": "x"'), "invalid JSON"),
    (of_insert('"changeId": "x"'), "invalid JSON"),
    (of_insert('"schemaVersion": 7'), "unsupported schemaVersion 7 (max 1) in change 0"),
    (of_data('"\\u0000"'), "a NUL character in change 0"),
    (of_data('"\\ud800"'), ""),
    (of_data("1e999999"), ""),
    (of_data("9" * 400), "data: number out of range in change 0"),
    (of_data("[" * 200 + "]" * 200), "data: nested too deeply in change 0"),
    (of_field("null"), "invalid JSON"),
    (of_field('{"at": "gestern"}'), "fields.a.at is no instant in change 0"),
    (of_field('{"at": 5}'), "invalid JSON"),
]


async def test_what_cannot_be_kept_is_one_clear_refusal(house: House, device: SyncDevice):
    for body, words in BAD:
        answered = await house.client.post("/sync/todo", content=body, headers=device.headers)
        assert answered.status_code == 400, body[:200]
        assert words in answered.text, answered.text
        assert len(answered.text) < 300
    assert await rows_of(house) == []


async def test_whoever_asks_for_problem_details_gets_them(house: House, device: SyncDevice):
    asked = device.headers | {"Accept": "application/problem+json"}
    body = {"changes": [insert("t1"), insert("t2") | {"op": "x"}]}
    answered = await house.client.post("/sync/todo", json=body, headers=asked)
    assert answered.status_code == 400
    assert answered.json()["errors"][0]["field"] == "changes[1].op"


async def test_ten_mebibytes_are_taken_and_a_byte_more_is_not(house: House, device: SyncDevice):
    def body(size: int) -> str:
        text = json.dumps({"changes": []})
        return text + " " * (size - len(text))

    limit = 10 * 1024 * 1024
    taken = await house.client.post("/sync/todo", content=body(limit), headers=device.headers)
    assert taken.status_code == 200
    over = await house.client.post("/sync/todo", content=body(limit + 1), headers=device.headers)
    assert over.status_code == 413


async def test_a_refused_change_refuses_the_whole_push(house: House, device: SyncDevice):
    refused = await device.post(insert("t1"), insert("t2") | {"op": "upsert"})
    assert refused.status_code == 400
    assert await rows_of(house) == []


async def test_nobody_gets_in_without_a_token(house: House):
    for verb, path in (("POST", "/sync/todo"), ("GET", "/sync/todo/pull")):
        answered = await house.client.request(verb, path, json={})
        assert answered.status_code == 401
        assert answered.text.startswith("unauthorized: ")


# --- other people ---------------------------------------------------------------------------------


async def test_nobody_reads_or_writes_anothers_rows(house: House, device: SyncDevice):
    await device.push(insert("t1", title="geheim") | {"spaceId": "_personal:u1"})
    thief = SyncDevice(house, user="u2", client="c-9")
    forged: list[Any] = [
        insert("t1", title="mein", userId="u1", spaceId="x") | {"spaceId": "_personal:u2"},
        insert("t1") | {"userId": "u1", "user_id": "u1", "author": "u1"},
    ]
    assert (await thief.push(*forged))["serverChanges"] == []
    for space in ("_personal:u1", "s-1", "_personal:", "u1", ",", "_personal:u1,_personal:u2"):
        for change in (
            insert("t1") | {"spaceId": space},
            insert("t1", spaceId=space),
            update("t1", spaceId=space),
        ):
            refused = await thief.post(change)
            assert refused.status_code == 403, (space, refused.text)
    assert (await thief.pull())[0] == []
    for query in ("user=u1", "spaceId=_personal:u1", "user_id=u1"):
        path = f"/sync/todo/pull?collection=tasks&since={EPOCH}&{query}"
        answered = await house.client.get(path, headers=thief.headers)
        assert answered.status_code == 400
    assert {row["user_id"] for row in await rows_of(house)} == {"u1", "u2"}
    assert (await device.pull())[0] == []


async def test_members_of_a_space_get_each_others_rows(house: House):
    anna = SyncDevice(house, "anna", "c-a", spaces=("s-1", "s-2"))
    bert = SyncDevice(house, "bert", "c-b", spaces=("s-1",))
    await anna.push(insert("t1") | {"spaceId": "s-1"}, insert("t2") | {"spaceId": "s-2"})
    await anna.push(insert("t3"))
    found, until = await bert.pull()
    assert [one["id"] for one in found] == ["t1"]
    async with writing(house, "late", user="anna", space_id="s-1"):
        await anna.push(update("t1", title="x") | {"spaceId": "s-1"})
        found, until = await bert.pull(until)
        assert [one["op"] for one in found] == ["update"]
    found, until = await bert.pull(until)
    assert [one["id"] for one in found] == ["late"]
    left = SyncDevice(house, "bert", "c-b")
    assert (await left.pull())[0] == []


async def test_a_member_cannot_hide_rows_behind_anothers_client_id(house: House):
    anna = SyncDevice(house, "anna", "same", spaces=("s-1",))
    bert = SyncDevice(house, "bert", "same", spaces=("s-1",))
    await anna.push(insert("t1") | {"spaceId": "s-1"})
    assert [one["id"] for one in (await bert.pull())[0]] == ["t1"]


@pytest.mark.parametrize(
    "name",
    ["mana-ai-runner", "mana-api", "mcp-server", "articles-import-worker", "system:bootstrap"],
)
async def test_no_device_goes_by_a_name_of_the_servers_own(house: House, name: str):
    told = "clientId is a name of the server's own"
    by_header, by_body = SyncDevice(house, client=name), SyncDevice(house, client="")
    for device in (by_header, by_body):
        refused = await device.post(insert("t1"), clientId=name)
        assert (refused.status_code, refused.text) == (400, told)
    assert await rows_of(house) == []


async def test_a_person_signs_only_as_themselves(house: House, device: SyncDevice):
    bert = {"kind": "user", "principalId": "bert", "displayName": "Bert"}
    agent = {"kind": "ai", "principalId": "a1", "displayName": "Planer"}
    nobody = {"kind": "user", "principalId": "legacy:user", "displayName": "Unbekannt"}
    odd = [{"kind": "user", "principalId": 7}, {"kind": ["user"]}, {"principalId": "bert"}]
    await device.push(
        *[
            insert(f"t{number}") | {"actor": actor}
            for number, actor in enumerate((bert, agent, nobody, *odd))
        ]
    )
    written = [json.loads(row["actor"]) for row in await rows_of(house)]
    assert written == [bert | {"principalId": "u1"}, agent, nobody, *odd]
