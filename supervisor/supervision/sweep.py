"""The sweep that compares snapshots with the log: at install, after a restore, nightly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from state.store.supervisor.snapshots import Folded, SnapshotStore

USERS_AT_ONCE = 200
RECORDS_AT_ONCE = 500
EVERY_S = 24 * 3600.0


class Reconciler:
    """Sweeps a few users per step; `route` hears of what was replayed.

    How far it came is kept with the shard, so that a sweep outlives its supervisor.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        route: Callable[[Folded], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshots, self._route, self._clock = snapshots, route, clock
        self._after: str | None = None  # the last user that was compared; None: not read yet
        self._due_at = 0.0  # at once: a new supervisor does not know what it missed
        self._users = self._replayed = 0
        self._sweeps = 0

    async def step(self) -> bool:
        """Compare the next users and replay what differs; False while no sweep is due."""
        if self._clock() < self._due_at:
            return False
        if self._after is None:
            self._after = await self._snapshots.reconciled_to()
        if not self._after:
            self._users = self._replayed = 0
            await self._snapshots.note_reconcile(None, started=True)
        keys, last = await self._snapshots.differences(self._after, USERS_AT_ONCE)
        for first in range(0, len(keys), RECORDS_AT_ONCE):
            folded = await self._snapshots.rebuild(keys[first : first + RECORDS_AT_ONCE])
            self._replayed += folded.replayed
            self._route(folded)
        self._users += USERS_AT_ONCE if last is not None else 0
        await self._snapshots.note_reconcile(last, finished=last is None)
        if last is None:
            self._sweeps += 1
            self._due_at = self._clock() + EVERY_S
        self._after = last or ""
        return last is not None

    def status(self) -> dict[str, Any]:
        """How far the sweep is."""
        return {
            "sweeps": self._sweeps,
            "users": self._users,
            "replayed": self._replayed,
            "running": self._clock() >= self._due_at,
        }
