"""CPU that processes burned, as the kernel counts it: of a tree, and of one database login."""

import os
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import asyncpg

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree_of(root: int) -> list[int]:
    """A process and all that descend from it, while they live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = list[int](), [root]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def burned_s(pids: Iterable[int]) -> float:
    """Seconds of these and of all children that they saw end; to the tick (10 ms) per process."""
    ticks = 0
    for pid in pids:
        if fields := _fields(pid):
            ticks += sum(map(int, fields[11:15]))  # user, system, and both of ended children
    return ticks * _TICK_S


def burned_by_kind(pids: Iterable[int]) -> dict[str, float]:
    """The same by what a process is: an actor's class, a database login, a module, a program."""
    found: dict[str, float] = {}
    for pid in pids:
        kind = _kind(pid)
        found[kind] = found.get(kind, 0.0) + burned_s([pid])
    return found


def _kind(pid: int) -> str:
    """A process by its command line, which Ray and Postgres set as they go."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().split()
    except OSError:
        return "ended"
    if not words:
        return "ended"
    if words[0].startswith("ray::"):
        return re.split(r"[.(]", words[0])[0]
    if words[0] == "postgres:":
        return f"postgres: {words[1]}"
    modules = [word for before, word in pairwise(words) if before == "-m"]
    return next(iter(modules), Path(words[0]).name)


class Meter:
    """CPU of processes that come and go: what each had burned when it was last looked at.

    Ray lets ended workers go without a word, so that no parent's count has them.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], int] = {}

    def look(self, pids: Iterable[int]) -> float:
        """Seconds of all that were ever seen, their children apart."""
        for pid in pids:
            if fields := _fields(pid):
                self._seen[pid, fields[19]] = int(fields[11]) + int(fields[12])  # by its start
        return sum(self._seen.values()) * _TICK_S


def _fields(pid: int) -> list[str] | None:
    """What /proc/PID/stat has after the name; None for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


async def backends_ns(connection: asyncpg.Connection, role: str) -> dict[int, int]:
    """Nanoseconds on a CPU by process, of the backends that this login has open now."""
    rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", role)
    found = {row["pid"]: _on_cpu_ns(row["pid"]) for row in rows}
    return {pid: ns for pid, ns in found.items() if ns is not None}


def _on_cpu_ns(pid: int) -> int | None:
    """Of a process with one thread; to the nanosecond, unlike /proc/PID/stat."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except OSError:
        return None


async def postmaster(connection: asyncpg.Connection) -> int:
    """The server's first process."""
    return _recorded(await connection.fetchval("SELECT current_setting('data_directory')"))


def _recorded(folder: str) -> int:
    return int(Path(folder, "postmaster.pid").read_text().split()[0])
