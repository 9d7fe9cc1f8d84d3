"""The gateway's two doors: whatever keeps people's busy, the operators' answers."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.sockets import bound_socket
from state.store.connect import Access
from supervisor.gateway import doors
from supervisor.gateway.app import create_app
from supervisor.gateway.auth import Sessions
from supervisor.gateway.deps import Deps
from supervisor.gateway.doors import Doors
from supervisor.health.room import RoomWatch, reserves
from supervisor.health.watch import Watch
from supervisor.node.settings import Settings
from tests.gateway_parts import KEY, FakeSupervisor, fleet_of
from tests.ports import free_port
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

ROLE = "mana_gateway"
HEADERS = {"X-Service-Key": KEY}


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    key_file = tmp_path / "service_key"
    key_file.touch(mode=0o600)
    key_file.write_text(KEY)
    return Settings(
        data_dir=str(tmp_path),
        secrets_dir=str(database.secrets_dir),
        service_key_file=str(key_file),
        keys_dir=str(tmp_path / "keys"),
        port=0,
        operators_port=free_port(),
    )


class Busy:
    """The gateway's app where `/busy` keeps its loop until `may_end`, as what computes does."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, deps: Deps, sessions: Sessions) -> ASGIApp:
        inner = create_app(deps, sessions)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if Request(scope).url.path != "/busy":
                await inner(scope, receive, send)
                return
            self.has_begun.set()
            self.may_end.wait(60)
            await Response("over")(scope, receive, send)

        return app


@pytest.fixture
async def opened(database: Database, settings: Settings) -> AsyncGenerator[Doors]:
    fleet, supervisor = fleet_of(database), FakeSupervisor()
    access = Access(database.dsn(ROLE), ROLE, str(database.password_file(ROLE)))
    watch = Watch(
        fleet=fleet,
        supervisor=supervisor,
        settings=settings,
        version="1.2.3",
        rooms=RoomWatch(reserves(settings, None)),
    )
    await watch.look()
    both = Doors(settings, access, "1.2.3", watch, FakeSupervisor)
    yield both
    await asyncio.to_thread(both.close)
    await fleet.close()


async def test_operators_are_answered_while_people_keep_their_loop_busy(
    opened: Doors, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    busy = Busy()
    monkeypatch.setattr(doors, "create_app", busy)
    opened.open()
    url, problem = await asyncio.to_thread(opened.address)
    assert problem == ""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        hanging = asyncio.create_task(http.get(f"{url}/busy"))
        assert await asyncio.to_thread(busy.has_begun.wait, 30)
        told = await http.get(f"{settings.operators_url}/health", headers=HEADERS)
        assert told.json()["service"] == "mana-ai"
        status = await http.get(f"{settings.operators_url}/internal/status", headers=HEADERS)
        assert status.json()["counts"] is not None
        assert (await http.get(f"{settings.operators_url}/metrics", headers=HEADERS)).is_success
        assert not hanging.done()
        busy.may_end.set()
        assert (await hanging).text == "over"


async def test_a_login_made_at_one_door_opens_the_other(opened: Doors, settings: Settings):
    opened.open()
    url, _ = await asyncio.to_thread(opened.address)
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        made = await http.post(f"{settings.operators_url}/internal/login", headers=HEADERS)
        assert made.status_code == 201
        assert (await http.get(url + str(made.json()["path"]))).status_code == 200
        assert (await http.get(url)).status_code == 200
        ended = await http.delete(f"{settings.operators_url}/internal/sessions", headers=HEADERS)
        assert ended.json() == {"ended": 1}
        assert (await http.get(url)).status_code == 401, "what one door ends is over at both"
        text = (await http.get(f"{settings.operators_url}/metrics", headers=HEADERS)).text
        assert 'path="/login"' in text, "what either door counts is one sum"


async def test_a_taken_port_is_told(opened: Doors, settings: Settings):
    with bound_socket("127.0.0.1", settings.operators_port):
        opened.open()
        url, problem = await asyncio.to_thread(opened.address)
    assert url == ""
    assert f"port {settings.operators_port}" in problem
