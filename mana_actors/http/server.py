"""Uvicorn as we run it: strict HTTP, no signal handlers, no log of its own."""

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from mana_actors.http.sockets import CannotListen, bound_socket

POLL_S = 0.01


class HttpServer(uvicorn.Server):
    """A server inside a process: signals belong to the process's own main."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


def server_of(
    app: ASGIApp,
    *,
    drain_s: int = 2,
    keep_alive_s: int = 5,
    most_at_once: int | None = None,
) -> HttpServer:
    """A server for an app, not started; the caller brings the socket.

    `drain_s` is how long requests under way may take after a stop, `keep_alive_s` how long an idle
    connection stays. Beyond `most_at_once` connections or requests, callers are answered 503.
    """
    config = uvicorn.Config(
        app,
        http="h11",  # refuses what is not HTTP strictly
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,
        limit_concurrency=most_at_once,
    )
    return HttpServer(config)


class RunningServer:
    """A server on the running loop: where it is, and its end."""

    def __init__(self, server: HttpServer, listening: socket.socket, host: str) -> None:
        self._server = server
        self._socket = listening
        self.port = int(listening.getsockname()[1])
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
        self.url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{self.port}"
        self._task = asyncio.create_task(server.serve([listening]))

    async def ready(self) -> None:
        """Return once it answers; raises what kept it from starting."""
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise CannotListen("", self.port, "the server ended while starting")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Finish requests under way, for a few seconds at most, and free the port."""
        self._server.should_exit = True
        await asyncio.wait([self._task])
        self._socket.close()


async def serve(app: ASGIApp, host: str, port: int) -> RunningServer:
    """The app on an address that people reach, answering; port 0 takes a free one.

    Raises CannotListen.
    """
    server = server_of(app, drain_s=5, most_at_once=256)
    running = RunningServer(server, bound_socket(host, port), host)
    await running.ready()
    return running
