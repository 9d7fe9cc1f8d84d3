"""The time that a client stamps with: its own clock, set by the server's."""

from __future__ import annotations

import time
from collections.abc import Callable

NS_PER_MS = 1_000_000


class StampClock:
    """Nanoseconds since the epoch; `offset_ns` is what the server's clock is ahead of `wall_ns`."""

    def __init__(self, offset_ns: int = 0, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self.offset_ns, self.wall_ns, self._last_ns = offset_ns, wall_ns, 0

    def now(self) -> int:
        """Later by a millisecond, which is what stamps tell apart, unless the clock was set."""
        now = max(self.wall_ns() + self.offset_ns, self._last_ns + NS_PER_MS)
        self._last_ns = now
        return now

    def heard(self, server_ns: int, asked_ns: int, answered_ns: int) -> None:
        """The server said its time in an answer to what was asked, by our clock, at `asked_ns`.

        Its clock was read in between: within that, what we hold is left as it is.
        """
        half = max(answered_ns - asked_ns, 0) // 2
        offset = server_ns - (asked_ns + half)
        if abs(offset - self.offset_ns) > half + NS_PER_MS:
            self.offset_ns, self._last_ns = offset, 0
