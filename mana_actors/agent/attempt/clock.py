"""The database's time in between its replies: this process's own clock may be wrong."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class DatabaseClock:
    """What the database said last, and what has passed here since; `told` comes before `now`."""

    def told(self, now: datetime) -> None:
        """The database's time, as of a reply that has just come."""
        self._said, self._heard_s = now, time.monotonic()

    def now(self) -> datetime:
        """The database's time now, late by as long as its last reply was under way."""
        return self._said + timedelta(seconds=time.monotonic() - self._heard_s)
