"""Answers on the key holder's doors: few connections at once, one short request on each.

The one door that is always there is a Unix socket: a private file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from mana_actors.keys.protocol import (
    MAX_REQUEST_BYTES,
    AskForCounts,
    KeyRefused,
    MessageUnreadable,
    OutcomeCounts,
    Reply,
    decode_request,
    frame,
    read_frame,
)
from mana_actors.keys.releases import Releases
from state.errors import TerminalError

log = logging.getLogger("mana.keys")

MAX_CONNECTIONS = 64
REQUEST_S = 5.0
"""How long one request may take, from its first byte to the last of its answer."""


class SocketUnusable(TerminalError):
    """It cannot listen where it should; the text names the place and the remedy."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class KeyServer:
    """Answers on a Unix socket while its `serving` block runs."""

    def __init__(self, releases: Releases, socket_path: Path) -> None:
        self._releases = releases
        self._path = socket_path
        self._open = 0
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Bound and answering; raises SocketUnusable."""
        _prepare(self._path)
        try:
            server = await asyncio.start_unix_server(
                self.connected, self._path, limit=MAX_REQUEST_BYTES
            )
        except OSError as exc:
            raise SocketUnusable(str(self._path), f"cannot listen ({exc.strerror})") from exc
        self._path.chmod(0o600)
        try:
            yield
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    def count(self, outcome: str) -> None:
        """One more connection that ended so."""
        self._counts[outcome] += 1

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from any door; no failure of one ends the process."""
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_S):
                await self._exchange(reader, writer)
        except (OSError, TimeoutError) as exc:
            log.info("key_request_abandoned error=%s", type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - a bug costs one request; its text may hold a key
            log.error("key_request_failed error=%s", type(exc).__name__)  # noqa: TRY400 - as above
        finally:
            self._open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(await self._reply(reader)))
        await writer.drain()

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        if self._open > MAX_CONNECTIONS:
            return self._counted(KeyRefused("busy"))
        try:
            request = decode_request(await read_frame(reader, MAX_REQUEST_BYTES))
        except MessageUnreadable:
            return self._counted(KeyRefused("bad-request"))
        if isinstance(request, AskForCounts):
            return OutcomeCounts(dict(self._counts))
        return self._counted(await self._releases.answer(request))

    def _counted(self, reply: Reply) -> Reply:
        self.count(reply.reason if isinstance(reply, KeyRefused) else "released")
        return reply


def _prepare(path: Path) -> None:
    """A private folder of our own, and nothing where the socket shall be."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = path.parent.lstat()
    if folder.st_uid != os.geteuid() or folder.st_mode & 0o077:
        raise SocketUnusable(str(path.parent), "must be our own folder of mode 0700")
    if path.exists() and not path.is_socket():
        raise SocketUnusable(str(path), "is something else than a socket")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # what a killed key holder left
