"""File locks that end with their holder, however it ends."""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1


@contextmanager
def held(path: Path, waiting: Callable[[float], None]) -> Generator[int]:
    """Hold the lock on `path`, calling `waiting(seconds so far)` until it is ours.

    Yields the descriptor; a process that inherits it keeps the lock after we let go. `waiting` may
    raise to give up.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        began = time.monotonic()
        while not _locked(descriptor):
            waiting(time.monotonic() - began)
            time.sleep(POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
