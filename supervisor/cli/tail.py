"""`mana logs`: the end of a file, and what is added to it."""

import sys
import time
from collections import deque
from pathlib import Path

POLL_S = 0.2


def show_log(path: Path, lines: int, *, is_followed: bool) -> None:
    """Print the last lines; then, if wanted, go on until interrupted."""
    with path.open("rb") as file:
        for line in deque(file, maxlen=lines):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        while is_followed:
            fresh = file.read()
            if fresh:
                sys.stdout.buffer.write(fresh)
                sys.stdout.buffer.flush()
            elif path.stat().st_size < file.tell():
                file.seek(0)  # it was cut
            else:
                time.sleep(POLL_S)
