"""What a fork does to be the worker that asked for it, as if Ray had started it."""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import socket
import sys
from pathlib import Path

from mana_actors.fork_server.place import peer
from mana_actors.fork_server.request import StartRequest
from mana_actors.fork_server.worker import GO, LENGTH_BYTES, PATIENCE_S, READY

MOST_BYTES = 4 * 1024 * 1024


class _Here:
    is_fork = False


def is_fork() -> bool:
    """Whether this process began as a fork."""
    return _Here.is_fork


def go_on_as(connection: socket.socket, first: StartRequest) -> None:
    """Be the worker at the other end, until it ends; or end at once, and it starts as Ray would."""
    try:
        connection.settimeout(PATIENCE_S)
        request = _read(connection)
        if not request.is_like(first):
            os._exit(1)
        # Ray ends a worker with all of its group.
        os.setpgid(0, 0)
        # It has the kernel end workers first when memory is out, and said so of the other process.
        pid, _ = peer(connection)
        with contextlib.suppress(OSError):
            likely = Path(f"/proc/{pid}/oom_score_adj").read_text()
            Path("/proc/self/oom_score_adj").write_text(likely)
        os.environ |= request.environment
        sys.orig_argv[:] = request.command
        sys.argv = request.command[1:]
        script = request.command[1]
        gc.enable()
        _Here.is_fork = True
        connection.sendall(READY)
        # Without this word the other one is not gone, and two would be one worker.
        if connection.recv(1) != GO:
            os._exit(1)
        connection.close()
    except (OSError, ValueError):
        os._exit(1)
    runpy.run_path(script, run_name="__main__")


def _read(connection: socket.socket) -> StartRequest:
    """The request; its three standard files become ours. Raises ValueError and OSError."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 3)
    length = int.from_bytes(head, "big")
    if len(head) != LENGTH_BYTES or len(files) != 3 or length > MOST_BYTES:
        raise ValueError(length)
    raw = bytearray()
    while len(raw) < length:
        part = connection.recv(length - len(raw))
        if not part:
            raise ValueError(length)
        raw += part
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return StartRequest.from_wire(bytes(raw))
