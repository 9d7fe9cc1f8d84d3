"""Answers on the key holder's doors: few connections at once, one short request on each.

The door that is always there is a Unix socket in a folder of our own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from mana_actors.http.door import Doorway, Guest, Limits
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

MAX_CONNECTIONS = 256
REQUEST_S = 5.0
"""How long one request may take, from its first byte to the last of its answer."""


class SocketUnusable(TerminalError):
    """The key holder cannot listen where it should; the text names the place and the remedy."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class KeyServer:
    """Answers on a Unix socket while its `serving` block runs; `keys` is what it says it has."""

    def __init__(self, releases: Releases, socket_path: Path, keys: int | None = None) -> None:
        self._releases, self._keys = releases, keys
        self._path = socket_path
        # Whoever has not sent a whole request yet makes room, the oldest first.
        self._door = Doorway(Limits(most=MAX_CONNECTIONS), self.count)
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Bound and answering; raises SocketUnusable."""
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise SocketUnusable(str(folder), "must be our own folder of mode 0700")
        if self._path.exists() and not self._path.is_socket():
            raise SocketUnusable(str(self._path), "is something else than a socket")
        self._path.unlink(missing_ok=True)  # what a killed key holder left
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
        """Count one more connection that ended with this outcome."""
        self._counts[outcome] += 1

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, from any door; no failure of it ends the process."""
        guest = Guest("", writer.transport.abort)
        try:
            async with asyncio.timeout(REQUEST_S):
                reply = await self._reply(reader, guest)
                if not writer.is_closing():
                    writer.write(frame(reply))
                    writer.close()
                await writer.wait_closed()  # all has been sent
        except (OSError, TimeoutError) as exc:
            log.info("key_request_abandoned error=%s", type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - a bug costs one request; its text may hold a key
            log.error("key_request_failed error=%s", type(exc).__name__)  # noqa: TRY400 - as above
        finally:
            self._door.leave(guest)
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader, guest: Guest) -> Reply:
        if not self._door.admits(guest):
            reply: Reply = KeyRefused("busy")
        else:
            try:
                request = decode_request(await read_frame(reader, MAX_REQUEST_BYTES))
            except MessageUnreadable:
                reply = KeyRefused("bad-request")
            else:
                guest.is_known = guest.is_busy = True
                if isinstance(request, AskForCounts):
                    return OutcomeCounts(dict(self._counts), self._keys)
                reply = await self._releases.answer(request)
        self.count(reply.reason if isinstance(reply, KeyRefused) else "released")
        return reply
