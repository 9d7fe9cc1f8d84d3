"""Whether Ray on this machine can start a process: sockets, raylet and head, without asking Ray.

Ray's own calls wait for a minute where the head is silent. Its servers speak HTTP/2, and say so to
whoever connects, with or without a token: one that is stopped or gone does not.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress

from mana_actors.remote import RayPlaces

WITHIN_S = 1.5
CONNECTED_EVERY = 30
"""An unchanged socket is connected to at each so manieth look only: the raylet logs each time."""

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


class RayLife:
    """Signs of life of one Ray, as of the last look."""

    def __init__(self, places: RayPlaces) -> None:
        self._places = places
        self._known: dict[str, tuple[tuple[int, int], int]] = {}  # identity, looks since

    async def look(self) -> dict[str, str]:
        """What is wrong with `raylet` and `gcs`, in words; nothing where all is well."""
        places, troubles = self._places, dict[str, str]()
        raylet, head, *sockets = await asyncio.gather(
            silence(places.raylet_address),
            silence(places.gcs_address),
            self._socket_fault(places.raylet_socket),
            self._socket_fault(places.store_socket),
        )
        if raylet is not None:
            troubles["raylet"] = f"Ray's raylet at {places.raylet_address} {raylet}"
        elif fault := next(filter(None, sockets), None):
            troubles["raylet"] = fault
        if head is not None:
            troubles["gcs"] = f"Ray's head (GCS) at {places.gcs_address} {head}"
        return troubles

    async def _socket_fault(self, path: str) -> str | None:
        try:
            found = os.stat(path)  # noqa: PTH116 - in memory: Ray's folder is a local one
        except OSError as exc:
            self._known.pop(path, None)
            return f"Ray's socket {path} is gone ({exc.strerror})"
        identity, looks = (found.st_ino, found.st_ctime_ns), 0
        if path in self._known:
            known, looks = self._known[path]
            looks = looks + 1 if known == identity else 0
        if looks % CONNECTED_EVERY == 0:
            if not stat.S_ISSOCK(found.st_mode):
                return f"{path} is no socket of Ray's"
            try:
                async with asyncio.timeout(WITHIN_S):
                    _, writer = await asyncio.open_unix_connection(path)
                await _closed(writer)
            except (OSError, TimeoutError):
                self._known.pop(path, None)
                return f"Ray's socket {path} refuses to connect"
        self._known[path] = identity, looks
        return None


async def silence(address: str, within_s: float = WITHIN_S) -> str | None:
    """How a server of Ray's keeps silent, in words; None where it lives.

    One that hangs up at our greeting (it may want TLS) lives as well.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(_GREETING)
                with suppress(ConnectionError):
                    await reader.read(1)
            finally:
                await _closed(writer)
    except TimeoutError:
        return "does not answer"
    except (OSError, ValueError) as exc:
        return f"is gone ({getattr(exc, 'strerror', None) or type(exc).__name__})"
    return None


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
