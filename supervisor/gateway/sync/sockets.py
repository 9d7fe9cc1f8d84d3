"""`/ws` and `/ws/{app}`: a device is told that there is something new, and then pulls.

It says who it is in its first frame, within ten seconds, and may do so again with a newer token of
the same person. What let it in is looked at again every few minutes.
"""

import asyncio
import contextlib
import logging
import time

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from mana_actors.http.bodies import BadRequest
from mana_actors.http.door import vouch_for
from mana_actors.http.paths import PathUnclear, checked_path, text_of
from mana_actors.logs import without_text
from state.store.connect import Unavailable
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.tokens import TokenRefused
from supervisor.gateway.sign_in.door import ScopeLacking, must_have
from supervisor.gateway.sync.hub import Listener
from supervisor.gateway.sync.routes import checked_client

AUTH_S = 10.0
WRITE_S = 5.0
RECHECK_S = 300.0
POLICY, TRY_LATER = 1008, 1013
log = logging.getLogger("mana.gateway")


class SocketFrame(msgspec.Struct, frozen=True, rename="camel"):
    """What a device says; `client_id` keeps it from hearing of its own pushes."""

    type: str = ""
    token: str = ""
    client_id: str = ""


class ToldFrame(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a device is told; of an error `tables` holds the reason, as it always did."""

    type: str
    app_id: str = ""
    tables: tuple[str, ...] = ()


class SocketEnds(Exception):
    """This connection is over; with a reason the device is told first."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class SyncSockets:
    """The WebSockets of one gateway."""

    def __init__(self, owners: Owners | None) -> None:
        self._owners = owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from its handshake to its end."""
        socket = WebSocket(scope, receive, send)
        app = _app_of(scope)
        if self._owners is None or app is None:
            await socket.close(POLICY)
            return
        await socket.accept()
        try:
            await Conversation(self._owners, socket, app or None).held()
        except SocketEnds as exc:
            with contextlib.suppress(Exception):  # whoever is gone hears nothing
                if exc.reason:
                    await _tell(socket, ToldFrame("error", tables=(exc.reason,)))
                await socket.close(exc.code)
        except WebSocketDisconnect:
            pass
        except Exception as exc:
            told = without_text(exc)
            log.error("socket_failed error=%s", type(exc).__name__, exc_info=told)  # noqa: TRY400
            with contextlib.suppress(Exception):
                await socket.close(TRY_LATER)


class Conversation:
    """What is said on one connection."""

    def __init__(self, owners: Owners, socket: WebSocket, app: str | None) -> None:
        self._owners, self._socket, self._app = owners, socket, app
        self._token = ""

    async def held(self) -> None:
        """Until the device leaves; raises SocketEnds."""
        try:
            async with asyncio.timeout(AUTH_S):
                caller, client = await self._let_in()
        except TimeoutError:
            raise SocketEnds(POLICY) from None
        hub = self._owners.sync_hub
        try:
            hub.sockets.require_place(caller.user)
        except BadRequest:
            raise SocketEnds(TRY_LATER, "too many connections") from None
        vouch_for(self._socket.scope)
        listener = Listener(caller.user, caller.spaces, client, self._app)
        with hub.sockets.one_more(caller.user), hub.listening(listener):
            await hub.look()  # from here on nothing is missed
            await _tell(self._socket, ToldFrame("auth-ok"))
            reads = asyncio.create_task(self._read(caller))
            tells = asyncio.create_task(self._notify(listener, caller))
            try:
                await asyncio.wait([reads, tells], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reads, tells):
                    task.cancel()
                ends = await asyncio.gather(reads, tells, return_exceptions=True)
            for end in ends:
                if isinstance(end, Exception):
                    raise end

    async def _let_in(self) -> tuple[Caller, str]:
        """Who it is, and which of their devices."""
        while True:
            frame = await self._frame()
            if frame.type == "ping":
                await _tell(self._socket, ToldFrame("pong"))
            elif frame.type == "auth" and not frame.token:
                await _tell(self._socket, ToldFrame("error", tables=("missing token",)))
            elif frame.type == "auth":
                caller = await self._caller(frame.token)
                self._token = frame.token
                client = frame.client_id or self._socket.headers.get("x-client-id", "")
                try:
                    return caller, checked_client(client)
                except BadRequest:
                    raise SocketEnds(POLICY, "clientId cannot be used") from None

    async def _read(self, caller: Caller) -> None:
        while True:
            frame = await self._frame()
            if frame.type == "ping":
                await _tell(self._socket, ToldFrame("pong"))
            elif frame.type == "auth":
                again = await self._caller(frame.token)
                if again.user != caller.user:
                    raise SocketEnds(POLICY, "another person's token")
                self._token = frame.token
                await _tell(self._socket, ToldFrame("auth-ok"))

    async def _notify(self, listener: Listener, caller: Caller) -> None:
        checked_at = time.monotonic()
        while True:
            notices = await listener.notices(RECHECK_S)
            if notices or time.monotonic() - checked_at >= RECHECK_S:
                checked_at = time.monotonic()
                with contextlib.suppress(Unavailable):
                    if (await self._caller(self._token)).spaces != caller.spaces:
                        raise SocketEnds(TRY_LATER)  # it comes back, and hears of the right ones
            for notice in notices:
                told = ToldFrame("sync-available", notice.app, notice.tables)
                await _tell(self._socket, told)

    async def _frame(self) -> SocketFrame:
        """The next one; what is no frame of ours is passed over."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            raw = message.get("text") or message.get("bytes") or ""
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return msgspec.json.decode(raw, type=SocketFrame)

    async def _caller(self, token: str) -> Caller:
        """Whose token it is; raises SocketEnds."""
        scope = self._socket.scope
        asked: Scope = {
            "type": "http",
            "method": "GET",
            "path": scope["path"],
            "headers": [(b"authorization", b"Bearer " + token.encode("ascii", "replace"))],
            "query_string": b"",
            "client": scope.get("client"),
        }
        try:
            caller = await self._owners.door.caller(Request(asked))
            must_have(caller, "read")
        except (TokenRefused, ScopeLacking):
            raise SocketEnds(POLICY, "invalid token") from None
        except (TooOften, Unavailable):
            raise SocketEnds(TRY_LATER) from None
        return await self._owners.sync_outside.seen(caller)


async def _tell(socket: WebSocket, frame: ToldFrame) -> None:
    """One frame; raises SocketEnds where it cannot be sent in time."""
    try:
        async with asyncio.timeout(WRITE_S):
            await socket.send_text(msgspec.json.encode(frame).decode())
    except TimeoutError:
        raise SocketEnds(TRY_LATER) from None


def _app_of(scope: Scope) -> str | None:
    """The app that a path names, "" for all; None for another path."""
    try:
        path = checked_path(scope["raw_path"])
        if path == "/ws":
            return ""
        head, _, app = path.removeprefix("/").partition("/")
        return checked_id("app", text_of(app)) if head == "ws" and "/" not in app else None
    except (PathUnclear, BadRequest):
        return None
