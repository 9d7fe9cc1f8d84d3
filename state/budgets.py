"""Token budgets: what a call may cost at most, and what a cap leaves over the last 24 hours."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import datetime, timedelta

WINDOW = timedelta(hours=24)


def hold_size(request_bytes: int, max_output: int, bytes_per_token: float = 2) -> int:
    """The tokens held before a call: its request, never estimated too low, and its whole output."""
    return -int(-request_bytes // bytes_per_token) + max_output


def room(cap: int | None, used: int, held: int) -> int | None:
    """The tokens that may still be held under `cap`, at least 0; None without a cap."""
    return None if cap is None else max(0, cap - used - held)


class TokenWindow:
    """What was spent and when; an entry counts while it is less than 24 hours old."""

    def __init__(self, spent: Iterable[tuple[datetime, int]] = ()) -> None:
        self._spent = sorted(spent)

    def add(self, at: datetime, tokens: int) -> None:
        """Note tokens spent at an aware time; entries may come in any order."""
        insort(self._spent, (at, tokens))

    def used(self, now: datetime) -> int:
        """The tokens that count at `now`; older entries are forgotten only by `forget`."""
        return sum(tokens for at, tokens in self._spent if at > now - WINDOW)

    def returns_at(self, now: datetime, need: int) -> datetime | None:
        """When `need` of the tokens used at `now` will have left the window, or None if never."""
        if need <= 0:
            return now
        freed = 0
        for at, tokens in self._spent:
            if at > now - WINDOW:
                freed += tokens
                if freed >= need:
                    return at + WINDOW
        return None

    def forget(self, now: datetime) -> None:
        """Drop the entries that no longer count."""
        self._spent = [(at, tokens) for at, tokens in self._spent if at > now - WINDOW]
