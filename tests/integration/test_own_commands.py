"""`mana runs show` and `mana data` for the person whose they are."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.support import DONE, PLAN, World, open_world
from tests.owners import House
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

MANA = "from mana_actors.command import main; main()"


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_world(database, [PLAN, DONE]))
        await opened.driver.start()
        client = await opened.client()
        await client.mission()
        title = {"id": "t1", "title": "Brot \x1b[2J", "done": True}
        await client.push("insert", "t1", title, app="todo", table="tasks")
        await client.push("insert", "t/2", {"id": "t/2"}, app="todo", table="tasks")
        await opened.driver.fold_all()
        await opened.run()
        await opened.driver.fold_all()
        yield opened


async def mana(house: House, folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command of u1's."""
    token = folder / "token"
    token.write_text(house.auth.token("u1"))
    at = ["--url", str(house.client.base_url), "--token-file", str(token)]
    command = [sys.executable, "-c", MANA, *arguments, *at]
    done = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    said, _ = await done.communicate()
    assert done.returncode is not None
    return done.returncode, said.decode()


async def test_a_person_sees_why_a_run_woke_and_what_it_planned(
    world: World, house: House, tmp_path: Path
):
    (run,) = await world.runs()
    code, told = await mana(house, tmp_path, "runs", "show", str(run["run_id"]))
    assert code == 0, told
    for words in ("m1 fell due", "create_task(title: Einkaufen)", "[waits]", "Ein Task"):
        assert words in told
    code, text = await mana(house, tmp_path, "runs", "show", str(run["run_id"]), "--json")
    assert (code, json.loads(text)["state"]) == (0, "committed")


async def test_a_person_sees_their_records_and_who_wrote_them(
    world: World, house: House, tmp_path: Path
):
    code, told = await mana(house, tmp_path, "data", "list")
    assert (code, "todo" in told, "aiMissions" in told) == (0, True, True)
    code, told = await mana(house, tmp_path, "data", "list", "todo")
    assert (code, "Brot" in told, "\x1b" in told) == (0, True, False)
    code, told = await mana(house, tmp_path, "data", "show", "todo", "tasks", "t/2")
    assert code == 0, "an id may hold a slash"
    code, told = await mana(house, tmp_path, "data", "show", "todo", "tasks", "t1", "--json")
    assert json.loads(told)["fields"]["done"]["value"] is True
    code, told = await mana(house, tmp_path, "data", "timeline", "--kind", "ai")
    assert (code, "aiMissions" in told, "tasks" in told) == (0, True, False)


@pytest.mark.parametrize(
    "arguments",
    [("runs", "show", "none"), ("data", "show", "todo", "tasks", "none")],
)
async def test_what_is_not_there_is_said_so(
    world: World, house: House, tmp_path: Path, arguments: tuple[str, ...]
):
    code, _ = await mana(house, tmp_path, *arguments)
    assert code == 1
