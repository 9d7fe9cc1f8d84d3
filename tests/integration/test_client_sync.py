"""Clients on a real gateway: what one writes the others show, and nothing is lost or doubled."""

import asyncio
import signal
import sqlite3
import stat
import sys
from asyncio.subprocess import PIPE
from contextlib import AbstractAsyncContextManager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mana_actors.client import Client, NotSignedIn, SignInFile, live
from mana_actors.client.local.kept import NOTHING
from mana_actors.client.server import wire
from mana_actors.client.server.credentials import GivenTokens, StoredSignIn
from state.log import merge
from state.log.own_changes import RecordAt
from state.log.stamps import NS_PER_S
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

HOUR_NS = 3600 * NS_PER_S


def device(
    house: House, folder: Path, name: str = "one", user: str = "u1", **more: Any
) -> AbstractAsyncContextManager[Client]:
    token = house.auth.token(user)
    more = {"live": False, **more}
    return Client.open(folder / f"{name}.db", http=house.client, token=token, **more)


async def replayed(house: House, record: str, user: str = "u1") -> merge.Snapshot:
    """The record as the server makes it of its log."""
    rows = await house.sql(
        "SELECT id::text, (extract(epoch FROM created_at) * 1000000)::bigint AS us, op,"
        " data::text, field_meta::text FROM sync_changes WHERE user_id = $1 AND record_id = $2"
        " ORDER BY created_at, id",
        user,
        record,
    )
    read = [
        merge.read_change(row["id"], row["us"], row["op"], row["data"], row["field_meta"])
        for row in rows
    ]
    return merge.fold(None, read)


async def assert_same(house: House, client: Client, *records: str, table: str = "tasks") -> None:
    """The client has what the server's replay makes, stamps and all."""
    for record in records:
        at = RecordAt("todo", table, record)
        found = await client.read(lambda store, _, at=at: store.shown(at)) or NOTHING
        wanted = await replayed(house, record)
        assert found.snapshot.fields == wanted.fields
        assert found.snapshot.stamps == wanted.stamps
        assert found.snapshot.exists == wanted.exists


async def test_what_one_device_writes_another_shows(house: House, tmp_path: Path):
    async with device(house, tmp_path) as one, device(house, tmp_path, "two") as two:
        assert one.user == two.user == "u1"
        await one.table("tasks").put("t1", {"title": "Milk", "tags": ["a", {"b": None}]})
        async with one.transaction():
            await one.table("tasks").update("t1", {"title": "Oat milk"})
            await one.table("tasks").put("t2", {"title": "Bread"})
        await one.sync()
        await two.sync("todo")
        found = await two.table("tasks").get("t1")
        assert found is not None
        assert found["title"] == "Oat milk"
        assert found.field_meta["title"].origin == "server-replay"
        assert found.field_meta["title"].actor == {
            "kind": "user",
            "principalId": "u1",
            "displayName": "Du",
        }
        await two.table("tasks").update("t1", {"done": True})
        await two.table("tasks").delete("t2")
        await two.sync()
        await one.sync()
        assert [record.id for record in await one.table("tasks").list()] == ["t1"]
        for client in (one, two):
            await assert_same(house, client, "t1", "t2")
            assert [each.waiting for each in await client.status()] == [0]
        rows = await house.sql("SELECT origin, actor, space_id, client_id FROM sync_changes")
        assert {row["origin"] for row in rows} == {"user"}
        assert {row["space_id"] for row in rows} == {"_personal:u1"}
        assert {row["client_id"] for row in rows} == {one.client_id, two.client_id}


async def test_an_answer_that_was_lost_doubles_nothing(house: House, tmp_path: Path):
    """The clock is an hour ahead, so that the server takes the stamps back to its own."""
    async with device(house, tmp_path) as one:
        one.clock.offset_ns = HOUR_NS
        await one.table("tasks").put("t1", {"title": "Milk"})
        await one.table("tasks").update("t1", {"title": "Oat milk"})
        waiting = [each.row for each in await one.read(lambda store, _: store.waiting())]
        body = wire.push_body("todo", one.client_id, "", "", waiting)
        headers = {"Authorization": f"Bearer {house.auth.token('u1')}"}
        answered = await house.client.post("/sync/todo", content=body, headers=headers)
        assert answered.status_code == 200  # and nobody reads it
        async with device(house, tmp_path, "two") as two:
            await two.sync("todo")
            await two.table("tasks").update("t1", {"title": "Rice milk"})
            await two.sync("todo")
        await one.sync()
        assert await house.sql("SELECT count(*) FROM sync_changes") == [(3,)]
        await assert_same(house, one, "t1")
        found = await one.table("tasks").get("t1")
        assert found is not None
        assert found["title"] == "Rice milk"
        assert found.field_meta["createdAt"].origin == "user"
        assert [each.waiting for each in await one.status()] == [0]


