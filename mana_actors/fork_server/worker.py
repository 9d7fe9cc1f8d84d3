"""The first moments of a worker that Ray started: another process goes on in its place, or it does.

Nothing here may cost much or stop a worker: whatever is not as it was tried, Ray's start goes on.
"""

from __future__ import annotations

import _socket as socket  # what `socket` wraps: to import that takes half as long as Python's start
import fcntl
import os
import struct
import sys
import time

from mana_actors.fork_server import FOLDER_VARIABLE
from mana_actors.fork_server.place import LOCK, address_in, is_ours, open_folder
from mana_actors.fork_server.request import StartRequest

PATIENCE_S = 5.0
LAUNCH_EVERY_S = 30.0
"""A server that dies soon after its start must not cost every worker another start."""
LENGTH_BYTES = 4
STANDARD_FILES = struct.Struct("3i")
READY, GO = b"r", b"g"
LOCK_FD, RAYLET_FD, FIRST_FREE_FD = 3, 4, 5


def hand_over() -> None:
    """End this process if a fork goes on in its place; else return, and have a server started."""
    try:
        request = StartRequest(list(sys.orig_argv), dict(os.environ), os.getcwd())
        if not request.is_of_a_kind_tried:
            return
        folder = open_folder(os.environ[FOLDER_VARIABLE])
        try:
            if _taken_over(folder, request):
                os._exit(0)
            _launch(folder)
        finally:
            os.close(folder)
    except (OSError, LookupError):
        return


def _taken_over(folder: int, request: StartRequest) -> bool:
    """Whether a fork stands ready and was told to go on: only then does it, and only it does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    try:
        connection.connect(address_in(folder))
        if not is_ours(connection):
            return False
        raw = request.to_wire()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, STANDARD_FILES.pack(0, 1, 2))]
        connection.sendmsg([len(raw).to_bytes(LENGTH_BYTES, "big")], rights)
        connection.sendall(raw)
        if connection.recv(1) != READY:
            return False
        connection.sendall(GO)
    except OSError:  # nobody there, gone meanwhile, or stopped
        return False
    else:
        return True
    finally:
        connection.close()


def _launch(folder: int) -> None:
    """Start the server, unless it lives or was started just now; it is nobody's child.

    Ray ends the children of a worker with it, and the group of its processes.
    """
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent = os.getppid()
        raylet = os.pidfd_open(parent)
        mark = str(parent).encode()
        age_s = time.time() - os.fstat(lock).st_mtime
        if os.pread(lock, len(mark) + 1, 0) == mark and 0 <= age_s < LAUNCH_EVERY_S:
            return
        if os.getppid() != parent or os.environ["RAY_RAYLET_PID"] != str(parent):
            return  # it ended meanwhile, and its number may be another's
        os.ftruncate(lock, 0)
        os.pwrite(lock, mark, 0)
        middle = os.fork()
        if middle == 0:
            _become_server(lock, raylet)
        os.waitpid(middle, 0)
        os.close(raylet)
    finally:
        os.close(lock)


def _become_server(lock: int, raylet: int) -> None:
    """In a child: start the server in a process and a group of its own; never returns."""
    try:
        if os.fork() == 0:
            os.setpgid(0, 0)
            high = [fcntl.fcntl(file, fcntl.F_DUPFD, FIRST_FREE_FD) for file in (lock, raylet)]
            os.dup2(high[0], LOCK_FD)
            os.dup2(high[1], RAYLET_FD)
            os.closerange(FIRST_FREE_FD, os.sysconf("SC_OPEN_MAX"))
            program = [sys.executable, "-P", "-m", "mana_actors.fork_server"]
            os.execv(sys.executable, [*program, *sys.orig_argv])
    finally:
        os._exit(0)
