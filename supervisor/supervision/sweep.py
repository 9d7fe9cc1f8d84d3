"""The sweep that compares snapshots with the log: at install, after a restore, nightly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from state.store.supervisor.snapshots import Folded, RecordKey, SnapshotStore

USERS_AT_ONCE = 200
RECORDS_AT_ONCE = 500
EVERY_S = 24 * 3600.0


class Reconciler:
    """Sweeps a few users per step; `route` hears of what was replayed.

    How far it came is kept with the shard, so that a sweep outlives its supervisor. A record that
    somebody's transaction holds is tried again until it is free: before that no sweep is over.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        route: Callable[[Folded], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshots, self._route, self._clock = snapshots, route, clock
        self._after: str | None = None  # the last user that was compared; None: not read yet
        self._is_compared = False
        self._left: set[RecordKey] = set()  # differ still
        self._due_at = 0.0  # at once: a new supervisor does not know what it missed
        self._users = self._replayed = 0
        self._sweeps = 0

    async def step(self) -> bool:
        """Compare the next users and replay what differs; False while nobody is to be compared."""
        if self._clock() < self._due_at:
            return False
        if self._after is None:
            self._after = await self._snapshots.reconciled_to()
        keys = sorted(self._left)
        if not self._is_compared:
            if not self._after:
                self._users = self._replayed = 0
                await self._snapshots.note_reconcile(None, started=True)
            keys, last = await self._snapshots.differences(self._after, USERS_AT_ONCE)
            self._is_compared = last is None
            self._after = last or ""
            self._left.update(keys)
            self._users += 0 if self._is_compared else USERS_AT_ONCE
        for first in range(0, len(keys), RECORDS_AT_ONCE):
            some = keys[first : first + RECORDS_AT_ONCE]
            folded = await self._snapshots.rebuild(some)
            self._left.difference_update(set(some).difference(folded.held))
            self._replayed += folded.replayed
            self._route(folded)
        if not self._left:  # else a restart begins before the first of them
            is_over = self._is_compared
            await self._snapshots.note_reconcile(self._after or None, finished=is_over)
            if is_over:
                self._sweeps += 1
                self._due_at = self._clock() + EVERY_S
                self._is_compared = False
        return not self._is_compared and self._clock() >= self._due_at

    def status(self) -> dict[str, Any]:
        """How far the sweep is."""
        return {
            "sweeps": self._sweeps,
            "users": self._users,
            "replayed": self._replayed,
            "held": len(self._left),
            "running": self._clock() >= self._due_at,
        }
