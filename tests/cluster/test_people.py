"""A real node answers people, by the auth service it is told of."""

from pathlib import Path

import httpx2

from tests.fake_auth import FakeAuth
from tests.faults.scene import FAST
from tests.node import NodeProcess
from tests.owners import PAGE, Desk, key_variables
from tests.postgres import Database


async def test_a_node_answers_people_and_refuses_strangers(database: Database, tmp_path: Path):
    async with FakeAuth() as auth:
        named = {"MANA_AUTH_URL": auth.url, "CORS_ORIGINS": PAGE, **key_variables(tmp_path)}
        with NodeProcess(database, **FAST, **named) as node:
            async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as client:
                desk = Desk(client, auth, "u1")
                assert len(await desk.key()) == 32
                told = await desk.ask("GET", "/api/v1/me/ai-audit")
                assert told.json() == {"rows": [], "before": None}
                assert told.headers["access-control-allow-origin"] == PAGE
                assert (await client.get("/api/v1/me/ai-audit")).status_code == 401
