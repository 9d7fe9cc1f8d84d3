"""The plainest actors there are, to measure ours beside; this module imports next to nothing."""

import asyncio
import os


class Bare:
    """Answers what it is told."""

    async def tell(self, raw: bytes) -> bytes:
        return raw

    async def pid(self) -> int:
        return os.getpid()


class ReportSink:
    """Stands where the supervisor stands: takes reports."""

    def __init__(self) -> None:
        self._reports: list[bytes] = []
        self._came = asyncio.Condition()

    async def report(self, raw: bytes) -> None:
        async with self._came:
            self._reports.append(raw)
            self._came.notify_all()

    async def take(self) -> bytes:
        """The next report, waited for."""
        async with self._came:
            await self._came.wait_for(lambda: len(self._reports) > 0)
            return self._reports.pop(0)
