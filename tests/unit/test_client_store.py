"""A client without a server: what is written is kept, whole, and shown as the log will have it."""

import asyncio
import contextlib
import sqlite3
import stat
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from mana_actors.client import Client, StoreFull, StoreUnusable, WriteRefused
from mana_actors.client.local.store import LocalStore
from state.log.principals import agent_actor, system_actor


def opened(path: Path, **more: Any) -> AbstractAsyncContextManager[Client]:
    return Client.open(path / "store.db", user="u1", live=False, **more)


def list_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def _fail_halfway(client: Client) -> None:
    async with client.transaction():
        await client.table("tasks").put("t1", {"title": "one"})
        assert await client.table("tasks").get("t1") is not None
        raise ZeroDivisionError


async def test_what_was_put_is_there_after_the_file_was_closed(tmp_path: Path):
    async with opened(tmp_path) as client:
        await client.table("tasks").put("t1", {"title": "Milk"})
        first_id = client.client_id
    async with opened(tmp_path) as client:
        found = await client.table("tasks").get("t1")
        assert found is not None
        assert found["title"] == "Milk"
        assert found["authorId"] == "u1"
        assert found["spaceId"] == "_personal:u1"
        assert found.updated_at == found["createdAt"]
        assert client.client_id == first_id
        assert [one.waiting for one in await client.status()] == [1]


async def test_a_file_is_one_clients_at_a_time_and_one_persons(tmp_path: Path):
    async with opened(tmp_path):
        with pytest.raises(StoreUnusable, match="in use"):
            async with opened(tmp_path):
                pass
    with pytest.raises(StoreUnusable, match="belongs to u1"):
        async with Client.open(tmp_path / "store.db", user="u2", live=False):
            pass


async def test_files_of_a_store_are_for_their_owner_alone(tmp_path: Path):
    async with opened(tmp_path) as client:
        await client.table("tasks").put("t1", {"title": "Milk"})
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in list_of(tmp_path)}
        assert len(modes) == 4
        assert set(modes.values()) == {0o600}


async def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "store.db").write_bytes(b"something else" * 500)
    with pytest.raises(StoreUnusable):
        async with opened(tmp_path):
            pass
    assert (tmp_path / "store.db").read_bytes() == b"something else" * 500


