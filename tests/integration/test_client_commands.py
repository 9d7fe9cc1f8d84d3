"""`mana client`: the library by hand, each command a process of its own."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

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