async def test_clocks_an_hour_apart_converge(house: House, tmp_path: Path):
    async with device(house, tmp_path) as ahead, device(house, tmp_path, "two") as behind:
        ahead.clock.offset_ns, behind.clock.offset_ns = HOUR_NS, -HOUR_NS
        await ahead.table("tasks").put("t1", {"title": "ahead"})
        await behind.table("tasks").put("t1", {"title": "behind", "more": 1})
        await ahead.sync()
        assert abs(ahead.clock.offset_ns) < HOUR_NS / 60
        await behind.sync()
        await ahead.sync()
        for client in (ahead, behind):
            await assert_same(house, client, "t1")
        await behind.table("tasks").update("t1", {"title": "behind, later"})
        await behind.sync()
        await ahead.sync()
        for client in (ahead, behind):
            await assert_same(house, client, "t1")
            found = await client.table("tasks").get("t1")
            assert found is not None
            assert found["title"] == "behind, later"


async def test_rows_of_other_writers_come_too(house: House, tmp_path: Path):
    """Without stamps, deleted for good, and with a time that was before."""
    async with device(house, tmp_path) as one:
        await one.table("tasks").put("t1", {"title": "Milk"})
        await one.sync()
        statement = (
            "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data, client_id,"
            " created_at) VALUES ('todo', 'tasks', $1, 'u1', $2, $3, 'psql', now() + $4)"
        )
        for record, op, data, later in (
            ("t2", "insert", '{"title": "unstamped", "createdAt": "2026-04-26T10:00:00Z"}', 0),
            ("t2", "update", '{"title": "of the row\'s time"}', 1),
            ("t3", "insert", '{"title": "gone"}', 0),
            ("t3", "delete", "{}", 1),
            ("t3", "insert", '{"title": "back", "n": 10.50}', 2),
            ("t1", "insert", '{"title": "older than all", "x": true}', -3600),
        ):
            await house.sql(statement, record, op, data, timedelta(seconds=later))
        await one.sync()
        await assert_same(house, one, "t1", "t2", "t3")
        await one.table("tasks").update("t3", {"title": "mine"})
        await one.sync()
        await assert_same(house, one, "t3")


async def test_what_the_server_refuses_is_put_aside_and_holds_up_nothing(
    house: House, tmp_path: Path
):
    async with device(house, tmp_path) as one:
        await one.table("tasks").put("t1", {"title": "Milk"})
        async with one.transaction():
            await one.table("tasks").put("t2", {"title": "in nobody's space"})
            await one.table("tasks").update("t1", {"title": "Oat milk"})
        await one.table("tasks").put("t3", {"title": "Bread"})

    with closing(sqlite3.connect(tmp_path / "one.db")) as file, file:
        file.execute(
            "UPDATE pending SET body = replace(body, '_personal:u1', 'sp-of-others')"
            " WHERE record = 't2'"
        )
    async with device(house, tmp_path) as one:
        await one.sync()
        assert {each["title"] for each in await one.table("tasks").list()} == {"Milk", "Bread"}
        refused = await one.refused()
        assert [each.row.record for each in refused] == ["t2", "t1"]
        assert all("space" in (each.problem or "") for each in refused)
        assert [each.refused for each in await one.status()] == [2]
        await assert_same(house, one, "t1", "t2", "t3")


DEATHS = (
    ("before_local_commit", "write"),
    ("after_local_commit", "write"),
    ("before_push", "sync"),
    ("after_push_before_settled", "sync"),
    ("while_applying", "sync"),
    ("before_local_commit", "sync"),
    ("after_local_commit", "sync"),
)


