"""Waits that may be long: for a lock, or for a server, with a word to the person now and then."""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

Progress = Callable[[str], None]

POLL_S = 0.05
LOCK_POLL_S = 0.1
TELL_EVERY_S = 2.0


def teller(progress: Progress, what: str) -> Callable[[float], None]:
    """A function to call with the seconds waited so far; it reports every two seconds."""
    told_s = 0.0

    def tell(elapsed_s: float) -> None:
        nonlocal told_s
        if elapsed_s - told_s >= TELL_EVERY_S:
            told_s = elapsed_s
            progress(f"{what} ({elapsed_s:.0f} s)")

    return tell


@contextmanager
def held(path: Path, waiting: Callable[[float], None]) -> Generator[int]:
    """Hold the lock on a file, calling `waiting(seconds so far)` until we have it.

    Yields the descriptor. A process that inherits it keeps the lock after we let go, and the system
    frees the lock when its last holder ends, however it ends. `waiting` may raise to give up.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        began = time.monotonic()
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            waiting(time.monotonic() - began)
            time.sleep(LOCK_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)
