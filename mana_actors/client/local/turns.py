"""The store as tasks of one loop use it: one transaction at a time, and nothing waits on the loop.

One thread has the writing connection, another the reading one, so that no two statements of a
connection cross, and whoever only reads waits for no transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec

from mana_actors.client.errors import StoreFull, WriteRefused
from mana_actors.client.local.kept import Overwritten
from mana_actors.client.local.store import LocalStore, Taken, is_disk

NS_PER_MS = 1_000_000
R = TypeVar("R")
log = logging.getLogger("mana.client")


class _Open(msgspec.Struct):
    """A transaction, as long as it is open."""

    turns: Any
    is_open: bool = True


_transaction: ContextVar[_Open | None] = ContextVar("mana_client_transaction", default=None)


class StoreTurns:
    """Takes turns at a store; whoever follows it is told what changed once that is kept."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()  # whoever has it is in a transaction
        self._writer = ThreadPoolExecutor(1, "mana-client-write")
        self._reader = ThreadPoolExecutor(1, "mana-client-read")
        self._watchers: defaultdict[tuple[str, str], list[asyncio.Queue[str]]] = defaultdict(list)
        self.on_own_write: Callable[[str], None] = lambda _app: None
        self.on_conflict: list[Callable[[Overwritten], None]] = []

    async def close(self) -> None:
        """Once what is under way has ended."""
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._reader.shutdown)

    async def read(self, work: Callable[[LocalStore, bool], R]) -> R:
        """Look into the store; in a transaction, at what that has written too."""
        if self._inside():
            return await self._in_writer(lambda: work(self._store, True))
        return await self._loop.run_in_executor(self._reader, lambda: work(self._store, False))

    async def looked(self, work: Callable[[LocalStore], R]) -> R:
        """Look at what is kept, between two transactions; in one, that would wait for itself."""
        if self._inside():
            raise WriteRefused("transaction", "cannot wait for what is outside of it")
        async with self._turn:
            return await self._in_writer(lambda: work(self._store))

    async def written(self, work: Callable[[LocalStore], R], *, is_own: bool = True) -> R:
        """Write: a part of the transaction that is open here, or one of its own."""
        if self._inside():
            return await self._in_writer(lambda: self._part(work))

        def whole() -> R:
            self._store.begin()
            try:
                done = work(self._store)
                self._commit(is_own=is_own)
            finally:
                self._store.rollback()
            return done

        async with self._turn:
            return await self._in_writer(whole)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """All that is written in the block, or nothing; one inside another is part of that."""
        if self._inside():
            yield
            return
        async with self._turn:
            opened = _Open(self)
            before = _transaction.set(opened)
            try:
                await self._in_writer(self._store.begin)
                yield
                opened.is_open = False
                await self._in_writer(self._commit)
            finally:
                opened.is_open = False
                _transaction.reset(before)
                await asyncio.shield(self._in_writer(self._store.rollback))

    async def changed_in(self, app: str, table: str) -> AsyncIterator[str]:
        """Ids of a table's records as they change."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        waiting = self._watchers[app, table]
        waiting.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            waiting.remove(queue)

    def _inside(self) -> bool:
        opened = _transaction.get()
        return opened is not None and opened.is_open and opened.turns is self

    def _in_writer(self, work: Callable[[], R]) -> asyncio.Future[R]:
        return self._loop.run_in_executor(self._writer, lambda: _told_of_room(work))

    def _part(self, work: Callable[[LocalStore], R]) -> R:
        if not self._store.in_transaction:  # SQLite gave it up when there was no room
            raise StoreFull
        with self._store.part():
            return work(self._store)

    def _commit(self, *, is_own: bool = True) -> None:
        """In the writer's thread: followers are told, even if nobody waits for this any more."""
        if not self._store.in_transaction:
            raise StoreFull
        self._store.note_conflicts(time.time_ns() // NS_PER_MS)
        taken = self._store.commit()
        self._loop.call_soon_threadsafe(lambda: self._announce(taken, is_own=is_own))

    def _announce(self, taken: Taken, *, is_own: bool) -> None:
        for at in taken.records:
            for queue in self._watchers.get((at.app, at.table), ()):
                queue.put_nowait(at.id)
        if is_own:
            for app in {at.app for at in taken.records}:
                self.on_own_write(app)
        for _, one in taken.conflicts:
            for listener in self.on_conflict:
                try:
                    listener(one)
                except Exception as exc:  # noqa: BLE001 - somebody else's code; the sync goes on
                    log.warning("conflict_listener_broken error=%s", type(exc).__name__)


def _told_of_room(work: Callable[[], R]) -> R:
    """What `work` returns; raises StoreFull where the disk did not take it."""
    try:
        return work()
    except sqlite3.OperationalError as exc:
        if not is_disk(exc):
            raise
        raise StoreFull from exc
