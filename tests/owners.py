"""The gateway as people's browsers reach it: real HTTP, a fake auth service, keys in files."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mana_actors.http.server import serve
from supervisor.gateway.app import create_app
from supervisor.gateway.people.owners import Owners, opened_owners
from supervisor.node.settings import VARIABLES, Settings
from tests.fake_auth import FakeAuth
from tests.gateway_parts import KEY, FakeSupervisor, deps_of, fleet_of
from tests.postgres import SUPERUSER, Database

KEK = bytes(range(32))
RUNNER = rsa.generate_private_key(65537, 2048)
SIGNING = Ed25519PrivateKey.generate()
PAGE = "https://mana.example"
VAULT = "/api/v1/me/encryption-vault"


class Desk:
    """One person's browser."""

    def __init__(self, client: httpx2.AsyncClient, auth: FakeAuth, user: str) -> None:
        self._client, self._auth, self.user = client, auth, user

    async def ask(self, verb: str, path: str, **more: Any) -> httpx2.Response:
        """One request with this person's token."""
        headers = {"Authorization": f"Bearer {self._auth.token(self.user)}", "Origin": PAGE}
        return await self._client.request(
            verb, path, headers=headers | more.pop("headers", {}), **more
        )

    async def vault(self, verb: str, route: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Status and body of one vault request."""
        answered = await self.ask(
            verb, f"{VAULT}/{route}", **({} if body is None else {"json": body})
        )
        return answered.status_code, answered.json()

    async def key(self) -> bytes:
        """The master key, of a vault made where there is none."""
        status, told = await self.vault("POST", "init")
        assert status == 200, told
        return base64.b64decode(told["masterKey"])


class House:
    """A gateway with everything behind `/api/v1/me`."""

    def __init__(
        self,
        database: Database,
        auth: FakeAuth,
        client: httpx2.AsyncClient,
        settings: Settings,
        owners: Owners,
        supervisor: FakeSupervisor,
    ) -> None:
        self.database, self.auth, self.client = database, auth, client
        self.settings, self.owners, self.supervisor = settings, owners, supervisor

    async def operator(self, verb: str, path: str, body: Any = None) -> httpx2.Response:
        """One request with the service key."""
        headers = {"X-Service-Key": KEY}
        more = {} if body is None else {"json": body}
        return await self.client.request(verb, f"/internal{path}", headers=headers, **more)

    def desk(self, user: str = "u1") -> Desk:
        """Another browser."""
        return Desk(self.client, self.auth, user)

    async def sql(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Any statement, past all row security."""
        connection = await self.database.connect(SUPERUSER)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def trail(self, user: str = "u1") -> list[tuple[str, int, str | None]]:
        """(action, status, context) of a person's vault rows, in order."""
        rows = await self.sql(
            "SELECT action, status, context FROM auth.encryption_vault_audit WHERE user_id = $1"
            " ORDER BY created_at, id",
            user,
        )
        return [(row["action"], row["status"], row["context"]) for row in rows]

    async def mission(self, user: str = "u1", mission: str = "m-1", **columns: Any) -> None:
        """A folded mission."""
        columns = {"record": json.dumps({"id": mission}), "complete": True, **columns}
        names, places = ", ".join(columns), ", ".join(f"${n + 3}" for n in range(len(columns)))
        await self.sql(
            f"INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, {names})"
            f" VALUES ($1, $2, {places})",
            user,
            mission,
            *columns.values(),
        )


def key_files(folder: Path) -> dict[str, Any]:
    """Settings that name all of an issuer's files, which are written here."""
    runner = RUNNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing = SIGNING.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = {
        "kek_file": base64.b64encode(KEK),
        "ai_public_key_file": runner,
        "grant_signing_key_file": signing,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


def key_variables(folder: Path) -> dict[str, str]:
    """The same as variables of a process."""
    return {VARIABLES[field]: path for field, path in key_files(folder).items()}


@asynccontextmanager
async def open_house(database: Database, folder: Path, **changed: Any) -> AsyncGenerator[House]:
    """A gateway on a test database; `changed` settings, None leaving one out."""
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(FakeAuth())
        wanted: dict[str, Any] = {
            "auth_url": auth.url,
            "cors_origins": (PAGE,),
            **key_files(folder),
            **changed,
        }
        settings = Settings(data_dir=str(folder), secrets_dir=str(database.secrets_dir), **wanted)
        owners = opened_owners(settings, database.dsn("mana_gateway"))
        stack.push_async_callback(owners.close)
        fleet = fleet_of(database)
        stack.push_async_callback(fleet.close)
        supervisor = FakeSupervisor()
        deps = deps_of(fleet, supervisor, settings, owners)
        serving = await serve(create_app(deps), "127.0.0.1", 0, has_sockets=True)
        stack.push_async_callback(serving.stop)
        client = httpx2.AsyncClient(base_url=serving.url, trust_env=False)
        client = await stack.enter_async_context(client)
        yield House(database, auth, client, settings, owners, supervisor)
