"""Where the fork server answers, and who may speak there: nobody but the folder's owner."""

from __future__ import annotations

import _socket as socket  # as in `worker`
import os
import stat
import struct

SOCKET, LOCK = "socket", "lock"

_UCRED = struct.Struct("3i")  # pid, uid, gid


def open_folder(path: str) -> int:
    """A descriptor of the folder, made if missing; raises OSError where others may write."""
    if not os.path.lexists(path):
        os.mkdir(path, 0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        os.close(folder)
        raise PermissionError(path)
    return folder


def address_in(folder: int, name: str = SOCKET) -> str:
    """The socket's address, by the descriptor: a path of its own could be longer than 107 bytes."""
    return f"/proc/self/fd/{folder}/{name}"


def is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as the same user."""
    return peer(connection)[1] == os.geteuid()


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return pid, uid
