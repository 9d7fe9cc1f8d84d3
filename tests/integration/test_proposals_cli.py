"""`mana proposals` and `mana approvals`, against a gateway over HTTP."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from supervisor.cli import run
from tests.inbox import TASK, call, mission_with, plan, records
from tests.integration.support import open_world
from tests.owners import open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres


async def test_a_person_answers_from_a_shell(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path))
        token = tmp_path / "token"
        token.write_text(house.auth.token("u1"))
        monkeypatch.setenv("MANA_TOKEN_FILE", str(token))
        monkeypatch.setenv("MANA_URL", str(house.client.base_url))

        async def mana(*words: str) -> tuple[int, str]:
            code = await asyncio.to_thread(run, list(words))
            return code, capsys.readouterr().out

        await mission_with(world, plan(TASK, call(1, "create_note", content="x")))
        code, told = await mana("proposals", "list")
        assert code == 0
        assert "create_task title: Einkaufen" in told
        code, told = await mana("proposals", "list", "--json")
        ids = {p["metadata"]["mana"]["tool"]: p["id"] for p in json.loads(told)["proposals"]}
        code, told = await mana("proposals", "approve", ids["create_task"][:8])
        assert (code, told.split(":")[0].split(" ")[1]) == (0, "done")
        assert len(await records(world, "tasks")) == 1
        code, told = await mana("proposals", "reject", "--all", "--because", "nein")
        assert (code, "rejected" in told) == (0, True)
        assert (await mana("proposals", "approve", ids["create_note"]))[0] == 1
        assert (await mana("proposals", "undo", ids["create_task"][:8]))[0] == 0
        assert await records(world, "tasks") == {}
        assert (await mana("proposals", "approve"))[0] == 2
        named = ("u1/legacy:ai-default", "--tool", "create_task", "--json")
        made = await mana("approvals", "new", *named)
        assert made[0] == 0, made
        assert "create_task" in (await mana("approvals", "list"))[1]
        assert (await mana("approvals", "revoke", json.loads(made[1])["id"]))[0] == 0
        assert "nothing is approved" in (await mana("approvals", "list"))[1]
