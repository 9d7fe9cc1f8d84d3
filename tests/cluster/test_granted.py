"""All the way with real processes: from a sealed note to plan, audit, revoke and refusal (P7)."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from mana_actors.client.owner.grants import MissionGrants
from mana_actors.client.owner.sealing import OwnerKeys
from supervisor.custody.key_folder import add_key
from tests.fake_auth import FakeAuth
from tests.fake_provider import Entry
from tests.faults.scene import FAST, ScriptedProvider
from tests.integration.support import Client, text
from tests.node import NodeProcess
from tests.owners import Desk, key_variables
from tests.postgres import LOG_OWNER, SUPERUSER, Database

CANARY = "Erdbeerkuchen-7f3a"
CHANGED = "Doch lieber Zwetschgenkuchen-19b2"
NOTE = {"id": "n1", "title": "Einkauf", "content": f"Morgen {CANARY} backen"}
REF = {"module": "notes", "table": "notes", "id": "n1"}
PLAN: Entry = {"calls": [{"name": "create_task", "args": {"title": "Mehl"}}], "usage": [10, 5]}
DONE: Entry = {"content": "Geplant.", "usage": [10, 5]}
PATIENCE_S = 60.0


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives once that is something."""
    give_up = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        assert time.monotonic() < give_up, "waited in vain"
        await asyncio.sleep(0.1)
    return found


def key_holders(node: NodeProcess) -> list[int]:
    """Processes of the key holder, outside Ray."""
    return [pid for pid, line in node.processes().items() if "mana_actors.keys" in line]


def variables(folder: Path, auth: FakeAuth) -> dict[str, str]:
    """A node that keeps vaults, and mints with keys as `mana keys new` makes them."""
    for kind in ("runner", "issuer"):
        add_key(folder / "keys", kind, datetime.now(UTC))
    kek = {k: v for k, v in key_variables(folder).items() if k == "MANA_AUTH_KEK_FILE"}
    return {"MANA_AUTH_URL": auth.url, "MANA_KEYS_DIR": str(folder / "keys"), **kek}


class Story:
    """One person with an encrypted note and a mission that reads it."""

    def __init__(self, log: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        self.client, self.admin = Client(log, "u1"), admin

    async def decided(self) -> tuple[str, str]:
        """The mission's decision and reason, once there is one about its grant."""

        async def look() -> Any:
            row = await self.admin.fetchrow(
                "SELECT decision, reason FROM mana_ai.mission_snapshots"
                " WHERE decision = 'skipped-grant'"
            )
            return row and tuple(row)

        return await until(look)

    async def plan(self, number: int = 1) -> dict[str, Any]:
        """The run that committed, of several the latest."""

        async def look() -> Any:
            rows = await self.admin.fetch(
                "SELECT * FROM mana_ai.runs WHERE state = 'committed' ORDER BY closed_at"
            )
            return rows[number - 1 :]

        return dict((await until(look))[0])

    async def fall_due(self, days: int) -> None:
        """Move the next run to now, by a clock that is `days` ahead of all others."""
        ahead = datetime.now(UTC) + timedelta(days=days)
        await self.client.edit("m1", stamp=ahead, nextRunAt=text(datetime.now(UTC)))


async def test_a_note_is_read_under_a_grant_and_no_longer_once_it_is_revoked(
    database: Database, tmp_path: Path
) -> None:
    async with FakeAuth() as auth:
        with (
            ScriptedProvider() as provider,
            NodeProcess(database, provider.url, **FAST, **variables(tmp_path, auth)) as node,
        ):
            log = await database.connect(LOG_OWNER)
            admin = await database.connect(SUPERUSER)
            try:
                async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as http:
                    master_key = bytearray(await Desk(http, auth, "u1").key())
                    owner = MissionGrants(http, auth.token("u1"), OwnerKeys("u1", master_key))
                    await walk(Story(log, admin), owner, provider, node, http, auth)
            finally:
                await log.close()
                await admin.close()


async def walk(
    story: Story,
    owner: MissionGrants,
    provider: ScriptedProvider,
    node: NodeProcess,
    http: httpx2.AsyncClient,
    auth: FakeAuth,
) -> None:
    """From the sealed note to the refusal."""
    provider.scripts["m1"] = [PLAN, DONE]
    sealed = owner.keys.seal("notes", NOTE)
    assert CANARY not in str(sealed)
    await story.client.push("insert", "n1", sealed, table="notes", app="notes")
    await story.client.mission(inputs=[REF], objective="Plane m1")

    decision, reason = await story.decided()  # not planned blind
    assert (decision, "need a grant" in reason) == ("skipped-grant", True)
    assert provider.requests_for("m1") == []

    (holder,) = key_holders(node)  # the node starts it anew
    os.kill(holder, signal.SIGKILL)
    grant = await owner.ask("m1", ["notes:n1"], exposure="any")
    await story.client.edit("m1", grant=grant)
    await owner.hand_over(grant, {"notes:n1": sealed})
    run = await story.plan()
    assert CANARY.encode() in provider.requests_for("m1")[0].raw

    told = await http.get(
        "/api/v1/me/ai-audit", headers={"Authorization": f"Bearer {auth.token('u1')}"}
    )
    (row, *_) = told.json()["rows"]
    assert (row["tableName"], row["recordId"], row["status"]) == ("notes", "n1", "ok")
    assert row["runId"] == str(run["run_id"])

    calls = len(provider.requests_for("m1"))
    edited = owner.keys.seal("notes", {**NOTE, "content": CHANGED})
    edited.pop("id")
    await story.client.push("update", "n1", edited, table="notes", app="notes")
    await story.fall_due(400)
    await story.plan(2)  # of a copy that the gateway made: nobody handed it over
    later = provider.requests_for("m1")[calls:]
    assert CHANGED.encode() in later[0].raw
    assert not any(CANARY.encode() in request.raw for request in later)

    calls = len(provider.requests_for("m1"))
    await story.client.edit("m1", grant=None)
    await story.fall_due(500)
    decision, reason = await story.decided()
    assert (decision, "need a grant" in reason) == ("skipped-grant", True)
    assert len(provider.requests_for("m1")) == calls
    assert await story.admin.fetchval("SELECT count(*) FROM mana_ai.sealed_copies") == 0