async def test_a_client_that_is_killed_anywhere_loses_and_doubles_nothing(
    house: House, tmp_path: Path
):
    async def worked(record: str, *crash: str) -> int:
        command = [sys.executable, "-m", "tests.client_worker", str(tmp_path / "w")]
        process = await asyncio.create_subprocess_exec(
            *command, str(house.client.base_url), record, *crash, stdin=PIPE
        )
        await process.communicate(house.auth.token("u1").encode())
        assert process.returncode is not None
        return process.returncode

    async with device(house, tmp_path, "other") as other:
        for n, (point, when) in enumerate(DEATHS):
            record = f"t{n}"
            await other.table("tasks").put(f"o{n}", {"title": "from elsewhere"})
            await other.sync()
            assert await worked(record, point, when) == -signal.SIGKILL
            assert await worked(record) == 0
            rows = await house.sql(
                "SELECT record_id FROM sync_changes WHERE record_id IN ($1, $2) ORDER BY 1",
                record,
                f"{record}-2",
            )
            assert [row["record_id"] for row in rows] == [record, f"{record}-2"], (point, when)
        records = [f"{kind}{n}" for n in range(len(DEATHS)) for kind in "to"]
        async with device(house, tmp_path / "w", "store") as client:
            await client.sync()
            await assert_same(house, client, *records)
            assert [one.waiting for one in await client.status()] == [0]


async def test_a_page_ends_where_it_may_and_all_pages_show_at_once(house: House, tmp_path: Path):
    """More than one answer holds: nothing of it is shown before the last page is here."""
    await house.sql(
        "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data, client_id)"
        " SELECT 'todo', 'tasks', 'r' || n, 'u1', 'insert', '{\"title\": \"x\"}', 'psql'"
        " FROM generate_series(1, 6000) AS n"
    )
    seen: list[int] = []

    def counted(point: str) -> None:
        if point == "before_push":
            with closing(sqlite3.connect(tmp_path / "one.db")) as file:
                (count,) = file.execute("SELECT count(*) FROM record").fetchone()
                seen.append(count)

    async with device(house, tmp_path, crash=counted) as one:
        await one.sync("todo")
        assert seen == [0, 0]
        assert len(await one.table("tasks").list()) == 6000


async def test_clients_that_are_open_follow_each_other(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By the stream alone: nobody asks again within the time of this test."""
    monkeypatch.setattr(live, "PULL_EVERY_S", 3600.0)
    async with (
        device(house, tmp_path, live=True) as one,
        device(house, tmp_path, "two", live=True) as two,
    ):
        changes = two.table("tasks").changes()
        for n in range(3):
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            await one.table("tasks").put(f"t{n}", {"title": "Milk"})
            async with asyncio.timeout(60):
                assert await waiting == f"t{n}"
        found = await two.table("tasks").get("t2")
        assert found is not None
        assert [each.problem for each in await two.status()] == [None]


async def test_a_token_that_only_reads_reads(database: Database, tmp_path: Path):
    """Where people sign in here: by a personal token, and by a sign-in that is renewed."""
    more = {"keys_dir": str(tmp_path / "keys")}
    async with open_house(database, tmp_path, auth_url=None, **more) as house:
        answered = await house.operator("POST", "/people", {"user": "anna"})
        assert answered.status_code == 201
        link = (await house.operator("POST", "/people/anna/link")).json()["link"]
        told = await house.client.post("/api/v1/auth/sign-in", json={"link": link})
        given = msgspec.json.decode(told.content, type=GivenTokens)
        path, url = tmp_path / "sign-in.json", str(house.client.base_url)
        # Kept as if it were over, so that it has to be renewed first.
        stored = msgspec.structs.replace(given.stored(url, 0.0), access_token="old")
        path.write_bytes(msgspec.json.encode(stored))
        sign_in = SignInFile(path)
        opened = Client.open(tmp_path / "a.db", url=url, token=sign_in, user="anna", live=False)
        async with opened as client:
            await client.table("tasks").put("t1", {"title": "Milk"})
            await client.sync()
            renewed = msgspec.json.decode(path.read_bytes(), type=StoredSignIn)
            assert renewed.refresh_token != stored.refresh_token
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made = await house.client.post(
            "/api/v1/me/tokens",
            json={"name": "backup", "scopes": ["read"], "days": 1},
            headers={"Authorization": f"Bearer {renewed.access_token}"},
        )
        token = made.json()["token"]
        async with Client.open(tmp_path / "b.db", url=url, token=token, live=False) as client:
            assert client.user == "anna"
            await client.sync("todo")
            found = await client.table("tasks").get("t1")
            assert found is not None
            await client.table("tasks").update("t1", {"title": "not mine to write"})
            with pytest.raises(NotSignedIn, match="scope"):
                await client.sync()
            assert [one.waiting for one in await client.status()] == [1]
