"""A provider as the router calls it: so many calls at once, and closed when the last is over."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mana_actors.llm.router.contract import Upstream

MAX_CONCURRENT = 8


class Line:
    """The line to one provider; at most `max_concurrent` calls hold it, others wait their turn."""

    def __init__(self, upstream: Upstream, max_concurrent: int = MAX_CONCURRENT) -> None:
        self.upstream = upstream
        self._turn = asyncio.Semaphore(max_concurrent)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def is_configured(self) -> bool:
        """Whether the provider can be called at all: its key is there, or it needs none."""
        return bool(getattr(self.upstream, "is_configured", True))

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Wait for a turn and hold it."""
        self._users += 1
        self._unused.clear()
        try:
            async with self._turn:
                yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Close the provider's connections once nobody uses or awaits them."""
        await self._unused.wait()
        await self.upstream.aclose()
