"""Keeping apps in sync: at every own write, and by a stream of what others write.

Where there is no stream, the server is asked every 30 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from mana_actors.background import Background
from mana_actors.client.errors import (
    NotSignedIn,
    ServerAway,
    ServerRefused,
    StoreFull,
    SyncInactive,
)
from mana_actors.client.exchange import Exchange

PUSH_DELAY_S = 1.0
PULL_EVERY_S = 30.0
LONGEST_PAUSE_S = 300.0
spread = secrets.SystemRandom().random


class LiveSync:
    """One task per app; `problems` says by app why it is not in sync."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._background = Background()
        self._bells: dict[str, asyncio.Event] = {}
        self._followed: set[str] = set()
        self._streamed: set[str] = set()
        self.problems: dict[str, str] = {}

    async def close(self) -> None:
        """End it all."""
        await self._background.cancel()

    def keep(self, app: str) -> None:
        """Keep this app in sync from now on."""
        if app not in self._bells:
            self._bells[app] = asyncio.Event()
            self._background.start(self._kept(app, self._bells[app]))

    def ring(self, app: str) -> None:
        """There is something to push, or to read."""
        self.keep(app)
        self._bells[app].set()

    async def _kept(self, app: str, bell: asyncio.Event) -> None:
        failures = 0
        while True:
            bell.clear()
            try:
                await self._exchange.sync(app)
            except (ServerAway, SyncInactive, StoreFull, NotSignedIn, ServerRefused) as exc:
                self.problems[app] = str(exc)
                asked = exc.retry_after_s if isinstance(exc, ServerAway) else None
                most = min(LONGEST_PAUSE_S, PULL_EVERY_S * 2 ** min(failures, 4))
                failures += 1
                await asyncio.sleep(max(asked or 0.0, PUSH_DELAY_S + most * spread()))
                continue
            failures = 0
            self.problems.pop(app, None)
            if app not in self._followed:
                self._followed.add(app)
                self._background.start(self._follow(app))
            every_s = LONGEST_PAUSE_S if app in self._streamed else PULL_EVERY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await bell.wait()
                    await asyncio.sleep(PUSH_DELAY_S)

    async def _follow(self, app: str) -> None:
        failures = 0
        while True:
            pause_s = 0.0
            try:
                await self._exchange.follow(app, lambda: self._streamed.add(app))
                failures = 0
            except (NotSignedIn, ServerRefused):  # it has none, or none for us
                pause_s = LONGEST_PAUSE_S
            except (ServerAway, SyncInactive, StoreFull) as exc:
                asked = exc.retry_after_s if isinstance(exc, ServerAway) else None
                most = min(LONGEST_PAUSE_S, PUSH_DELAY_S * 2 ** min(failures, 8))
                pause_s = max(asked or 0.0, most * spread())
                failures += 1
            finally:
                self._streamed.discard(app)
                self._bells[app].set()  # what came meanwhile is asked for
            await asyncio.sleep(PUSH_DELAY_S * spread() + pause_s)
