"""Who listens, and telling them that there is something new.

The database is asked once a second how far the feeds of all listeners are published, and at once
after a push of this gateway's own. So it does not matter who wrote a row: another gateway, an
agent's commit, a proposal carried out, an operator.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator, Iterable
from datetime import datetime

import msgspec

from mana_actors.logs import without_text
from state.store.connect import Unavailable
from state.store.gateway.sync_feeds import SyncFeeds, Touched
from supervisor.gateway.people.open_streams import OpenStreams
from supervisor.supervision.metrics import Metrics

LOOK_S = 1.0
SETTLE_S = 30.0
NOTED_S = 60.0
"""How long rows may wait for a device to ask before they are published without one."""
MOST_NOTICES = 256
log = logging.getLogger("mana.gateway")


class Notice(msgspec.Struct, frozen=True):
    """New rows in these tables of an app."""

    app: str
    tables: tuple[str, ...]


class Listener:
    """One device that is told; `app` None: of every app."""

    def __init__(self, user: str, spaces: tuple[str, ...], client: str, app: str | None) -> None:
        self.user, self.spaces, self.client, self.app = user, spaces, client, app
        self._waiting: dict[str, set[str]] = {}
        self._called = asyncio.Event()

    def tell(self, touched: Iterable[Touched]) -> None:
        """Add what others wrote; what waits already for the same app is one notice with it."""
        for one in touched:
            is_own = one.client is not None and one.client == self.client
            if not is_own and self.app in (None, one.app):
                tables = self._waiting.setdefault(one.app, set())
                if len(tables) < MOST_NOTICES:
                    tables.add(one.table)
        if self._waiting:
            self._called.set()

    async def notices(self, within_s: float) -> list[Notice]:
        """What there is to tell, or nothing after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._called.wait()
        self._called.clear()
        found, self._waiting = self._waiting, {}
        return [Notice(app, tuple(sorted(tables))) for app, tables in sorted(found.items())]


class SyncHub:
    """The listeners of one gateway, and what it counts about devices."""

    def __init__(self, feeds: SyncFeeds) -> None:
        self._feeds = feeds
        self._listeners: set[Listener] = set()
        self._told_until: dict[tuple[str, tuple[str, ...]], datetime] = {}
        self._look = asyncio.Event()
        self._looking = asyncio.Lock()
        self._begun = self._ended = 0  # looks, by number
        self.sockets = OpenStreams(most=800, each=32)
        self.metrics, self._door = Metrics(), "people"
        self._looked_at = time.monotonic()

    @property
    def connections(self) -> int:
        """Devices that listen."""
        return len(self._listeners)

    @property
    def users(self) -> int:
        """People whose devices listen."""
        return len({one.user for one in self._listeners})

    def count_in(self, metrics: Metrics, door: str) -> None:
        """Count there from now on, as this door's."""
        self.metrics, self._door = metrics, door

    @contextlib.contextmanager
    def listening(self, listener: Listener) -> Generator[None]:
        """Tells the listener of whatever becomes visible from now on."""
        self._listeners.add(listener)
        self._look.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def look_now(self) -> None:
        """Somebody pushed here."""
        if self._listeners:
            self._look.set()

    async def run(self, *, settles: bool = True) -> None:
        """Look for ever; one hub on a database settles what no device asks for."""
        settled_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._listeners:
                    await self.look()
                if settles and loop.time() - settled_at >= SETTLE_S:
                    settled_at = loop.time()
                    oldest_s = await self._feeds.settle(NOTED_S)
                    self.metrics.set("sync_queue_age_seconds", oldest_s)
                self._looked_at = time.monotonic()
            except Unavailable:
                log.warning("sync_not_looked error=Unavailable")
            except Exception as exc:
                told = without_text(exc)
                log.error("sync_not_looked error=%s", type(exc).__name__, exc_info=told)  # noqa: TRY400
            door = (self._door,)
            self.metrics.set("sync_connections", self.connections, door)
            self.metrics.set("sync_users_connected", self.users, door)
            self.metrics.set(
                "sync_checkpoint_age_seconds", time.monotonic() - self._looked_at, door
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            self._look.clear()

    async def look(self) -> None:
        """Tell every listener what is new.

        One look at a time: of two, the slower would keep a later position for a first one, and of
        what came in between nobody would be told. One that began since this was asked is enough.
        """
        begun = self._begun
        async with self._looking:
            if self._ended <= begun:
                self._begun += 1
                await self._tell_all()
                self._ended = self._begun

    async def _tell_all(self) -> None:
        views = {(one.user, one.spaces) for one in self._listeners}
        self._told_until = {view: at for view, at in self._told_until.items() if view in views}
        moved = await self._feeds.moved({view: self._told_until.get(view) for view in views})
        for view, since in moved.items():
            user, spaces = view
            until, touched = await self._feeds.touched(user, spaces, since)
            self._told_until[view] = until
            for listener in self._listeners:
                if (listener.user, listener.spaces) == view:
                    listener.tell(touched)
