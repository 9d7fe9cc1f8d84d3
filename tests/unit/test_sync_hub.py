"""Who listens is told of all that came after they were let in, however looks overlap."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import cast

from state.log.stamps import EPOCH
from state.store.gateway.sync_feeds import SyncFeeds, Touched, View
from supervisor.gateway.sync.hub import Listener, Notice, SyncHub

NEWS = Touched("todo", "tasks", "c-other")


class Feeds:
    """A database whose first question hangs until something was written, or for a moment."""

    def __init__(self) -> None:
        self.position, self.asked, self.written = EPOCH, 0, asyncio.Event()

    def write(self) -> None:
        self.position += timedelta(seconds=1)
        self.written.set()

    async def moved(self, told: Mapping[View, datetime | None]) -> dict[View, datetime | None]:
        return dict(told)

    async def touched(
        self, _user: str, _spaces: Sequence[str], since: datetime | None
    ) -> tuple[datetime, list[Touched]]:
        self.asked += 1
        if self.asked == 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.written.wait(), 0.2)
        return self.position, [NEWS] if since is not None and since < self.position else []


async def test_what_comes_after_a_device_was_let_in_is_told_though_another_look_is_slow():
    feeds, listener = Feeds(), Listener("u1", (), "c-1", None)
    hub = SyncHub(cast("SyncFeeds", feeds))
    with hub.listening(listener):
        slow = asyncio.create_task(hub.look())
        await asyncio.sleep(0)
        await hub.look()  # as before `auth-ok`
        feeds.write()
        await slow
        await hub.look()
        assert await listener.notices(0) == [Notice("todo", ("tasks",))]


async def test_many_who_come_at_once_are_told_by_one_look():
    feeds = Feeds()
    hub = SyncHub(cast("SyncFeeds", feeds))
    with hub.listening(Listener("u1", (), "c-1", None)):
        slow = asyncio.create_task(hub.look())
        await asyncio.sleep(0)
        await asyncio.gather(slow, *(hub.look() for _ in range(20)))
        assert feeds.asked == 2, "the one under way began before they came"
