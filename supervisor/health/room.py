"""Room on the disks that a node writes to: bytes and inodes, against what shall stay free.

What is kept free is for what is under way already; a run that begins needs more than that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from mana_actors.background import begun_apart
from state.store.embedded.places import Places
from supervisor.node.settings import Settings

FRESH_S = 1.0
PATIENCE_S = 1.5
AGAIN = 1.25
"""Once short, a folder has room again with so many times what shall stay free: no flapping."""
MB = 1024 * 1024
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, never written


class Reserve(msgspec.Struct, frozen=True):
    """What shall stay free in the file system of a folder; 0 asks for nothing."""

    path: str
    least_bytes: int
    least_inodes: int = 0


class Room(msgspec.Struct, frozen=True):
    """What is free for us in a folder's file system, and what shall be."""

    reserve: Reserve
    free_bytes: int
    free_inodes: int | None = None  # None: it does not count them

    def is_short(self, times: float = 1.0) -> bool:
        """Whether less is free than so many times what shall be."""
        if self.free_bytes < times * self.reserve.least_bytes:
            return True
        return self.free_inodes is not None and self.free_inodes < times * self.reserve.least_inodes


def reserves(settings: Settings, ray_folder: str | None) -> dict[str, Reserve]:
    """What shall stay free in each folder that a node writes to, by what people call it."""
    least, inodes = settings.disk_free_mb * MB, settings.disk_free_inodes
    folders = {"data folder": settings.data_dir}
    if settings.is_embedded:
        folders["Postgres' folder"] = str(Places(Path(settings.data_dir)).data)
    if ray_folder is not None:
        folders["Ray's folder"] = ray_folder
    wanted = {name: Reserve(path, least, inodes) for name, path in folders.items()}
    return wanted | {"shared memory": Reserve(SHARED_MEMORY, settings.shm_free_mb * MB)}


def rooms_in(wanted: Mapping[str, Reserve]) -> dict[str, Room]:
    """The room in each folder that is there; may wait for a file system that does not answer."""
    found: dict[str, Room] = {}
    for name, reserve in wanted.items():
        try:
            told = os.statvfs(reserve.path)
        except OSError:  # not there on this machine, or gone: whoever needs it says so
            continue
        free_inodes = told.f_favail if told.f_files else None
        found[name] = Room(reserve, told.f_bavail * told.f_frsize, free_inodes)
    return found


class RoomWatch:
    """The room now, asked at most once a second and never waited for long."""

    def __init__(
        self,
        wanted: Mapping[str, Reserve],
        look: Callable[[Mapping[str, Reserve]], dict[str, Room]] = rooms_in,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted, self._look, self._clock = wanted, look, clock
        self._asked: Future[dict[str, Room]] | None = None
        self._asked_at = 0.0
        self.rooms: dict[str, Room] = {}
        self.short: Sequence[str] = ()
        """Names of the folders without enough room, as of the last look."""

    async def look(self) -> Sequence[str]:
        """The folders that are short of room now; what does not answer is as it was."""
        if self._asked is None:
            if self._clock() - self._asked_at < FRESH_S and self.rooms:
                return self.short
            self._asked_at = self._clock()
            self._asked = begun_apart(partial(self._look, self._wanted))
        try:
            rooms = await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(self._asked)), PATIENCE_S
            )
        except TimeoutError:  # it is asked about again by whoever comes next
            return self.short
        self._asked = None
        self.rooms = rooms
        self.short = [
            name
            for name, room in rooms.items()
            if room.is_short(AGAIN if name in self.short else 1.0)
        ]
        return self.short

    @property
    def silent_s(self) -> float:
        """For how long a file system has not answered; 0 where all do."""
        return self._clock() - self._asked_at if self._asked is not None else 0.0
