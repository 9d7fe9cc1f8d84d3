"""What this process takes of its machine, as it says of itself: memory and CPU."""

from __future__ import annotations

import os
import time
from pathlib import Path

READ_EVERY_S = 30.0
"""The kernel walks every mapping for the proportional size: 1 to 4 ms of CPU each time."""


class Footprint:
    """Remembers its last reading of the memory, so that it may be asked at every greeting."""

    def __init__(self) -> None:
        self._memory_bytes = 0
        self._read_at: float | None = None

    def memory_bytes(self) -> int:
        """Bytes in RAM, where shared pages count in parts: at most 30 s old; 0 if unknown."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at >= READ_EVERY_S:
            self._read_at, self._memory_bytes = now, _proportional_bytes() or _resident_bytes()
        return self._memory_bytes

    def cpu_s(self) -> float:
        """Seconds of CPU since the process began, its start included."""
        return time.process_time()


def _proportional_bytes() -> int:
    try:
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0


def _resident_bytes() -> int:
    """More than its share, where the kernel does not say that: each page counts whole."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
