"""Listening: the socket is bound first, so that an occupied port is one clear line."""

import asyncio
import errno
import socket

import uvicorn
from starlette.types import ASGIApp

DRAIN_S = 5
POLL_S = 0.01


class CannotListen(Exception):
    """The address is taken or not ours; `str` is one line that names it."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host, self.port, self.reason = host, port, reason

    def __str__(self) -> str:
        return (
            f"cannot listen on {self.host} port {self.port}: {self.reason};"
            " choose another with PORT or --port"
        )


class Serving:
    """A running server: where it is, and its end."""

    def __init__(self, server: uvicorn.Server, listening: socket.socket, host: str) -> None:
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
        """Finish requests under way, at most 5 s, and free the port."""
        self._server.should_exit = True
        await asyncio.wait([self._task])
        self._socket.close()


class _Server(uvicorn.Server):
    """Signals belong to the process's own main, not to a server inside it."""

    def capture_signals(self) -> "_NoSignals":  # pyright: ignore[reportIncompatibleMethodOverride]
        return _NoSignals()


class _NoSignals:
    def __enter__(self) -> None:
        """Capture nothing."""

    def __exit__(self, *_: object) -> None:
        """Restore nothing."""


async def serve(app: ASGIApp, host: str, port: int) -> Serving:
    """The app on an address, answering; port 0 takes a free one. Raises CannotListen."""
    config = uvicorn.Config(
        app,
        http="h11",  # refuses what is not HTTP strictly
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        limit_concurrency=256,
    )
    serving = Serving(_Server(config), bound_socket(host, port), host)
    await serving.ready()
    return serving


def bound_socket(host: str, port: int) -> socket.socket:
    """A TCP socket on this address; raises CannotListen."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise CannotListen(host, port, "there is no such address") from exc
    listening = socket.socket(family, kind, proto)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError as exc:
        listening.close()
        raise CannotListen(host, port, _reason(exc)) from exc
    return listening


def _reason(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the port is taken by another program"
    return exc.strerror or type(exc).__name__
