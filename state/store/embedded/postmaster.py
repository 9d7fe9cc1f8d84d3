"""What postmaster.pid says, and whether the process it names is the server of that folder."""

import os
import subprocess
from pathlib import Path

import msgspec

SERVER_NAMES = ("postgres", "postmaster")


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


def serving(data_dir: Path) -> Postmaster | None:
    """The live server of this folder; None when the record is stale or absent."""
    found = recorded(data_dir)
    return found if found is not None and _serves(found.pid, data_dir) else None


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; one that only waits to be reaped does not."""
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


def _serves(pid: int, data_dir: Path) -> bool:
    """Process ids are reused, so a live one counts only when it is a server of this folder."""
    if not is_alive(pid):
        return False
    words = _command_line(pid)
    if words is None:
        return True  # unknown: better to refuse than to run two servers on one folder
    if not words or Path(words[0]).name not in SERVER_NAMES:
        return False
    if "-D" not in words[:-1]:
        return True
    return _same_folder(Path(words[words.index("-D") + 1]), data_dir)


def _same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


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
