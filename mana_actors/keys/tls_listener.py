"""The key holder's door to other machines: only who gets through the handshake is heard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mana_actors.keys.protocol import MAX_REQUEST_BYTES
from mana_actors.keys.server import KeyServer, SocketUnusable
from mana_actors.keys.tls import ServerTls, why

log = logging.getLogger("mana.keys")

MAX_HANDSHAKES = 512
"""Beyond this many the oldest is dropped, so that slow strangers keep nobody else out."""

HANDSHAKE_S = 5.0
SHUTDOWN_S = 1.0
_PAUSE_S = 0.1


class TlsListener:
    """Accepts connections while its `serving` block runs, and hands them to the server."""

    def __init__(self, server: KeyServer, tls: ServerTls, host: str, port: int) -> None:
        self._server, self._tls = server, tls
        self._host, self._port = host, port
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}  # oldest first

    @property
    def port(self) -> int:
        """Where it listens; while `serving` the real port, also where 0 was asked for."""
        return self._port

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Bound and answering; raises SocketUnusable."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listener = socket.create_server((self._host, self._port), family=family, backlog=128)
        except OSError as exc:
            place = f"{self._host}:{self._port}"
            raise SocketUnusable(place, f"cannot listen ({exc.strerror})") from exc
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        accepting = asyncio.create_task(self._accept(listener))
        try:
            yield
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            listener.close()
            under_way = list(self._handshakes)
            while self._handshakes:
                self._drop_oldest()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as exc:  # no descriptor is free: those who wait will be accepted later
                log.warning("key_connection_not_accepted error=%s", type(exc).__name__)
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                self._drop_oldest()
            task = asyncio.create_task(self._shake_hands(connection, str(peer[0])))
            self._handshakes[task] = connection
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    def _drop_oldest(self) -> None:
        """End the oldest handshake by its socket: cancelling its task may leave the socket open."""
        connection = self._handshakes.pop(next(iter(self._handshakes)))
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    async def _shake_hands(self, connection: socket.socket, peer: str) -> None:
        """Hand the connection to the server once each side has shown its certificate."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_REQUEST_BYTES, loop=loop)
        try:
            await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, self._server.connected, loop=loop),
                connection,
                ssl=self._tls.context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except OSError as exc:  # of TLS, of the network, too slow, or dropped
            self._server.count("handshake-refused")
            log.info("key_handshake_refused peer=%s error=%s", peer, why(exc))
