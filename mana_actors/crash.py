"""Named points at which a test can have this process killed: `MANA_CRASH_AT=<point>:<file>`.

Several may be given, separated by commas. Whoever unlinks a point's file kills itself with
SIGKILL, so a point fires once across restarts and processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

CrashPoint = Callable[[str], None]


def crash_points(spec: str | None) -> CrashPoint:
    """A function to call at each named point; without a spec it does nothing."""
    if not spec:
        return lambda _point: None
    files = dict(entry.split(":", 1) for entry in spec.split(","))

    def reached(point: str) -> None:
        if point not in files:
            return
        try:
            Path(files[point]).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return reached
