"""Log lines: time, level, a past-tense event, its fields; ids only, no title, prompt or secret.

An error's own text is one of ours or it is not shown: libraries quote the values they choke on.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

log = logging.getLogger("mana.tasks")

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure_logging(level: int = logging.INFO) -> None:
    """Lines on stderr, once per process."""
    root = logging.getLogger("mana")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False


def without_text(exc: BaseException) -> BaseException:
    """The type of an error and where it was raised, without its text and without its causes."""
    return RuntimeError(type(exc).__name__).with_traceback(exc.__traceback__)


def keep_texts_out(loop: asyncio.AbstractEventLoop) -> None:
    """What breaks in this loop while nobody awaits it is logged by type and place alone."""
    loop.set_exception_handler(_task_broken)


def _task_broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    place = None if exc is None else without_text(exc)
    log.error("task_broken error=%s", type(exc).__name__, exc_info=place)
