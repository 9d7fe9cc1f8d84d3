"""What happened in the last hour, minute by minute, kept in the memory of whoever watches.

Pages would else count rows of runs, decisions and usage for every look; a ring of sixty minutes
costs nothing. It begins anew with its process, and says since when it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

MINUTES = 60
MINUTE_S = 60


class MinuteCounts(msgspec.Struct, frozen=True):
    """Runs that ended and those of them that failed, wakes, tokens, and the longest fold lag.

    `at` is when it began, in Unix seconds.
    """

    at: int
    ran: int = 0
    failed: int = 0
    woken: int = 0
    tokens: int = 0
    lag_s: float | None = None


class HourTold(msgspec.Struct, frozen=True):
    """Minutes that are over, the oldest first; `since` is when counting began."""

    since: datetime | None = None
    minutes: tuple[MinuteCounts, ...] = ()

    @property
    def latest(self) -> MinuteCounts | None:
        """The last minute that is over; None before the first is."""
        return self.minutes[-1] if self.minutes else None

    @property
    def whole(self) -> MinuteCounts | None:
        """All of them together, and their longest lag; None before the first is over."""
        if not self.minutes:
            return None
        lags = [one.lag_s for one in self.minutes if one.lag_s is not None]
        return MinuteCounts(
            self.minutes[0].at,
            ran=sum(one.ran for one in self.minutes),
            failed=sum(one.failed for one in self.minutes),
            woken=sum(one.woken for one in self.minutes),
            tokens=sum(one.tokens for one in self.minutes),
            lag_s=max(lags, default=None),
        )


class LastHour:
    """Takes what supervisors have counted since they began, again and again."""

    def __init__(self) -> None:
        self._kept: tuple[MinuteCounts, ...] = ()  # replaced whole: other threads read it
        self._before: Mapping[str, float] | None = None

    def note(self, now_s: float, totals: Mapping[str, float] | None, lag_s: float | None) -> None:
        """What is counted by now; None where the supervisor did not say.

        What was counted before the first look was not in this hour. A count that is smaller than
        before is a new process's: all of it is new.
        """
        at = int(now_s) // MINUTE_S * MINUTE_S
        new: dict[str, int] = {}
        if totals is not None:
            before = totals if self._before is None else self._before
            for name in ("ran", "failed", "woken", "tokens"):
                count, known = totals.get(name, 0.0), before.get(name, 0.0)
                new[name] = int(count - known if count >= known else count)
            self._before = totals
        kept = self._kept
        if kept and kept[-1].at < at:  # whoever was stopped for a while missed those between
            missed = range(max(kept[-1].at, at - MINUTES * MINUTE_S) + MINUTE_S, at, MINUTE_S)
            kept += tuple(MinuteCounts(between) for between in missed)
        if not kept or kept[-1].at != at:
            kept += (MinuteCounts(at),)
        last = kept[-1]
        lags = [lag for lag in (last.lag_s, lag_s) if lag is not None]
        sums = {name: getattr(last, name) + count for name, count in new.items()}
        last = msgspec.structs.replace(last, lag_s=max(lags, default=None), **sums)
        self._kept = (*kept[:-1], last)[-MINUTES - 1 :]

    def told(self) -> HourTold:
        """What is known of it; the minute that is not over yet is left out."""
        kept = self._kept
        since = datetime.fromtimestamp(kept[0].at, UTC) if kept else None
        return HourTold(since, kept[:-1])
