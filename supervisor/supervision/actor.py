"""The supervisor as a Ray actor: detached, restarted for ever, and thin.

The constructor does no IO: it starts a thread whose event loop is the supervision. Should that loop
end by a bug, the process ends, and Ray starts a new one that takes the shard again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mana_actors.agent.actor import AgentActor
from mana_actors.crash import keep_to_ourselves
from mana_actors.logs import configure_logging, keep_texts_out, without_text
from mana_actors.messages import AgentSettings, decode_report
from mana_actors.remote import ASKED, RayProcesses, ray_places
from state.store.connect import Access, Database
from state.store.janitor import JanitorStore
from supervisor.node.settings import Settings
from supervisor.supervision.loop import Supervision

log = logging.getLogger("mana.supervisor")
T = TypeVar("T")


class SupervisorActor:
    """One shard's supervisor; methods answer from memory or hand work to the loop."""

    def __init__(self, name: str, release: str, settings: bytes, agent_settings: bytes) -> None:
        keep_to_ourselves()
        self._name, self._release = name, release
        self._settings = Settings.from_wire(settings)
        self._agent_settings = msgspec.json.decode(agent_settings, type=AgentSettings)
        self._supervision: Supervision | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._supervise, name="supervision", daemon=True).start()
        self._ready.wait()

    def _supervise(self) -> None:
        configure_logging("supervisor")
        asyncio.set_event_loop(self._loop)
        keep_texts_out(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as exc:  # whatever it was: a fresh process starts from Postgres
            log.exception(
                "supervision_broken error=%s", type(exc).__name__, exc_info=without_text(exc)
            )
            os._exit(1)

    async def _run(self) -> None:
        settings = self._settings
        database = Database(self._access("mana_supervisor"), max_connections=8)
        janitor = JanitorStore(Database(self._access("mana_janitor"), max_connections=1))
        self._supervision = Supervision(
            settings,
            self._agent_settings,
            database,
            RayProcesses(AgentActor, self._release, ASKED),
            name=self._name,
            release=self._release,
            janitor=janitor,
            ray_folder=ray_places().folder,
        )
        self._ready.set()
        await self._supervision.run()
        await asyncio.Event().wait()  # stood down or drained: keep answering what we know

    def _access(self, role: str) -> Access:
        file = str(Path(self._settings.secrets_dir, role))
        return Access(self._agent_settings.dsn, role, file, self._name)

    @property
    def _it(self) -> Supervision:
        assert self._supervision is not None
        return self._supervision

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wrap_future(future)

    async def report(self, raw: bytes) -> None:
        """Take an agent's report; if it returns, the place is free again."""
        await self._on_loop(self._it.report(decode_report(raw)))

    async def tick(self) -> str:
        """Begin a scan at the next turn; its id."""

        async def ask() -> str:
            return self._it.ask_tick()

        return await self._on_loop(ask())

    async def tick_status(self, tick_id: str) -> dict[str, Any] | None:
        """How a scan is doing."""

        async def look() -> dict[str, Any] | None:
            return self._it.ticks.report(tick_id)

        return await self._on_loop(look())

    async def stop_run(
        self, user_id: str, agent_id: str, mission_id: str, run_id: str, reason: str
    ) -> None:
        """Have an agent drop a run that was cancelled; nobody is told where it sleeps."""

        async def stop() -> None:
            self._it.stop_run((user_id, agent_id), mission_id, run_id, reason)

        await self._on_loop(stop())

    async def status(self) -> dict[str, Any]:
        """Facts for operators."""

        async def look() -> dict[str, Any]:
            return self._it.status()

        return await self._on_loop(look())

    async def memory_of(self, user_id: str, agent_id: str) -> dict[str, Any] | None:
        """What an awake agent's process holds: ids, versions and numbers."""
        return msgspec.to_builtins(await self._on_loop(self._it.memory_of((user_id, agent_id))))

    async def metrics(self) -> dict[str, Any]:
        """Counters since this process began."""

        async def look() -> dict[str, Any]:
            return self._it.metrics.snapshot()

        return await self._on_loop(look())

    async def drain(self, within_s: float) -> int:
        """Start nothing more and wait for what runs; returns runs still under way."""
        return await self._on_loop(self._it.drain(within_s))

    async def pid(self) -> int:
        """This process, for whoever asks whether it lives."""
        return os.getpid()
