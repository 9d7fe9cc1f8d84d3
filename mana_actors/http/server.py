"""Uvicorn as we run it: strict HTTP through a door, no signal handlers, no log of its own."""

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.bodies import answer
from mana_actors.http.door import LOOPBACK_PROXIES, Doorway, Limits
from mana_actors.http.names import Names, header, local_url
from mana_actors.http.protocol import DoorConfig, DoorProtocol, DoorSocket
from mana_actors.http.sockets import BACKLOG, CannotListen, bound_socket

POLL_S = 0.01
MAX_MESSAGE_BYTES = 16 * 1024
"""Of a message that a WebSocket brings."""
_LOOK_EVERY_TICKS = 5  # of a tenth of a second


class HttpServer(uvicorn.Server):
    """A server inside a process: signals belong to the process's own main."""

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn, and end connections that keep us waiting."""
        if counter % _LOOK_EVERY_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, DoorProtocol | DoorSocket):
                    connection.look(now)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


def server_of(
    app: ASGIApp,
    door: Doorway | None = None,
    *,
    names: Names | None = None,
    proxies: tuple[str, ...] = LOOPBACK_PROXIES,
    drain_s: int = 2,
    keep_alive_s: int = 5,
    has_sockets: bool = False,
) -> HttpServer:
    """A server for an app, not started; the caller brings the socket.

    Without `names` it answers to loopback's only. `proxies` may say from where, and by which
    scheme, a request came. `drain_s` is how long requests under way may take after a stop,
    `keep_alive_s` how long an idle connection stays. `has_sockets`: the app serves WebSockets, too.
    """
    door = Doorway(Limits()) if door is None else door
    config = DoorConfig(
        OwnNamesOnly(app, names or Names()),
        door,
        ws=DoorSocket if has_sockets else "none",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        log_level="error",  # what strangers send is counted; a line for each would fill a disk
        access_log=False,
        lifespan="off",
        server_header=False,
        forwarded_allow_ips=list(proxies),
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,
        # Requests of callers who hung up go on for a while.
        limit_concurrency=2 * door.limits.most,
    )
    return HttpServer(config)


class OwnNamesOnly:
    """An app for who asks it by one of its names; others get 421."""

    def __init__(self, inner: ASGIApp, names: Names) -> None:
        self._inner, self._names = inner, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or say that this is somebody else's name."""
        # Without any it is no browser: HTTP/1.0 knows none.
        if all(self._names.has(host) for host in header(scope, b"host")):
            await self._inner(scope, receive, send)
            return
        problem = "host: is not a name of this server; MANA_PUBLIC_URL names those that people use"
        refused = answer({"error": problem, "field": "host"}, 421)
        await refused(scope, receive, send)


class RunningServer:
    """A server on the running loop: where it is, and its end."""

    def __init__(self, server: HttpServer, listening: socket.socket, host: str) -> None:
        self._server = server
        self._socket = listening
        self.port = int(listening.getsockname()[1])
        self.url = local_url(host, self.port)
        self._task = asyncio.create_task(server.serve([listening]))

    async def ready(self) -> None:
        """Return once it answers; raises what kept it from starting."""
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise CannotListen("", self.port, "the server ended while starting")
            await asyncio.sleep(POLL_S)

    async def until_over(self) -> None:
        """Return once it serves nobody any more; raises what ended it."""
        await asyncio.wait([self._task])
        self._task.result()

    async def stop(self) -> None:
        """Finish requests under way, for a few seconds at most, and free the port."""
        self._server.should_exit = True
        await asyncio.wait([self._task])
        self._socket.close()


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    door: Doorway | None = None,
    *,
    names: Names | None = None,
    proxies: tuple[str, ...] = LOOPBACK_PROXIES,
    has_sockets: bool = False,
) -> RunningServer:
    """The app on an address that people reach, answering; port 0 takes a free one.

    Raises CannotListen.
    """
    server = server_of(app, door, names=names, proxies=proxies, drain_s=5, has_sockets=has_sockets)
    running = RunningServer(server, bound_socket(host, port), host)
    await running.ready()
    return running
