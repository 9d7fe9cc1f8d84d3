"""What an owner changes enters the log once, wins everywhere, and never past the sync rules."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from state.log.own_changes import ChangeRefused, RecordAt, Writer, owner_writes
from state.log.principals import agent_actor
from state.store.connect import Access, Refused
from state.store.connect import Database as Connections
from state.store.gateway.own_log import (
    KeptAnswer,
    KeyReused,
    NoSuchRecord,
    OwnLog,
    OwnRecord,
    VersionConflict,
)
from tests.integration.steps import driver_for, session, snapshot_of
from tests.integration.support import Client, text
from tests.postgres import LOG_OWNER, SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

TASK = RecordAt("todo", "tasks", "t-1")
MISSION = RecordAt("ai", "aiMissions", "m-1")
ME = owner_writes("u1")
AGENT = Writer(
    agent_actor("a1", "Mana", mission_id="m1", iteration_id="i1", rationale="Woche"), "agent"
)
ROWS = """
SELECT op, data, field_meta, client_id, actor, origin, space_id, schema_version, user_id
  FROM sync_changes WHERE record_id = $1 ORDER BY created_at, id
"""
SOMEBODY_WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
IN_2040 = datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
async def log(database: Database) -> AsyncGenerator[OwnLog]:
    role = "mana_gateway"
    access = Access(database.dsn(role), role, str(database.password_file(role)))
    opened = OwnLog(Connections(access, max_connections=4))
    yield opened
    await opened.close()


async def rows_of(database: Database, record: str) -> list[dict[str, Any]]:
    """What the log has of a record, past row security, JSON decoded."""
    async with session(database, SUPERUSER) as admin:
        rows = await admin.fetch(ROWS, record)
    return [
        dict(row)
        | {name: json.loads(row[name] or "null") for name in ("data", "field_meta", "actor")}
        for row in rows
    ]


async def made(log: OwnLog, at: RecordAt = TASK, user: str = "u1", **fields: Any) -> OwnRecord:
    """A new record."""
    async with log.acting(user) as own:
        return await own.insert(at, {"title": "Milch", **fields}, owner_writes(user))


async def changed(log: OwnLog, at: RecordAt = TASK, /, **fields: Any) -> OwnRecord:
    """The record with these fields anew."""
    async with log.acting("u1") as own:
        return await own.update(await own.record(at), fields, ME)


async def seen(log: OwnLog, at: RecordAt = TASK, user: str = "u1", *spaces: str) -> OwnRecord:
    """The record as this person may read it."""
    async with log.acting(user, spaces) as own:
        return await own.record(at, "nothing")


async def test_an_insert_is_the_row_a_client_would_push(database: Database, log: OwnLog):
    record = await made(log)
    (row,) = await rows_of(database, "t-1")
    assert row["data"] == {
        "id": "t-1",
        "createdAt": row["data"]["createdAt"],
        "title": "Milch",
        "spaceId": "_personal:u1",
        "authorId": "u1",
        "visibility": "space",
    }
    assert row["data"]["createdAt"].endswith("Z")
    assert (row["op"], row["field_meta"], row["origin"]) == ("insert", {}, "user")
    assert row["actor"] == {"kind": "user", "principalId": "u1", "displayName": "Du"}
    assert (row["space_id"], row["schema_version"]) == ("_personal:u1", 1)
    assert record.fields["title"] == "Milch"
    assert record.version == (await seen(log)).version


async def test_an_agents_insert_carries_plain_stamps_and_its_name(database: Database, log: OwnLog):
    async with log.acting("u1") as own:
        await own.insert(TASK, {"title": "Milch"}, AGENT)
    (row,) = await rows_of(database, "t-1")
    assert row["field_meta"].keys() == row["data"].keys() - {"id"}
    assert set(map(type, row["field_meta"].values())) == {str}
    assert (row["actor"]["kind"], row["origin"], row["user_id"]) == ("ai", "agent", "u1")


async def test_an_update_names_what_changed_and_beats_a_clock_that_runs_ahead(
    database: Database, log: OwnLog
):
    await made(log)
    async with session(database, LOG_OWNER) as sync:
        device = Client(sync, "u1")
        ahead = {"title": text(IN_2040)}
        await device.push("update", "t-1", {"title": "Eier"}, table="tasks", app="todo", meta=ahead)
    record = await changed(log, title="Brot", note=None)
    *_, row = await rows_of(database, "t-1")
    assert row["data"] == {"title": "Brot", "note": None}
    assert row["field_meta"]["title"] == "2040-01-01T00:00:00.001Z"
    assert row["field_meta"]["note"] < "2039"
    assert record.fields["title"] == (await seen(log)).fields["title"] == "Brot"


async def test_an_update_beats_a_record_that_says_it_is_from_the_future(
    database: Database, log: OwnLog
):
    async with session(database, LOG_OWNER) as sync:
        data = {"id": "t-1", "title": "Milch", "createdAt": text(IN_2040)}
        await Client(sync, "u1").push("insert", "t-1", data, table="tasks", app="todo")
    await changed(log, title="Brot")
    *_, row = await rows_of(database, "t-1")
    assert row["field_meta"] == {"title": "2040-01-01T00:00:00.001Z"}  # clients stamp it 2040


async def test_a_soft_delete_hides_and_a_later_word_brings_back(database: Database, log: OwnLog):
    await made(log)
    async with log.acting("u1") as own:
        gone = await own.delete(await own.record(TASK), ME)
    assert not gone.exists
    *_, row = await rows_of(database, "t-1")
    assert (row["op"], row["field_meta"]) == ("delete", {})
    assert row["data"].keys() == {"deletedAt"}
    with pytest.raises(NoSuchRecord):
        await changed(log, title="Brot")
    back = await changed(log, deletedAt=None)
    assert back.exists
    assert back.fields["title"] == "Milch"
    async with log.acting("u1") as own:
        again = await own.delete(await own.record(TASK), ME)
    assert not again.exists


async def test_two_who_expect_one_version_do_not_both_write(log: OwnLog):
    record = await made(log)

    async def write(title: str) -> str:
        async with log.acting("u1") as own:
            held = await own.record(TASK)
            return (await own.update(held, {"title": title}, ME, record.version)).fields["title"]

    ended = await asyncio.gather(*map(write, "abcd"), return_exceptions=True)
    refused = [end for end in ended if isinstance(end, VersionConflict)]
    (written,) = (end for end in ended if isinstance(end, str))
    assert len(refused) == 3
    now = await seen(log)
    assert now.fields["title"] == written
    assert {each.now for each in refused} == {now.version}


async def test_who_comes_second_waits_and_sees_what_the_first_wrote(
    database: Database, log: OwnLog
):
    record = await made(log)

    async def second() -> None:
        async with log.acting("u1") as own:
            await own.update(await own.record(TASK), {"title": "b"}, ME, record.version)

    async with log.acting("u1") as own:
        held = await own.record(TASK)
        other = asyncio.create_task(second())
        async with session(database, SUPERUSER) as admin:
            while not (other.done() or await admin.fetchval(SOMEBODY_WAITS)):
                await asyncio.wait({other}, timeout=0.01)
        await own.update(held, {"title": "a"}, ME, record.version)
    with pytest.raises(VersionConflict):
        await other
    assert (await seen(log)).fields["title"] == "a"


async def test_members_write_into_a_shared_record_and_strangers_do_not_see_it(
    database: Database, log: OwnLog
):
    async with log.acting("u1", ["s1"]) as own:
        await own.insert(TASK, {"title": "Milch"}, ME, space="s1")
    async with log.acting("u2", ["s1"]) as own:
        held = await own.record(TASK)
        assert held.owner == "u1"
        await own.update(held, {"title": "Brot"}, owner_writes("u2"))
    *_, row = await rows_of(database, "t-1")
    assert (row["user_id"], row["space_id"]) == ("u2", "s1")
    assert (await seen(log, TASK, "u1", "s1")).fields["title"] == "Brot"
    assert not (await seen(log, TASK, "u3", "s2")).exists
    assert not (await seen(log, TASK, "u2")).exists
    async with log.acting("u1") as own:  # who left the space still has what they wrote
        with pytest.raises(ChangeRefused, match="spaceId"):
            await own.update(await own.record(TASK), {"title": "Eier"}, ME)
    async with log.acting("u3", ["s2"]) as own:
        with pytest.raises(ChangeRefused, match="spaceId"):
            await own.insert(TASK, {}, owner_writes("u3"), space="s1")


async def test_a_shared_mission_is_read_from_its_owners_snapshot(database: Database, log: OwnLog):
    async with log.acting("u1", ["s1"]) as own:
        await own.insert(MISSION, {"title": "Woche"}, ME, space="s1")
    async with driver_for(database) as driver:
        await driver.fold_all()
    async with log.acting("u2", ["s1"]) as own:
        await own.update(await own.record(MISSION), {"title": "Monat"}, owner_writes("u2"))
    assert (await seen(log, MISSION, "u1", "s1")).fields["title"] == "Monat"
    async with driver_for(database) as driver:
        await driver.fold_all()
    assert (await snapshot_of(database, "u1", "m-1"))["title"] == "Monat"


async def test_one_persons_record_is_not_anothers(log: OwnLog):
    await made(log, user="u1")
    assert not (await seen(log, TASK, "u2")).exists
    mine = await made(log, user="u2", title="meins")
    assert mine.owner == "u2"
    assert (await seen(log)).fields["title"] == "Milch"


async def test_a_plan_is_written_while_no_run_ends(database: Database, log: OwnLog):
    await made(log, MISSION, iterations=[])
    async with driver_for(database) as driver:
        await driver.fold_all()
    commits = "SELECT FROM mana_ai.mission_snapshots WHERE mission_id = 'm-1' FOR UPDATE NOWAIT"
    async with session(database, SUPERUSER) as run:
        async with log.acting("u1") as own:
            await own.record(MISSION, "plan")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await run.fetch(commits)
        async with log.acting("u1") as own:  # a pause waits for no agent, and holds none up
            await own.record(MISSION)
            await run.fetch(commits)


async def test_a_request_is_carried_out_once_under_its_key(database: Database, log: OwnLog):
    async def post(request: str) -> KeptAnswer:
        async with log.acting("u1") as own:
            if known := await own.answered("k1", request):
                return known
            record = await own.insert(TASK, {"title": request}, ME)
            answer = KeptAnswer(201, record.version)
            await own.keep("k1", answer)
            return answer

    answers = await asyncio.gather(*(post("a") for _ in range(4)))
    assert len(set(answers)) == 1
    assert len(await rows_of(database, "t-1")) == 1
    with pytest.raises(KeyReused):
        await post("b")
    async with log.acting("u2") as own:  # keys are each person's own
        assert await own.answered("k1", "b") is None


async def test_what_fails_keeps_no_answer(database: Database, log: OwnLog):
    async def post(title: str) -> None:
        async with log.acting("u1") as own:
            assert await own.answered("k1", "a") is None
            await own.insert(TASK, {"title": title}, ME)

    with pytest.raises(ChangeRefused):
        await post("\0")
    async with log.acting("u1") as own:
        assert await own.answered("k1", "a") is None
    assert await rows_of(database, "t-1") == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": "a\0b"}, "title"),
        ({"titl\0e": "a"}, "title"),
        ({"n": {"deep": ["\0"]}}, "n"),
        ({"title": "\ud800"}, "data"),
        ({"title": "x" * 4_200_000}, "data"),
        ({"n": 10**400}, "data"),
        ({"updatedAt": "2026-01-01T00:00:00.000Z"}, "updatedAt"),
        ({"spaceId": "s2"}, "spaceId"),
        ({"__fieldMeta": {}}, "__fieldMeta"),
        ({"id": "t-2"}, "id"),
    ],
)
async def test_what_no_reader_could_keep_is_refused_by_field(
    database: Database, log: OwnLog, fields: dict[str, Any], named: str
):
    await made(log)
    with pytest.raises(ChangeRefused) as refused:
        await changed(log, **fields)
    assert refused.value.field == named
    assert len(await rows_of(database, "t-1")) == 1


async def test_a_backslash_is_not_a_nul(log: OwnLog):
    title = "\\u0000 und \\\\u0000"
    await made(log, title=title)
    assert (await seen(log)).fields["title"] == title


@pytest.mark.parametrize(
    "forged",
    [
        {"actor": {"kind": "user", "principalId": "u2"}},
        {"actor": {"kind": "system", "principalId": "system:rule"}},
        {"origin": "system"},
        {"meta": {"title": {"at": "2026-01-01T00:00:00.000Z"}}},
        {"op": "insert", "meta": {"title": "2026-01-01T00:00:00.000Z"}},
        {"space": "s2"},
        {"record": ""},
    ],
)
async def test_the_database_takes_no_row_that_is_not_this_persons(
    log: OwnLog, forged: dict[str, Any]
):
    given: dict[str, Any] = {
        "app": "todo",
        "table": "tasks",
        "record": "t-1",
        "op": "update",
        "data": {"title": "a"},
        "meta": {"title": "2026-01-01T00:00:00.000Z"},
        "client": "c",
        "actor": {"kind": "user", "principalId": "u1"},
        "origin": "user",
        "space": None,
        **forged,
    }
    values = [json.dumps(v) if isinstance(v, dict) else v for v in given.values()]
    async with log.acting("u1") as own:
        places = ", ".join(f"${n}" for n in range(3, 13))
        with pytest.raises(asyncpg.CheckViolationError):
            await own.connection.fetch(
                f"SELECT mana_ai.own_write($1, $2, {places})", "u1", ["s1"], *values
            )


async def test_a_record_too_long_to_read_is_refused_and_says_so(database: Database, log: OwnLog):
    await made(log)
    async with session(database, LOG_OWNER) as sync:
        device = Client(sync, "u1")
        for _ in range(5):
            await device.push("update", "t-1", {"t": "x" * 4_000_000}, table="tasks", app="todo")
    with pytest.raises(Refused):
        await seen(log)
