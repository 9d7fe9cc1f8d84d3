"""The time that a client stamps with: its own clock, set by the server's."""

from __future__ import annotations

import time
from collections.abc import Callable

NS_PER_MS = 1_000_000
MOST_AHEAD_NS = 300_000_000_000
"""A server takes stamps back that are further ahead of its clock, so none of those counts."""


class StampClock:
    """Nanoseconds since the epoch; `offset_ns` is what the server's clock is ahead of `wall_ns`.

    `last_ns` is the last reading, of an earlier process too: whatever becomes of either clock, the
    next one is later.
    """

    def __init__(
        self, offset_ns: int = 0, wall_ns: Callable[[], int] = time.time_ns, last_ns: int = 0
    ) -> None:
        self.offset_ns, self.wall_ns, self.last_ns = offset_ns, wall_ns, last_ns

    def now(self) -> int:
        """Later by a millisecond at least, which is what stamps tell apart."""
        self.last_ns = max(self.wall_ns() + self.offset_ns, self.last_ns + NS_PER_MS)
        return self.last_ns

    def heard(self, server_ns: int, asked_ns: int, answered_ns: int) -> None:
        """The server said its time in an answer to what was asked, by our clock, at `asked_ns`.

        Its clock was read in between: within that, what we hold is left as it is. A clock that was
        far ahead goes back.
        """
        half = max(answered_ns - asked_ns, 0) // 2
        offset = server_ns - (asked_ns + half)
        if abs(offset - self.offset_ns) > half + NS_PER_MS:
            self.offset_ns = offset
        if self.last_ns > self.wall_ns() + self.offset_ns + MOST_AHEAD_NS:
            self.last_ns = 0
