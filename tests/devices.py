"""A person with a vault, and devices of theirs: stores of the client library on a real gateway."""

import asyncio
import base64
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from mana_actors.client import Client
from mana_actors.client.inbox.device import CarriedOut
from mana_actors.client.owner.sealing import OwnerKeys
from tests.inbox import records as log_records
from tests.integration.support import Json, World
from tests.owners import Desk, House

PROPOSALS = "/api/v1/me/proposals"
APPROVE: Json = {"status": "resolved", "payload": {"approved": True}}
AWAY = httpx2.AsyncClient(base_url="http://127.0.0.1:1", trust_env=False)


class Stopped(Exception):
    """This device does no more just now."""


class Home:
    """A person with a vault, and devices that have its key."""

    def __init__(self, world: World, house: House, folder: Path, key: bytes) -> None:
        self.world, self.house, self.folder, self.key = world, house, folder, key
        self.private_keys: list[bytes] = []

    @property
    def desk(self) -> Desk:
        return self.house.desk()

    @property
    def keys(self) -> OwnerKeys:
        return OwnerKeys("u1", self.key, self.private_keys)

    @asynccontextmanager
    async def device(
        self, name: str, *, away: bool = False, keyless: bool = False, stops_at: str = ""
    ) -> AsyncGenerator[Client]:
        """One of their devices, by the name of its file."""

        def reached(point: str) -> None:
            if point == stops_at:
                raise Stopped

        async with Client.open(
            self.folder / name,
            http=AWAY if away else self.house.client,
            token=self.house.auth.token("u1"),
            user="u1",
            keys=None if keyless else self.keys,
            live=False,
            crash=reached,
        ) as client:
            yield client

    @asynccontextmanager
    async def live_device(self, name: str, *apps: str) -> AsyncGenerator[Client]:
        """One that is kept in sync, without keys."""
        async with Client.open(
            self.folder / name,
            http=self.house.client,
            token=self.house.auth.token("u1"),
            user="u1",
            apps=apps,
        ) as client:
            yield client

    async def carried_out(self, name: str) -> list[CarriedOut]:
        """One pass of a device."""
        async with self.device(name) as client:
            return await client.proposals.carry_out()

    async def dies(self, name: str, point: str) -> None:
        """One pass of a device that is killed at a point."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.device_worker",
            str(self.folder / name), str(self.house.client.base_url), point,
            stdin=PIPE,
        )  # fmt: skip
        said = f"{self.house.auth.token('u1')}\n{base64.b64encode(self.key).decode()}"
        await process.communicate(said.encode())
        assert process.returncode == -signal.SIGKILL

    async def listed(self) -> list[Json]:
        told = await self.desk.ask("GET", PROPOSALS)
        assert told.status_code == 200, told.text
        return told.json()["proposals"]

    async def answer(self, body: Json = APPROVE) -> str:
        """The state of the only proposal after this answer."""
        (proposal,) = await self.listed()
        told = await self.desk.ask("POST", f"{PROPOSALS}/{proposal['id']}/answer", json=body)
        assert told.status_code == 200, told.text
        return told.json()["metadata"]["mana"]["state"]

    async def state(self) -> str:
        (proposal,) = await self.listed()
        return proposal["metadata"]["mana"]["state"]

    async def claims_end(self) -> None:
        """Ten minutes pass for the server."""
        await self.house.sql(
            "UPDATE mana_ai.proposals SET claimed_until = clock_timestamp() - interval '1 s'"
        )

    async def records(self, table: str) -> list[Json]:
        """A table's records as the owner reads them."""
        found = await log_records(self.world, table)
        return [self.keys.open(fields) for fields in found.values()]

    async def rows(self, table: str, client: str = "mana-%") -> int:
        """Rows of a table that devices wrote."""
        found = await self.world.sql(
            "SELECT FROM public.sync_changes WHERE table_name = $1 AND NOT client_id LIKE $2"
            " AND actor ->> 'kind' = 'ai'",
            table,
            client,
        )
        return len(found)
