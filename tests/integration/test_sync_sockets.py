"""A WebSocket says that there is something new, to whom it concerns and to nobody else."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from supervisor.gateway.people.tokens import TokenRefused
from tests.integration.support import Json
from tests.owners import House
from tests.sync_parts import SyncDevice, insert, membership, writing

pytestmark = pytest.mark.one_postgres
SOON_S = 20.0


@pytest.fixture(autouse=True)
async def hub(house: House) -> AsyncGenerator[None]:
    running = asyncio.create_task(house.owners.sync_hub.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def opened(house: House, path: str = "/ws", **more: Any) -> connect:
    url = str(house.client.base_url).replace("http://", "ws://").rstrip("/") + path
    return connect(url, proxy=None, **more)


async def said(socket: ClientConnection) -> Json:
    async with asyncio.timeout(SOON_S):
        return json.loads(await socket.recv())


async def ended(socket: ClientConnection) -> int | None:
    """The code that the server closes with."""
    async with asyncio.timeout(SOON_S):
        with suppress(ConnectionClosedError):
            async for _ in socket:
                pass
        await socket.wait_closed()
    return socket.close_code


@asynccontextmanager
async def let_in(
    house: House, device: SyncDevice, path: str = "/ws"
) -> AsyncGenerator[ClientConnection]:
    token = house.auth.token(device.user, spaces=list(device.spaces))
    async with opened(house, path) as socket:
        auth = {"type": "auth", "token": token, "clientId": device.client_id}
        await socket.send(json.dumps(auth))
        assert await said(socket) == {"type": "auth-ok"}
        yield socket


def news(app: str, *tables: str) -> Json:
    return {"type": "sync-available", "appId": app, "tables": list(tables)}


async def test_devices_and_members_are_told_whoever_wrote(house: House):
    anna = SyncDevice(house, "anna", "c-1", spaces=("s-1",))
    second = SyncDevice(house, "anna", "c-2", spaces=("s-1",))
    bert = SyncDevice(house, "bert", "c-b", spaces=("s-1",))
    async with (
        let_in(house, anna) as own,
        let_in(house, second) as other,
        let_in(house, second, "/ws/notes") as notes,
        let_in(house, bert) as member,
    ):
        await anna.push(insert("t1") | {"spaceId": "s-1"})
        assert await said(other) == news("todo", "tasks")
        assert await said(member) == news("todo", "tasks")
        async with writing(house, "n1", user="anna", app_id="notes", table_name="notes"):
            pass
        assert await said(own) == news("notes", "notes"), "of its own push it hears nothing"
        assert await said(notes) == news("notes", "notes")


async def test_a_ping_is_answered_before_and_after(house: House):
    async with opened(house) as socket:
        await socket.send('{"type": "ping"}')
        assert await said(socket) == {"type": "pong"}
        await socket.send('{"type": "auth"}')
        assert await said(socket) == {"type": "error", "tables": ["missing token"]}
        for nonsense in ("", "{", "[]", '{"type": 5}', '{"type": "subscribe"}', b"\xff\xfe"):
            await socket.send(nonsense)
        await socket.send(json.dumps({"type": "auth", "token": house.auth.token("u1")}))
        assert await said(socket) == {"type": "auth-ok"}
        await socket.send('{"type": "ping"}')
        assert await said(socket) == {"type": "pong"}


async def test_a_token_that_is_not_good_ends_it(house: House):
    for token in ("x", "ä", "a" * 10_000, house.auth.token("u1", exp=1)):
        async with opened(house) as socket:
            await socket.send(json.dumps({"type": "auth", "token": token}))
            assert await said(socket) == {"type": "error", "tables": ["invalid token"]}
            assert await ended(socket) == 1008


async def test_whoever_says_nothing_is_sent_away(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("supervisor.gateway.sync.sockets.AUTH_S", 0.2)
    async with opened(house) as socket:
        assert await ended(socket) == 1008


async def test_a_connection_belongs_to_one_person(house: House):
    async with let_in(house, SyncDevice(house)) as socket:
        await socket.send(json.dumps({"type": "auth", "token": house.auth.token("u1")}))
        assert await said(socket) == {"type": "auth-ok"}
        await socket.send(json.dumps({"type": "auth", "token": house.auth.token("u2")}))
        assert await said(socket) == {"type": "error", "tables": ["another person's token"]}
        assert await ended(socket) == 1008
    assert house.owners.sync_hub.connections == 0


async def test_a_token_that_is_no_longer_good_ends_it(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(_: object) -> None:
        raise TokenRefused("ended")

    monkeypatch.setattr("supervisor.gateway.sync.sockets.RECHECK_S", 0.1)
    async with let_in(house, SyncDevice(house)) as socket:
        monkeypatch.setattr(house.owners.door, "caller", refuse)
        assert await said(socket) == {"type": "error", "tables": ["invalid token"]}
        assert await ended(socket) == 1008


async def test_who_left_a_space_is_told_nothing_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    spaces = membership(house, monkeypatch, "bert")
    spaces.append("s-1")
    async with let_in(house, SyncDevice(house, "bert", "c-b")) as socket:
        spaces.clear()
        anna = SyncDevice(house, "anna", spaces=("s-1",))
        await anna.push(insert("t1") | {"spaceId": "s-1"})
        with pytest.raises(ConnectionClosedError):
            await said(socket)
        assert socket.close_code == 1013, "it comes back as who it is now"


async def test_other_paths_and_long_messages_are_refused(house: House):
    for path in ("/", "/sync/todo", "/ws/a/b", "/ws/%ff", "/wsx"):
        with pytest.raises(InvalidStatus):
            async with opened(house, path):
                pass
    async with opened(house) as socket:
        await socket.send("x" * 100_000)
        assert await ended(socket) == 1009
    answered = await house.client.get("/health/live")
    assert answered.status_code == 200
