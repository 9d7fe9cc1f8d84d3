"""What a server says about itself: in postmaster.pid while it runs, in its logs when it ended."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

SERVER_NAMES = ("postgres", "postmaster")
WORST_FIRST = ("PANIC:", "FATAL:", "error:", "ERROR:")


class Postmaster(msgspec.Struct, frozen=True):
    """The first lines of postmaster.pid; `port` is 0 until Postgres has written it."""

    pid: int
    port: int = 0
    socket_dir: str = ""
    state: str = ""

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"


def recorded(data_dir: Path) -> Postmaster | None:
    """The server that postmaster.pid names, dead or alive; None without a readable file."""
    try:
        lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    lines = [line.strip() for line in lines] + [""] * 8
    if not lines[0].lstrip("-").isdigit():
        return None
    pid = abs(int(lines[0]))  # negative: a single-user backend holds the data
    port = int(lines[3]) if lines[3].isdigit() else 0
    return Postmaster(pid, port, lines[4], lines[7])


def live_server(data_dir: Path) -> Postmaster | None:
    """The live server of this folder; None when postmaster.pid is stale or absent.

    Process ids are reused, so a live process counts only when it is a Postgres of this folder.
    """
    found = recorded(data_dir)
    if found is None or not is_alive(found.pid):
        return None
    words = _command_line(found.pid)
    if words is None:
        return found  # unknown: better to refuse than to run two servers on one folder
    if not words or Path(words[0]).name not in SERVER_NAMES:
        return None
    if "-D" not in words[:-1]:
        return found
    try:
        is_here = Path(words[words.index("-D") + 1]).samefile(data_dir)
    except OSError:
        return None
    return found if is_here else None


def is_alive(pid: int) -> bool:
    """True while a process with this id runs; one that only waits to be reaped does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Path("/proc/self/stat").exists() is False  # gone meanwhile, or no /proc here
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def log_sizes(logs: Path) -> dict[Path, int]:
    """How long each log is now, in bytes."""
    return {path: path.stat().st_size for path in logs.glob("*.log")}


def last_complaint(logs: Path, seen: Mapping[Path, int]) -> str:
    """Why the server ended: the last of the worst lines that its logs got since `seen`.

    Such a line shows no row's contents, because our settings keep those out of the logs.
    """
    fresh: list[str] = []
    for path in sorted(logs.glob("*.log")):
        with path.open("rb") as file:
            file.seek(seen.get(path, 0))
            fresh += file.read().decode("utf-8", "replace").splitlines()
    bad = (
        line.partition(mark)[2] for mark in WORST_FIRST for line in reversed(fresh) if mark in line
    )
    reason = next(bad, fresh[-1] if fresh else "")
    return reason.strip() or f"it ended without a reason; see {logs}"


def _command_line(pid: int) -> list[str] | None:
    """The words a process was started with; empty for one that has none left, None if hidden."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [os.fsdecode(word) for word in raw.split(b"\0") if word]
    except OSError:
        pass
    try:
        answer = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return answer.stdout.split()
