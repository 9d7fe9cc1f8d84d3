"""Processes of this machine as /proc shows them: who descends from whom, and who bears a mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

MARK = "MANA_NODE_MARK"
"""The variable that all processes of a node inherit, but for Postgres, which outlives it."""

POLL_S = 0.02
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


def mark_of(data_dir: str | Path) -> str:
    """What marks the processes of the node on a data directory, and of no other on this machine.

    The folder itself, not its path: a container has the same path and another folder.
    """
    found = Path(data_dir).stat()
    return f"{found.st_dev:x}-{found.st_ino:x}"


def adopt_orphans() -> None:
    """From now on what descends from this process becomes its child when its parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once where that has happened."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def descendants(ancestor: int) -> set[int]:
    """Its live children, their children, and so on."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid in _pids():
        parent = _live_parent(pid)
        if parent is not None:
            children[parent].append(pid)
    found: set[int] = set()
    ahead = [ancestor]
    while ahead:
        new = [pid for pid in children[ahead.pop()] if pid not in found]
        found.update(new)
        ahead += new
    return found


def marked(mark: str) -> set[int]:
    """Live processes that were started with this mark; this one and its ancestors do not count."""
    wanted = f"{MARK}={mark}".encode()
    spared = {os.getpid()}
    above = os.getppid()
    while above:
        spared.add(above)
        above = _live_parent(above) or 0
    return {
        pid
        for pid in _pids()
        if pid not in spared and wanted in _environment(pid) and _live_parent(pid) is not None
    }


def ray_parts(node_id: str) -> dict[str, int]:
    """Raylet and GCS of a Ray node, as far as they run on this machine, by what they are called.

    Each of them names its node among its arguments; of a node that joined, the GCS is elsewhere.
    """
    found: dict[str, int] = {}
    for pid in _pids():
        program, *arguments = _words(pid) or [""]
        if Path(program).name == "raylet" and f"--node_id={node_id}" in arguments:
            found["Ray's raylet"] = pid
        if Path(program).name == "gcs_server" and f"--node-id={node_id}" in arguments:
            found["Ray's GCS"] = pid
    return found


def name_of(pid: int) -> str:
    """What the program of a process is called, "" where it is gone."""
    return Path((_words(pid) or [""])[0]).name


def end_all(find: Callable[[], set[int]], within_s: float) -> set[int]:
    """Kill what `find` finds until it finds none, for so long at most; the ones that it found."""
    ended: set[int] = set()
    give_up = time.monotonic() + within_s
    while found := find():
        ended |= found
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up:
            break
        time.sleep(POLL_S)
    return ended


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _live_parent(pid: int) -> int | None:
    """The parent of a live process; None for one that is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def _words(pid: int) -> list[str]:
    """The command that it was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    """What it was started with; nothing where it is gone or another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
