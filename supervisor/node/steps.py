"""What a process of a node says of its start and its end, for whoever started it to show."""

import sys

STEP = "step: "
"""Lines of the node's log that begin so are shown while it starts and stops."""


def tell_step(text: str) -> None:
    """Say what comes next, or what came of it."""
    sys.stdout.write(f"{STEP}{text}\n")
    sys.stdout.flush()


def told_failure(exc: Exception, code: int) -> int:
    """Say why a process cannot go on; `code` is the one to end with."""
    sys.stderr.write(f"error: {exc}\n")
    return code
