"""`mana client`: the library by hand, each command a process of its own."""

import asyncio
import base64
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.devices import Home
from tests.inbox import TASK, log_record, mission_with, plan
from tests.owners import House

pytestmark = pytest.mark.one_postgres

MANA = "from mana_actors.command import main; main()"


async def mana(folder: Path, *arguments: str, token: str = "") -> tuple[int, str]:
    """Exit code and output of `mana client …`, with a store in the folder."""
    at = ["--store", str(folder / "store")]
    if token:
        file = folder / "token"
        file.write_text(token)
        at += ["--token-file", str(file)]
    command = [sys.executable, "-c", MANA, "client", *arguments, *at]
    home = {**os.environ, "HOME": str(folder), "MANA_DATA_DIR": str(folder / "none")}
    done = await asyncio.create_subprocess_exec(*command, env=home, stdout=PIPE, stderr=STDOUT)
    said, _ = await done.communicate()
    assert done.returncode is not None
    return done.returncode, said.decode()


async def test_a_person_writes_offline_and_syncs(house: House, tmp_path: Path):
    token, url = house.auth.token("u1"), str(house.client.base_url)
    code, told = await mana(tmp_path, "put", "tasks", "t1", "title=Milk")
    assert (code, "mana client init" in told) == (2, True)
    code, told = await mana(tmp_path, "init", "--url", url, token=token)
    assert (code, "u1 at" in told) == (0, True), told
    code, told = await mana(tmp_path, "put", "tasks", "t1", "title=Milk\x1b[2J", "n=3")
    assert code == 0, told
    code, told = await mana(tmp_path, "status", "--json")
    waiting = json.loads(told)["items"]
    assert waiting == [{"app": "todo", "waiting": 1, "refused": 0}]
    code, told = await mana(tmp_path, "pull", "todo", token=token)
    assert (code, told) == (0, "1 records, 0 deleted ones\n")
    (row,) = await house.sql("SELECT data FROM sync_changes")
    assert json.loads(row["data"])["n"] == 3
    code, told = await mana(tmp_path, "list", "tasks")
    assert (code, "Milk" in told, "\x1b" in told) == (0, True, False)
    code, told = await mana(tmp_path, "pull", token="nobody")
    assert (code, "token" in told, "Traceback" in told) == (3, True, False)
    code, told = await mana(tmp_path, "put", "nobodyKnows", "x", "a=1")
    assert (code, "app" in told) == (2, True)


async def test_a_person_answers_offline_and_a_device_with_their_key_carries_it_out(
    home: Home, tmp_path: Path
):
    token, url = home.house.auth.token("u1"), str(home.house.client.base_url)
    await mission_with(home.world, plan(TASK))
    await home.listed()
    assert (await mana(tmp_path, "init", "--url", url, token=token))[0] == 0
    assert (await mana(tmp_path, "pull", "ai", token=token))[0] == 0
    code, told = await mana(tmp_path, "inbox", "list")
    assert (code, "pending" in told, "create_task" in told) == (0, True, True), told
    code, told = await mana(tmp_path, "inbox", "approve", "zz")
    assert (code, "no proposal" in told) == (2, True)
    (known,) = await home.listed()
    code, told = await mana(tmp_path, "inbox", "approve", known["id"][:6])
    assert code == 0, told
    assert await home.state() == "pending", "it waits here"
    code, told = await mana(tmp_path, "push", token=token)
    assert (code, await home.state()) == (0, "waiting-for-device"), told
    key = tmp_path / "key"
    key.write_text("not a key")
    code, told = await mana(tmp_path, "inbox", "carry-out", "--key-file", str(key), token=token)
    assert (code, "base64" in told, "not a key" in told) == (2, True, False)
    key.write_text(base64.b64encode(home.key).decode())
    code, told = await mana(tmp_path, "inbox", "carry-out", "--key-file", str(key), token=token)
    assert (code, "create_task: done" in told) == (0, True), told
    assert [task["title"] for task in await home.records("tasks")] == ["Einkaufen"]


async def test_a_person_lets_a_mission_read_a_sealed_note_and_takes_it_back(
    home: Home, tmp_path: Path
):
    token, url = home.house.auth.token("u1"), str(home.house.client.base_url)
    async with home.device("a") as a:
        await a.table("notes").put("n1", home.keys.seal("notes", {"content": "Kuchen"}))
        await a.table("aiMissions").put(
            "m1", {"title": "Woche", "objective": "", "state": "paused"}
        )
        await a.sync("notes", "ai")
    await home.world.driver.fold_all()
    key = tmp_path / "key"
    key.write_text(base64.b64encode(home.key).decode())
    given = ("--key-file", str(key), "--yes")
    assert (await mana(tmp_path, "init", "--url", url, token=token))[0] == 0
    for wrong in (("m9", "notes:n1"), ("m1", "notes:n9"), ("m1", "notes")):
        code, told = await mana(tmp_path, "grant", "give", *wrong, *given, token=token)
        assert (code, "there is no" in told or "TABLE:ID" in told) == (2, True), told
    folding = asyncio.create_task(_fold(home))
    code, told = await mana(tmp_path, "grant", "give", "m1", "notes:n1", *given, token=token)
    folding.cancel()
    assert (code, "given until" in told, "Kuchen" in told) == (0, True, False), told
    copies = await home.world.sql("SELECT table_name, record_id FROM mana_ai.sealed_copies")
    assert copies == [("notes", "n1")]
    code, told = await mana(tmp_path, "grant", "revoke", "m1", token=token)
    assert (code, told) == (0, "revoked\n")
    await home.world.driver.fold_all()
    mission = await log_record(home.world, "aiMissions", "m1")
    assert mission.fields["grant"] is None
    code, told = await mana(tmp_path, "grant", "revoke", "m1", token=token)
    assert (code, "no grant" in told) == (2, True)
    code, told = await mana(tmp_path, "delete", "notes", "n9")
    assert (code, "there is no n9" in told) == (2, True)


async def _fold(home: Home) -> None:
    while True:
        await home.world.driver.fold_all()
        await asyncio.sleep(0.2)
