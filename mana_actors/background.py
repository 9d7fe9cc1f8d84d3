"""Work that nobody awaits: kept until it ends, and heard of when it breaks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("mana.background")


class Background:
    """A set of tasks; its length is how many are under way."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it; an error of it is logged by its type, since a trace could hold user text."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    async def cancel(self) -> None:
        """Cancel all that is under way, the newest first: the oldest may close what others use."""
        while self._tasks:
            task = next(reversed(self._tasks))
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("background_work_broken error=%s", type(problem).__name__)


def begun_apart(work: Callable[[], T]) -> Future[T]:
    """A blocking call begun in a thread of its own, which holds up no end of this process."""
    outcome: Future[T] = Future()

    def worked() -> None:
        try:
            outcome.set_result(work())
        except Exception as exc:  # noqa: BLE001 - whoever waits for the outcome gets it
            outcome.set_exception(exc)

    threading.Thread(target=worked, name="apart", daemon=True).start()
    return outcome
