"""Stopping a run from outside: at once while it plans, never in the middle of its last write."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Live:
    """One run under way.

    Before its claim a stop is only noted, since a claim whose answer nobody hears would last for a
    lease; while it plans, the task is cancelled; once it closes, the database decides.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.reason: str | None = None
        self._planning: asyncio.Task[Any] | None = None
        self._is_closing = False

    def stop(self, reason: str) -> None:
        """End it for this reason, unless it is being stopped or closed already."""
        if self.reason is not None or self._is_closing:
            return
        self.reason = reason
        if self._planning is not None:
            self._planning.cancel()

    def plan(self, run_id: str) -> None:
        """It is claimed: from here it can be cancelled; raises CancelledError if told before."""
        self.run_id, self._planning = run_id, asyncio.current_task()
        if self.reason is not None:
            raise asyncio.CancelledError

    def close(self) -> None:
        """Its last transaction begins: a stop comes too late and is not heard any more."""
        self._is_closing = True

    def heard(self) -> str | None:
        """Why its task was cancelled, None where that was not our doing; it may await again."""
        if self.reason is not None and self._planning is not None:
            self._planning.uncancel()
        return self.reason


class Stops:
    """The runs under way of one process, by mission."""

    def __init__(self) -> None:
        self._live: dict[str, Live] = {}

    @contextmanager
    def under_way(self, mission_id: str) -> Generator[Live]:
        """A run that can be stopped while the block lasts."""
        live = self._live[mission_id] = Live()
        try:
            yield live
        finally:
            self._live.pop(mission_id, None)

    def __getitem__(self, mission_id: str) -> Live:
        return self._live[mission_id]

    def stop(self, mission_id: str, reason: str, run_id: str | None = None) -> None:
        """Stop the mission's run, if it has one under way (and it is this one)."""
        live = self._live.get(mission_id)
        if live is not None and run_id in (None, live.run_id):
            live.stop(reason)
