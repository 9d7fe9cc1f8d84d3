"""Each listener while another process holds 2,000 connections to it: who behaves is answered."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mana_actors.http.door import Doorway, Limits
from mana_actors.http.sockets import affordable
from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from mana_actors.keys.server import KeyServer
from mana_actors.keys.tls import ServerTls, TlsAddress
from mana_actors.keys.tls_listener import TlsListener
from mana_actors.llm.router.actor import MOST_CONNECTIONS
from mana_actors.llm.router.settings import OneService
from supervisor.custody.certificates import make_certificates
from supervisor.gateway.doors import opened_door
from supervisor.supervision.metrics import Metrics
from tests.fake_auth import FakeAuth
from tests.gateway_parts import KEY, FakeSupervisor, app_of, fleet_of, settings_for
from tests.integration.test_issuer import issuer_environment, started_issuer
from tests.owners import Desk
from tests.postgres import Database
from tests.router_parts import TOKEN, RunningRouter

pytestmark = pytest.mark.one_postgres

HELD = 2000
ASKED = 3
WITHIN_S = 60.0
HTTP_WAYS = "silent,head,body,unread"


@contextmanager
def held(how: str, where: str | int) -> Generator[None]:
    """Two thousand connections of a process of its own, which come again when they are dropped."""
    command = [sys.executable, "-m", "tests.crowd", how, str(where), str(HELD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"held\n"
            yield
        finally:
            crowd.kill()


@asynccontextmanager
async def crowded(how: str, where: str | int) -> AsyncGenerator[None]:
    """The same around a listener in this process's own loop."""
    crowd = held(how, where)
    await asyncio.to_thread(crowd.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(crowd.__exit__, None, None, None)


async def each_answered(ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Some questions, each answered; a caller who is dropped before it is known asks again."""
    for _ in range(ASKED):
        is_answered = False
        async with asyncio.timeout(WITHIN_S):
            while not is_answered:
                with suppress(httpx2.TransportError, KeyHolderUnreachable):
                    await ask()
                    is_answered = True


async def test_the_gateway_answers_people_and_operators(database: Database, tmp_path: Path):
    fleet, metrics = fleet_of(database), Metrics()
    settings = settings_for(tmp_path, port=0)
    app = app_of(fleet, FakeSupervisor(), tmp_path)
    people = await opened_door(app, settings, metrics, "people")
    operators = await opened_door(app, settings, metrics, "operators")
    try:

        async def ask() -> None:
            headers = {"X-Service-Key": KEY}
            for door in (people, operators):
                async with httpx2.AsyncClient(
                    base_url=door.url, trust_env=False, timeout=WITHIN_S
                ) as client:
                    assert (await client.get("/health/live")).status_code == 200
                    status = await client.get("/internal/status", headers=headers)
                    assert status.status_code == 200

        async with crowded(HTTP_WAYS, people.port):
            await each_answered(ask)
            async with crowded(HTTP_WAYS, operators.port):
                await each_answered(ask)
    finally:
        for door in (people, operators):
            await door.stop()
        await fleet.close()
    ended = metrics.snapshot()["counters"]["http_connections_ended_total"]
    assert '["people","evicted"]' in ended
    assert '["operators","evicted"]' in ended


async def test_the_issuer_answers(database: Database, tmp_path: Path):
    async with FakeAuth() as auth:
        with started_issuer(issuer_environment(database, tmp_path, auth.url)) as process:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            url = line.removeprefix("ready at ").strip()

            async def ask() -> None:
                async with httpx2.AsyncClient(
                    base_url=url, trust_env=False, timeout=WITHIN_S
                ) as client:
                    assert len(await Desk(client, auth, "u1").key()) == 32

            async with crowded(HTTP_WAYS, httpx2.URL(url).port or 0):
                await each_answered(ask)


async def test_the_router_answers(tmp_path: Path):
    ended: list[str] = []
    door = Doorway(Limits(most=affordable(MOST_CONNECTIONS)), ended.append)
    nobody = OneService("service", "http://127.0.0.1:9", "eu")
    with RunningRouter(tmp_path, nobody, door) as router:

        async def ask() -> None:
            headers = {"authorization": f"Bearer {TOKEN}"}
            async with httpx2.AsyncClient(trust_env=False, timeout=WITHIN_S) as client:
                told = await client.get(f"{router.url}/v1/aliases", headers=headers)
                assert told.status_code == 200

        async with crowded(HTTP_WAYS, router.settings.port):
            await each_answered(ask)
    assert "evicted" in ended


async def test_the_key_holder_answers_on_its_socket(tmp_path: Path):
    path = tmp_path / "keys" / "socket"
    server = KeyServer(Any, path)  # pyright: ignore[reportArgumentType] # never asked for a key
    async with server.serving(), crowded("silent,frame", str(path)):

        async def ask() -> None:
            assert await KeyHolder(str(path)).counts() is not None

        await each_answered(ask)


async def test_the_key_holder_answers_other_machines(tmp_path: Path):
    make_certificates(tmp_path, ["keys.internal"], datetime.now(UTC))
    settings = settings_for(tmp_path, keys_dir=str(tmp_path))
    server = KeyServer(Any, tmp_path / "socket")  # pyright: ignore[reportArgumentType] # as above
    listener = TlsListener(server, ServerTls(settings.key_server_files), "127.0.0.1", 0)
    async with listener.serving(), crowded("silent,handshake", listener.port):
        address = TlsAddress("localhost", listener.port, settings.key_client_files)

        async def ask() -> None:
            assert await KeyHolder(address).counts() is not None

        await each_answered(ask)
