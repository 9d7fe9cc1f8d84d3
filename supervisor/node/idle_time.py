"""How long an idle agent's process is worth the CPU that it burns, as this node measures it. Pure.

An idle process is not free: its main thread wakes a hundred times a second. After the time in which
that has cost what a start costs, ending it and starting another is the cheaper of two unknowns:
whoever waits so long never pays more than twice what knowing the future would have cost.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import msgspec

from supervisor.node.settings import Settings

UNMEASURED_S = 20.0
BOUNDS_S = (5.0, 120.0)
CROWDED_S = 2.0
"""While others wait to be started, the cores are theirs: who is done has had its turn."""
SAMPLES = 31
"""The median of so many: one start on a crowded machine says little."""


class IdleTime(msgspec.Struct, frozen=True):
    """`seconds` that an agent may be idle (None: for ever), and what was measured so far."""

    seconds: float | None
    start_cpu_s: float | None
    idle_cpu_share: float | None  # of one core


class IdleCosts:
    """What starts and idleness cost here lately."""

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=SAMPLES)
        self._shares: deque[float] = deque(maxlen=SAMPLES)

    def started(self, cpu_s: float) -> None:
        """A process gave its first answer after so much CPU; 0: it does not say."""
        if cpu_s > 0:
            self._starts.append(cpu_s)

    def idled(self, cpu_s: float, elapsed_s: float) -> None:
        """One that did nothing burned so much meanwhile."""
        if elapsed_s > 0 and cpu_s > 0:
            self._shares.append(cpu_s / elapsed_s)

    def idle_time(self, settings: Settings, *, is_crowded: bool = False) -> IdleTime:
        """What the settings say, else what follows from these costs, within bounds."""
        start_s = median(self._starts) if self._starts else None
        share = median(self._shares) if self._shares else None
        seconds = UNMEASURED_S
        if settings.agent_keep_awake:
            seconds = None
        elif settings.agent_idle_s is not None:
            seconds = settings.agent_idle_s
        elif is_crowded:
            seconds = CROWDED_S
        elif start_s is not None and share is not None:
            least, most = BOUNDS_S
            seconds = min(max(start_s / share, least), most)
        return IdleTime(seconds, start_s, share)
