"""A process that has imported what workers import, and forks one for each that asks.

No thread, no connection, no secret: what it has was read from files of code. It ends with its
raylet, and so do its forks, and as soon as the code on disk is another.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from mana_actors.fork_server import TRIED
from mana_actors.fork_server.place import SOCKET, address_in, is_ours, open_folder
from mana_actors.fork_server.worker import LOCK_FD, RAYLET_FD

IMPORTED = (
    "ray._private.workers.default_worker",
    "mana_actors.agent.actor",
    "mana_actors.remote",
)
IF_THERE = (
    "aiohttp",
    "anyio._backends._asyncio",
    "asyncpg",
    "concurrent.futures.thread",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.hpke",
    "pydantic.v1",
    "ray._common.usage.usage_lib",
    "ray._private.arrow_serialization",
    "starlette.datastructures",
)
"""What workers import as they go: Ray when it connects and pickles, agents in a run."""
_BACKLOG = 256
_PACKAGES = ("state.", "mana_actors.", "supervisor.")


def import_all() -> None:
    """Load what workers need; raises ImportError where Ray is not the one that was tried."""
    for name in IMPORTED:
        importlib.import_module(name)
    for name in IF_THERE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    version = getattr(sys.modules["ray"], "__version__", None)
    if version != TRIED:
        raise ImportError(f"Ray {version} was not tried, {TRIED} was")
    if len(os.listdir("/proc/self/task")) != 1:
        raise ImportError("a thread was started")  # a fork would have its locks, but not it
    gc.collect()
    gc.freeze()  # pages of what is here stay shared, since no collection writes to them
    gc.disable()


class ForkServer:
    """Listens in a folder; in this process `next_fork` returns only in forks."""

    def __init__(self, folder: str) -> None:
        self._folder = open_folder(folder)
        self._listener = socket.socket(socket.AF_UNIX)
        draft = f"{SOCKET}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self._folder)
        self._listener.bind(address_in(self._folder, draft))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        # In one step: who connects meets a server or none.
        os.rename(draft, SOCKET, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        ours_and_ray = [
            str(module.__file__)
            for name, module in list(sys.modules.items())
            if name.startswith(_PACKAGES) or name == "ray"
        ]
        self._code = _on_disk(ours_and_ray)

    def next_fork(self) -> socket.socket:
        """In a fork: the connection of whoever asked for it. The server itself ends in here."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ray asks `kill(pid, 0)`: leave no zombies
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        ready.register(RAYLET_FD, select.POLLIN)
        while True:
            descriptors = {descriptor for descriptor, _ in ready.poll()}
            if RAYLET_FD in descriptors or self._code != _on_disk(self._code):
                # The lock is held until we are gone, so the socket is nobody else's.
                with contextlib.suppress(OSError):
                    os.unlink(SOCKET, dir_fd=self._folder)
                if RAYLET_FD in descriptors:
                    # Workers of a raylet that is gone ask `kill(pid, 0)`: it may wait to be reaped.
                    own = os.getpid()
                    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
                    for pid in children:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                os._exit(0)
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it gave up meanwhile
                continue
            try:
                is_fork = is_ours(connection) and os.fork() == 0
            except OSError:  # no more processes: that one starts as Ray would
                is_fork = False
            if is_fork:
                break
            connection.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._listener.close()
        for descriptor in (self._folder, LOCK_FD, RAYLET_FD):
            os.close(descriptor)
        return connection


def _on_disk(paths: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Which files these are now: once they are others, forks would be of an older release."""
    found: dict[str, tuple[int, int, int]] = {}
    for path in paths:
        try:
            file = os.stat(path)
            found[path] = file.st_ino, file.st_mtime_ns, file.st_size
        except FileNotFoundError:
            found[path] = 0, 0, 0
    return found
