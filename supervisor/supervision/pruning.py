"""Once an hour, what is only old is deleted: in the background, under a login of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mana_actors.background import Background
from state.errors import StateError
from state.store.janitor import JanitorStore, Retention
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics

log = logging.getLogger("mana.supervisor")

EVERY_S = 3600.0


class Pruning:
    """Prunes when an hour has passed; what failed is tried again after the next."""

    def __init__(
        self,
        janitor: JanitorStore,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._janitor, self._metrics, self._clock = janitor, metrics, clock
        self._keep = Retention(
            usage_s=settings.keep_usage_h * 3600,
            decisions_s=settings.keep_decisions_days * 86400,
            runs_s=settings.keep_runs_days * 86400,
            requests_s=settings.keep_requests_days * 86400,
            audit_s=settings.keep_audit_days * 86400,
        )
        self.background = Background()
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether an hour has passed since the last time, or nothing was pruned yet."""
        return self._clock() >= self._next

    def start(self) -> None:
        """Prune beside everything else; nobody waits for the end."""
        self._next = self._clock() + EVERY_S
        self.background.start(self.prune())

    async def prune(self) -> None:
        """Delete what is old, and say how much that was."""
        self._next = self._clock() + EVERY_S
        try:
            deleted = await self._janitor.prune(self._keep)
        except StateError as exc:
            log.warning("pruning_failed error=%s", exc)
            return
        finally:
            await self._janitor.close()
        for table, rows in deleted.items():
            self._metrics.inc("rows_pruned_total", {"table": table}, rows)
        log.info("rows_pruned %s", " ".join(f"{table}={n}" for table, n in deleted.items()))
