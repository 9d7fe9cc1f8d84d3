"""How much one person's devices may push a minute, and how much they may keep in the log.

So one person's devices, or one broken import, take neither the others' time nor the disk. What is
kept is measured in the log itself, now and then, so that whatever was written or removed past here
counts too; between two measurements it is added up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from state.store.own.records import KeptInLog
from supervisor.gateway.people.rate import MAX_PEOPLE, Pacing, TooOften

MEASURED_FOR_S, REFUSED_FOR_S = 600.0, 30.0
"""How long a measurement counts, and how long where it makes us refuse."""


class ShareLimits(msgspec.Struct, frozen=True):
    """Bounds for one person; 0 is none."""

    rows_a_minute: int = 0
    bytes_a_minute: int = 0
    records: int = 0
    bytes: int = 0


class LogFull(Exception):
    """This person keeps as much in the log as is allowed."""

    def __init__(self, what: Literal["records", "bytes"], most: int) -> None:
        super().__init__(what, most)
        self.what, self.most = what, most

    def __str__(self) -> str:
        return f"the log holds {self.most:,} {self.what} of yours, which is all there is room for"


class PushSize(msgspec.Struct, frozen=True):
    """What one push brings; `grows` False where it only deletes."""

    rows: int
    bytes: int
    records: int
    grows: bool = True


class _Measured(msgspec.Struct):
    kept: KeptInLog
    at: float


class PushShares:
    """Each person's share, kept in memory; those longest unseen are forgotten first."""

    def __init__(
        self,
        limits: ShareLimits,
        measure: Callable[[str], Awaitable[KeptInLog]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._measure, self._clock = limits, measure, clock
        self._minute = Pacing(burst=1, per_minute=1, clock=clock)
        self._measured: OrderedDict[str, _Measured] = OrderedDict()

    async def take(self, user: str, push: PushSize) -> None:
        """Let a push in; raises TooOften, or LogFull where it would grow past the bounds.

        A push larger than a whole minute's share waits for a whole one, and uses up the next too.
        """
        limits = self._limits
        share = max(
            push.rows / limits.rows_a_minute if limits.rows_a_minute else 0.0,
            push.bytes / limits.bytes_a_minute if limits.bytes_a_minute else 0.0,
        )
        if push.grows and (limits.records or limits.bytes):
            found = await self._kept(user, MEASURED_FOR_S)
            if _over(found.kept, push, limits):
                found = await self._kept(user, REFUSED_FOR_S)
            if what := _over(found.kept, push, limits):
                raise LogFull(what, limits.records if what == "records" else limits.bytes)
            kept = KeptInLog(found.kept.records + push.records, found.kept.bytes + push.bytes)
        else:
            found, kept = None, None
        if share and (wait_s := self._minute.wait_s(user, share)):
            raise TooOften(wait_s)
        if found is not None and kept is not None:
            found.kept = kept

    async def _kept(self, user: str, at_most_s: float) -> _Measured:
        """What the person keeps, as of a measurement no older than this."""
        found = self._measured.pop(user, None)
        if found is None or self._clock() - found.at > at_most_s:
            found = _Measured(await self._measure(user), self._clock())
        self._measured[user] = found
        if len(self._measured) > MAX_PEOPLE:
            self._measured.popitem(last=False)
        return found


def _over(
    kept: KeptInLog, push: PushSize, limits: ShareLimits
) -> Literal["records", "bytes"] | None:
    if limits.records and push.records and kept.records + push.records > limits.records:
        return "records"
    if limits.bytes and kept.bytes + push.bytes > limits.bytes:
        return "bytes"
    return None
