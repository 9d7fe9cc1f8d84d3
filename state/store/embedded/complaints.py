"""Why a server that ended says it ended, from its own logs."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def log_sizes(logs: Path) -> dict[Path, int]:
    """How far each log has been written, in bytes."""
    return {path: path.stat().st_size for path in logs.glob("*.log")}


def last_complaint(logs: Path, seen: Mapping[Path, int]) -> str:
    """The last FATAL line written since `seen`, with its hint; they hold no row's contents."""
    fresh: list[str] = []
    for path in sorted(logs.glob("*.log")):
        with path.open("rb") as file:
            file.seek(seen.get(path, 0))
            fresh += file.read().decode("utf-8", "replace").splitlines()
    return _worst(fresh) or f"it ended without a reason; see {logs}"


def _worst(lines: Sequence[str]) -> str:
    for mark in ("PANIC:", "FATAL:", "error:", "ERROR:"):
        for line in reversed(lines):
            if mark in line:
                return line.partition(mark)[2].strip()
    return lines[-1].strip() if lines else ""
