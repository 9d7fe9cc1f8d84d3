"""How a process dies: without a core file and, where a test wants it, at a named point."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

CrashPoint = Callable[[str], None]


def keep_to_ourselves() -> None:
    """From now on files of this process and its children are for our OS user alone.

    And there is no core file, however they end: it would hold keys, prompts and decrypted texts.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def crash_points(spec: str | None) -> CrashPoint:
    """A function to call at each named point; without a spec it does nothing.

    `spec` is MANA_CRASH_AT: `point:file`, several separated by commas. Who unlinks a point's file
    kills its own process with SIGKILL, so a point fires once across restarts and processes.
    """
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