async def test_a_transaction_is_kept_whole_or_not_at_all(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        with pytest.raises(ZeroDivisionError):
            await _fail_halfway(client)
        assert await tasks.get("t1") is None
        async with client.transaction():
            await tasks.put("t1", {"title": "one"})
            with pytest.raises(WriteRefused):
                await tasks.put("t2", {"title": "two", "createdAt": "1999"})
            await tasks.put("t3", {"title": "three"})
        assert [one.id for one in await tasks.list()] == ["t1", "t3"]


async def test_a_transaction_that_no_server_takes_is_refused_here(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks, large = client.table("tasks"), {"text": "x" * 3 * 1024 * 1024}
        async with client.transaction():
            for n in range(2):
                await tasks.put(f"t{n}", large)
            with pytest.raises(WriteRefused, match="transaction"):
                await tasks.put("t3", {"text": "y" * 3 * 1024 * 1024})
            await tasks.put("t2", {"text": "small"})
        await tasks.put("t4", large)
        assert [one.id for one in await tasks.list()] == ["t0", "t1", "t2", "t4"]


async def test_others_do_not_see_a_transaction_before_it_ends(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        begun, seen = asyncio.Event(), asyncio.Event()

        async def other() -> None:
            await begun.wait()
            assert await tasks.get("t1") is None
            seen.set()
            await tasks.put("t2", {"title": "after"})

        watching = asyncio.create_task(other())
        async with client.transaction():
            await tasks.put("t1", {"title": "one"})
            begun.set()
            await seen.wait()
        await watching
        assert [one.id for one in await tasks.list()] == ["t1", "t2"]
        rows = [(one.push, one.row.record) for one in await client.read(lambda s, _: s.waiting())]
        assert rows[0][0] != rows[1][0]


async def test_an_update_stamps_what_changed_and_nothing_else(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        await tasks.put("t1", {"title": "Milk", "done": False})
        before = await tasks.get("t1")
        await tasks.update("t1", {"title": "Milk", "done": True, "authorId": "u9", "userId": "u9"})
        after = await tasks.get("t1")
        assert before is not None
        assert after is not None
        assert after["done"] is True
        assert after["authorId"] == "u1"
        assert after.field_meta["title"] == before.field_meta["title"]
        assert after.field_meta["done"].at > before.field_meta["done"].at
        assert after.updated_at == after.field_meta["done"].at
        row = (await client.read(lambda s, _: s.waiting()))[-1].row
        assert row.data == {"done": True}
        await tasks.update("t1", {"done": True})  # the same again is no change
        assert len(await client.read(lambda s, _: s.waiting())) == 2


async def test_true_is_not_one(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        await tasks.put("t1", {"done": True})
        await tasks.update("t1", {"done": 1})
        found = await tasks.get("t1")
        assert found is not None
        assert found["done"] is not True


async def test_deleting_together_with_other_fields_loses_none_of_them(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        await tasks.put("t1", {"title": "Milk"})
        await tasks.update("t1", {"title": "Oat milk", "deletedAt": "now"})
        assert await tasks.get("t1") is None
        assert await tasks.list() == []
        rows = [one.row for one in await client.read(lambda s, _: s.waiting())]
        assert [(row.op, row.data and row.data.get("title")) for row in rows[1:]] == [
            ("update", "Oat milk"),
            ("delete", None),
        ]
        await tasks.put("t1", {"done": True})
        found = await tasks.get("t1")
        assert found is not None
        assert (found["title"], found["done"]) == ("Oat milk", True)
        await tasks.delete("t1")
        await tasks.delete("t1")
        with pytest.raises(WriteRefused, match="no record"):
            await tasks.update("t1", {"done": False})


async def test_an_id_is_inserted_once(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        made = await tasks.insert({"title": "Milk"})
        with pytest.raises(WriteRefused, match="already"):
            await tasks.insert({"title": "Milk"}, made)


async def test_who_writes_signs(tmp_path: Path):
    agent = agent_actor("a1", "Mana", mission_id="m1", iteration_id="i1", rationale="why")
    async with opened(tmp_path, display_name="Ada") as client:
        tasks = client.table("tasks")
        await tasks.put("t1", {"title": "Milk"})
        with client.run_as(agent):
            await tasks.update("t1", {"title": "Oat milk"})
        with client.run_as(system_actor("system:bootstrap")):
            await tasks.update("t1", {"done": False})
        found = await tasks.get("t1")
        assert found is not None
        made, title, done = (found.field_meta[n] for n in ("createdAt", "title", "done"))
        assert (made.actor["displayName"], made.origin) == ("Ada", "user")
        assert (title.actor, title.origin) == (agent, "agent")
        assert (done.actor["principalId"], done.origin) == ("system:bootstrap", "system")


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "a\0b"},
        {"title": {"deep": float("nan")}, "x": object()},
        {"__fieldMeta": {}},
        {"updatedAt": "2026-04-26T10:00:00.000Z"},
        {"title": 10**400},
    ],
)
async def test_what_the_log_could_not_keep_is_refused_by_its_name(
    tmp_path: Path, fields: dict[str, Any]
):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        with pytest.raises(WriteRefused):
            await tasks.put("t1", fields)
        with pytest.raises(WriteRefused, match="id"):
            await tasks.put("", {"title": "x"})
        with pytest.raises(WriteRefused, match="app"):
            client.table("nobodyKnows")
        assert await tasks.list() == []


async def test_a_table_can_be_followed(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        changes = tasks.changes()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await tasks.put("t1", {"title": "Milk"})
        assert await first == "t1"


async def test_a_store_of_a_newer_mana_is_refused(tmp_path: Path):
    async with opened(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "store.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnusable, match="newer"):
        async with opened(tmp_path):
            pass


async def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path):
    large = {"text": "x" * 1024 * 1024}
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        await tasks.put("t1", {"title": "before"})
        await client.keep(_leave_20_pages)
        with pytest.raises(StoreFull):
            await tasks.put("t2", large)
        with pytest.raises(StoreFull):
            await _write_too_much_at_once(client)
        assert [one.id for one in await tasks.list()] == ["t1"]
        await client.keep(_leave_all_pages)
        await tasks.put("t5", large)
    async with opened(tmp_path) as client:
        assert [one.id for one in await client.table("tasks").list()] == ["t1", "t5"]
        waiting = await client.read(lambda store, _: store.waiting())
        assert [one.row.record for one in waiting] == ["t1", "t5"]


async def test_a_transaction_that_the_database_gave_up_keeps_nothing_written_later(tmp_path: Path):
    async with opened(tmp_path) as client:
        tasks = client.table("tasks")
        with pytest.raises(StoreFull):
            await _write_on_in_a_lost_transaction(client)
        assert await tasks.list() == []
        await tasks.put("t3", {"title": "three"})
        assert [one.id for one in await tasks.list()] == ["t3"]


async def _write_too_much_at_once(client: Client) -> None:
    async with client.transaction():
        await client.table("tasks").put("t3", {"title": "in one with"})
        await client.table("tasks").put("t4", {"text": "x" * 1024 * 1024})


async def _write_on_in_a_lost_transaction(client: Client) -> None:
    async with client.transaction():
        await client.table("tasks").put("t1", {"title": "one"})
        await client.read(lambda store, _: store.rollback())  # as SQLite may where it has no room
        with contextlib.suppress(StoreFull):
            await client.table("tasks").put("t2", {"title": "two"})


def _leave_20_pages(store: LocalStore) -> None:
    connection = store._write  # pyright: ignore[reportPrivateUsage]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 20}")


def _leave_all_pages(store: LocalStore) -> None:
    store._write.execute("PRAGMA max_page_count = 1000000")  # pyright: ignore[reportPrivateUsage]
