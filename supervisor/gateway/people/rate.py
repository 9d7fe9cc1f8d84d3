"""How often one person may ask for something costly: so many at once, then so many a minute."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_PEOPLE = 10_000


class TooOften(Exception):
    """This person asked for many such things just now."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = math.ceil(wait_s)


class Pacing:
    """A bucket of tokens per person, kept in memory; those longest unseen are forgotten first."""

    def __init__(
        self, burst: int = 20, per_minute: float = 20.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._per_s, self._clock = float(burst), per_minute / 60, clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, user: str, tokens: float = 1.0) -> float:
        """0 and so many tokens less, or how long until there are as many again.

        What costs more than a whole bucket has to find it full, and leaves a debt.
        """
        now = self._clock()
        left, at = self._seen.pop(user, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        needed = min(tokens, self._burst)
        is_free = left >= needed
        self._seen[user] = (left - tokens if is_free else left, now)
        if len(self._seen) > MAX_PEOPLE:
            self._seen.popitem(last=False)
        return 0.0 if is_free else (needed - left) / self._per_s


def paced(pacing: Pacing, user: str) -> None:
    """One thing more for this person; raises TooOften."""
    if wait_s := pacing.wait_s(user):
        raise TooOften(wait_s)
