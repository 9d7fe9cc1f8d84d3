"""Keeps leases alive from a thread of its own, so that only a stopped process loses them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from state.errors import StateError
from state.store.agent import AgentStore
from state.store.connect import Database

log = logging.getLogger("mana.lease")


class Capability:
    """The process's capability: replaced by the supervisor with each order and by each renewal."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self) -> str:
        return self.token


class LeaseKeeper:
    """Renews what is held every third of a lease; its thread sleeps while nothing is."""

    def __init__(
        self,
        open_database: Callable[[], Database],
        user_id: str,
        agent_id: str,
        capability: Capability,
        lease_ms: int,
    ) -> None:
        self._open = open_database
        self._user_id, self._agent_id = user_id, agent_id
        self._capability = capability
        self._lease_ms = lease_ms
        self._held: dict[Any, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def held(self, run_id: Any, attempt: int) -> Generator[None]:
        """Renew this run while the block lasts."""
        with self._changed:
            self._held[run_id] = attempt
            self._changed.notify()
            if self._thread is None:  # one for all runs, since starting one costs a millisecond
                self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._held.pop(run_id, None)

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
            time.sleep(self._lease_ms / 3000)
            with self._changed:
                held = list(self._held.items())
            if held:
                asyncio.run(self._renew(held))

    async def _renew(self, held: list[tuple[Any, int]]) -> None:
        database = self._open()
        try:
            store = AgentStore(database, self._user_id, self._agent_id, self._capability)
            _, token = await store.renew(held, self._lease_ms)
            if token:
                self._capability.token = token
        except StateError as exc:
            log.warning(
                "lease_not_renewed agent=%s/%s error=%s", self._user_id, self._agent_id, exc
            )
        finally:
            await database.close()
