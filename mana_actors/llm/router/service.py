"""A whole router, put together from its settings: routing, metrics, traces, alias file and app."""

import asyncio
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from mana_actors.llm.router.aliases.registry import Registry
from mana_actors.llm.router.app import create_app
from mana_actors.llm.router.calls import Calls
from mana_actors.llm.router.metrics import RouterMetrics
from mana_actors.llm.router.registry_source import LastGood, RegistrySource
from mana_actors.llm.router.routing import Router
from mana_actors.llm.router.settings import OneService, RouterSettings
from mana_actors.llm.router.traces import tracing
from mana_actors.llm.router.upstream import HttpUpstream, upstreams_of

FIND_AGAIN_S = 5.0
SILENT = "it does not say which models it has; it is asked again and again"


class LlmRouter:
    """A router and what it is made of, for one event loop; `app` serves it.

    Raises RegistryInvalid where its alias file is wrong and no valid copy of it is left.
    """

    def __init__(self, settings: RouterSettings, token: str) -> None:
        last_good = LastGood(Path(settings.last_good_file) if settings.last_good_file else None)
        self.source = RegistrySource(settings.source, self._put_in_force, last_good=last_good)
        registry = self.source.first()
        self._secrets_dir = Path(settings.secrets_dir)
        self.metrics = metrics = RouterMetrics()
        self._tracing = tracing(settings.otlp_endpoint)
        self._router = router = Router(
            registry,
            upstreams_of(registry, self._secrets_dir),
            threshold=settings.failure_threshold,
            backoff_s=settings.unhealthy_backoff_s,
            observer=metrics,
        )
        metrics.know(registry.names, router.health())
        self._awaited = settings.source
        self.app: ASGIApp = create_app(
            settings,
            token,
            router=router,
            source=self.source,
            calls=Calls(router, metrics=metrics, tracing=self._tracing),
            metrics=metrics,
        )

    async def keep(self) -> None:
        """Probe providers and follow the alias file, for as long as the process lives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._router.probe_loop())
            tasks.create_task(self._router.ask_loop())
            tasks.create_task(self.source.watch())
            if isinstance(self._awaited, OneService) and self._awaited.awaited:
                tasks.create_task(self._find_model(self._awaited))

    async def _find_model(self, service: OneService) -> None:
        """Ask a service that was silent for its models until there is one to take."""
        entry = self._router.registry.providers[service.name]
        upstream = HttpUpstream(entry, self._secrets_dir)
        try:
            while True:
                listing = await upstream.about()
                model, problem = listing.choice() if listing.models is not None else ("", "")
                if model:
                    found = msgspec.structs.replace(service, model=model, awaited=False)
                    self.source.adopt(msgspec.structs.replace(found, has_list=True))
                    return
                self.source.worry(f"{service.url}: {problem or SILENT}")
                await asyncio.sleep(FIND_AGAIN_S)
        finally:
            await upstream.aclose()

    async def aclose(self) -> None:
        """Let go of connections and send the last spans."""
        await self._router.aclose()
        await asyncio.to_thread(self._tracing.close)

    def _put_in_force(self, registry: Registry) -> None:
        self._router.replace(registry, upstreams_of(registry, self._secrets_dir))
        self.metrics.know(registry.names, self._router.health())
