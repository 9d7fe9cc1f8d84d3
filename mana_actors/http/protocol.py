"""Uvicorn's HTTP connection, with an end to all waiting and a place at a door."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mana_actors.http.door import IN_SCOPE, Doorway, Ending, Guest
from mana_actors.http.strict import StrictConnection

MAX_HEAD_BYTES = 16 * 1024
_PROGRESS_BYTES = 48 * 1024
"""What asyncio's buffer loses between asking for a pause and being ready again."""
_REFUSED = msgspec.json.encode({"error": "too many connections; try again"})
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_REFUSED), _REFUSED)
)


class DoorConfig(uvicorn.Config):
    """Uvicorn's configuration, and the door that its connections come through."""

    def __init__(self, app: Any, door: Doorway, **more: Any) -> None:
        super().__init__(app, http=DoorProtocol, **more)
        self.door = door


class DoorProtocol(H11Protocol):
    """One connection: what it waits for has a deadline, told by `overstayed` every half second."""

    def __init__(
        self,
        config: DoorConfig,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = config.door
        self._limits = config.door.limits
        self._strict = self.conn = StrictConnection(h11.SERVER, MAX_HEAD_BYTES)
        self._guest = Guest("", self._dropped)
        self.app_state = {**app_state, IN_SCOPE: self._guest}
        self._is_refused = False
        self._head_since: float | None = None
        self._body_since = 0.0
        self._unread, self._read_at = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Come in, or be refused in one line."""
        super().connection_made(transport)
        self._read_at = self.loop.time()
        self._guest.address = self.client[0] if self.client else ""
        self._is_refused = not self._door.admits(self._guest)
        if self._is_refused:
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._door.leave(self._guest)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless we have said no already."""
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)

    def handle_events(self) -> None:
        """As uvicorn, and notice when a request's head is whole."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._head_since, self._body_since = None, self.loop.time()
            if any(name == b"transfer-encoding" for name, _ in self.headers):
                # Where chunks end is what readers differ in; so nothing is read after them.
                self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]
        is_whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        self._guest.is_busy = is_whole and self.cycle and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """As uvicorn; an answered connection is idle until its next request begins."""
        self._guest.is_busy = False
        super().on_response_complete()

    def resume_writing(self) -> None:
        """As uvicorn; the reader has taken most of what waited."""
        self._unread, self._read_at = 0, self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Say what was wrong with the bytes, where an answer can still be given."""
        self._door.count("malformed")
        self._end(*self._strict.refusal)

    def look(self, now: float) -> None:
        """End the connection if it has kept us waiting for longer than its door allows."""
        ending = self._overstayed(now)
        if ending is None:
            return
        self._door.count(ending)
        if ending == "slow" and not self.transport.is_closing():
            self._end(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
        else:
            self.transport.abort()

    def _overstayed(self, now: float) -> Ending | None:
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread <= self._unread - _PROGRESS_BYTES:
            self._unread, self._read_at = unread, now
        self._unread = max(self._unread, unread)
        if now - self._read_at > self._limits.write_s:
            return "answer-unread"
        state = self.conn.their_state
        # Between two requests uvicorn's own timer runs, until a byte of the next one comes.
        if state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._head_since = self._head_since or now
            return "slow" if now - self._head_since > self._limits.head_s else None
        waits_for_body = state is h11.SEND_BODY
        return "slow" if waits_for_body and now - self._body_since > self._limits.body_s else None

    def _end(self, status: int, problem: str) -> None:
        """Answer if nothing was answered yet, and hang up; whoever serves it hears that it left."""
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = msgspec.json.encode({"error": problem})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        reason = HTTPStatus(status).phrase.encode()
        events = (
            h11.Response(status_code=status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _dropped(self) -> None:
        self.transport.abort()


class DoorSocket(WebSocketsSansIOProtocol):
    """A connection that became a WebSocket: it keeps its place at the door, and must be read."""

    def __init__(
        self,
        config: DoorConfig,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door, self._guest = config.door, app_state[IN_SCOPE]
        self._unread_since: float | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._door.leave(self._guest)
        super().connection_lost(exc)

    def look(self, now: float) -> None:
        """End the connection if what was sent is not taken."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
            return
        self._unread_since = self._unread_since or now
        if now - self._unread_since > self._door.limits.write_s:
            self._door.count("answer-unread")
            self.transport.abort()
