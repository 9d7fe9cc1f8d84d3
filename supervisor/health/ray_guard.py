"""Tells when Ray on this machine has kept silent for so long that only a new one helps.

A raylet or head that is stopped or hangs has not ended, so nobody hears of an end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from mana_actors.logs import keep_texts_out
from supervisor.health.ray_life import RayLife

EVERY_S = 2.0
SILENT_LOOKS = 6
"""In a row, and not seconds: a machine that sleeps looks at nothing meanwhile."""


class RayGuard:
    """Looks in a thread and a loop of its own: calls to a Ray that hangs hold up all others.

    `lost` hears once what is wrong.
    """

    def __init__(
        self, ray: RayLife, lost: Callable[[str], object], every_s: float = EVERY_S
    ) -> None:
        self._ray, self._lost, self._every_s = ray, lost, every_s

    def start(self) -> None:
        """Look for ever."""
        threading.Thread(target=asyncio.run, args=(self.run(),), name="ray", daemon=True).start()

    async def run(self) -> None:
        """Look until Ray is lost."""
        keep_texts_out(asyncio.get_running_loop())
        silent, troubles = 0, dict[str, str]()
        while silent < SILENT_LOOKS:
            await asyncio.sleep(self._every_s)
            troubles = await self._ray.look()
            silent = silent + 1 if troubles else 0
        self._lost("; ".join(troubles.values()))
