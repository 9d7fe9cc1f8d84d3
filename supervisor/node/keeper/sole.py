"""One node per data directory: a lock that its keeper holds for life, and that names it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LOCK = "node.lock"
PATIENCE_S = 1.0
"""Whoever only asks `holder` holds the lock for a moment."""
_POLL_S = 0.02


class AlreadyRuns(Exception):
    """Another node has this data directory."""

    def __init__(self, data_dir: str, holder: int | None) -> None:
        super().__init__(data_dir, holder)
        self.data_dir, self.holder = data_dir, holder

    def __str__(self) -> str:
        process = "another process" if self.holder is None else f"process {self.holder}"
        return f"a node runs on {self.data_dir} already ({process}); mana down ends it"


@contextmanager
def sole_node(data_dir: str | Path) -> Generator[None]:
    """Be the one node of a data directory; raises AlreadyRuns. The kernel frees the lock."""
    lock = os.open(Path(data_dir, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                raise AlreadyRuns(str(data_dir), _named(lock))
            time.sleep(_POLL_S)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def holder(data_dir: str | Path) -> int | None:
    """The process that is the node of a data directory, None where nobody is."""
    try:
        lock = os.open(Path(data_dir, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        return None if _locked(lock, fcntl.LOCK_SH) else _named(lock)
    finally:
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        return True
    return False


def _named(lock: int) -> int | None:
    """Whom the file names; None for the moment between lock and name."""
    raw = os.pread(lock, 20, 0)
    return int(raw) if raw.isdigit() else None
