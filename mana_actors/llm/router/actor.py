"""The LlmRouter as a Ray actor: serves HTTP on loopback from a thread of its own, one per node.

Nothing of a prompt passes through Ray: its methods carry a reload and an address, no more. The
constructor does no IO. Provider keys are read in this process only, from their files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mana_actors.llm.router.app import Service, create_app, label_names
from mana_actors.llm.router.calls import Calls
from mana_actors.llm.router.metrics import Metrics
from mana_actors.llm.router.registry import ProviderEntry, Registry
from mana_actors.llm.router.reloading import LastGood, Reloading
from mana_actors.llm.router.routing import Router
from mana_actors.llm.router.settings import OneService, RouterSettings
from mana_actors.llm.router.telemetry import Tracing, tracing
from mana_actors.llm.router.upstream import HttpUpstream
from mana_actors.llm.server import bound_socket
from mana_actors.logs import configure_logging

log = logging.getLogger("mana.llm")

_BIND_AGAIN_S = 0.5
_TOLD_WITHIN_S = 3.0
_HOST = "127.0.0.1"


class LlmRouter:
    """A router and what it is made of, in one event loop; `app` serves it."""

    def __init__(self, settings: RouterSettings, token: str) -> None:
        last_good = LastGood(Path(settings.last_good_file) if settings.last_good_file else None)
        registry, problem = last_good.first(settings.source)
        self._registry, self._secrets_dir = registry, Path(settings.secrets_dir)
        self._metrics = Metrics()
        self._upstreams = self._upstreams_for(registry, {})
        self._entries = dict(registry.providers)
        self._tracing: Tracing = tracing(settings.otlp_endpoint)
        self._router = Router(
            registry,
            self._upstreams,
            threshold=settings.failure_threshold,
            backoff_s=settings.unhealthy_backoff_s,
            observer=self._metrics,
        )
        self._know(registry)
        self.reloading = Reloading(
            settings.source, self._put_in_force, last_good=last_good, problem=problem
        )
        self.app: ASGIApp = create_app(self._service(settings, token))

    async def keep(self) -> None:
        """Probe providers and follow the alias file, for as long as the process lives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._router.probe_loop())
            tasks.create_task(self.reloading.watch())

    async def aclose(self) -> None:
        """Let go of connections and send the last spans."""
        for upstream in self._upstreams.values():
            await upstream.aclose()
        await asyncio.to_thread(self._tracing.close)

    def _service(self, settings: RouterSettings, token: str) -> Service:
        only = settings.source.name if isinstance(settings.source, OneService) else None
        calls = Calls(
            self._router,
            lambda: self._registry,
            metrics=self._metrics,
            tracing=self._tracing,
            only_service=only,
        )
        return Service(
            settings=settings,
            token=token,
            router=self._router,
            registry=lambda: self._registry,
            loaded=lambda: self.reloading.state,
            calls=calls,
            metrics=self._metrics,
        )

    def _put_in_force(self, registry: Registry) -> None:
        upstreams = self._upstreams_for(registry, self._upstreams)
        self._registry, self._upstreams = registry, upstreams
        self._entries = dict(registry.providers)
        self._router.replace(registry, upstreams)
        self._know(registry)

    def _upstreams_for(
        self, registry: Registry, present: Mapping[str, HttpUpstream]
    ) -> dict[str, HttpUpstream]:
        """An upstream for each provider; an unchanged one keeps its connections."""
        return {
            name: present[name]
            if name in present and self._entries.get(name) == entry
            else HttpUpstream(entry, self._secrets_dir)
            for name, entry in registry.providers.items()
        }

    def _know(self, registry: Registry) -> None:
        configured = [name for name, each in self._upstreams.items() if each.is_configured()]
        self._metrics.know(label_names(registry), configured)

    _entries: dict[str, ProviderEntry]


class LlmRouterActor:
    """Starts listening in the background; `address` waits for the first try."""

    def __init__(self, settings: bytes) -> None:
        self._settings = RouterSettings.from_wire(settings)
        self._loop = asyncio.new_event_loop()
        self._tried = threading.Event()
        self._router: LlmRouter | None = None
        self._problem = ""
        threading.Thread(target=self._serve, name="llm-router", daemon=True).start()

    def address(self) -> tuple[str, str]:
        """Where it answers, and one line on what keeps it from listening ("" nothing)."""
        self._tried.wait()
        return self._settings.url, self._problem

    async def reload(self) -> bool:
        """Read the alias file again; False when the old state stays because it is wrong."""
        if self._router is None:
            return False
        again = asyncio.run_coroutine_threadsafe(self._router.reloading.reload(), self._loop)
        return await asyncio.wrap_future(again)

    def pid(self) -> int:
        """This process, for tests that kill it."""
        return os.getpid()

    def _serve(self) -> None:
        configure_logging()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as exc:
            log.error("router_broken error=%s", type(exc).__name__)  # noqa: TRY400 - may hold text
            self._problem = str(exc) or type(exc).__name__
            self._tried.set()
            time.sleep(_TOLD_WITHIN_S)  # for who waits for the address
            os._exit(1)  # Ray starts a new one, which reads its files again

    async def _run(self) -> None:
        token = (await asyncio.to_thread(Path(self._settings.token_file).read_text)).strip()
        self._router = LlmRouter(self._settings, token)
        await asyncio.gather(self._listen(self._router.app), self._router.keep())

    async def _listen(self, app: ASGIApp) -> None:
        """Serve; while the address is taken, as by a predecessor that is ending, try again."""
        while True:
            try:
                listening = bound_socket(_HOST, self._settings.port)
                break
            except OSError as exc:
                self._problem = f"port {self._settings.port}: {exc.strerror}"
                self._tried.set()
                await asyncio.sleep(_BIND_AGAIN_S)
        self._problem = ""
        self._tried.set()
        log.info("router_listening url=%s", self._settings.url)
        await uvicorn.Server(server_config(app)).serve([listening])


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How the app is served."""
    return uvicorn.Config(
        app,
        http="h11",  # refuses what is not HTTP strictly
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
