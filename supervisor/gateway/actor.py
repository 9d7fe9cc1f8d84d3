"""The gateway as a Ray actor: serves HTTP from a thread of its own, one per node."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from mana_actors.crash import keep_to_ourselves
from mana_actors.http.door import Doorway, Ending, Limits
from mana_actors.http.server import RunningServer, serve
from mana_actors.http.sockets import affordable
from mana_actors.logs import configure_logging, keep_texts_out
from mana_actors.remote import SupervisorHandle, ray_places
from state.store.connect import Access, Database
from state.store.gateway.control import ControlStore
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.app import create_app
from supervisor.gateway.deps import Deps
from supervisor.gateway.people.inbox.stager import Stager
from supervisor.gateway.people.owners import opened_copier, opened_owners
from supervisor.health.ray_life import RayLife
from supervisor.health.room import RoomWatch, reserves
from supervisor.health.watch import STATEMENT_MS, Watch
from supervisor.node.credentials import read_service_key
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics

log = logging.getLogger("mana.gateway")

OPERATORS_MOST = 1024


class GatewayActor:
    """Starts listening in the background; `address` waits for that."""

    def __init__(self, settings: bytes, dsn: str, supervisor: str, version: str) -> None:
        keep_to_ourselves()
        self._settings = Settings.from_wire(settings)
        self._dsn, self._supervisor, self._version = dsn, supervisor, version
        self._listening = threading.Event()
        self._url = ""
        self._problem = ""
        threading.Thread(target=self._serve, name="gateway", daemon=True).start()

    def _serve(self) -> None:
        configure_logging("gateway")
        try:
            asyncio.run(self._listen())
        except Exception as exc:  # noqa: BLE001 - told to whoever asks for the address
            self._problem = str(exc) or type(exc).__name__
            self._listening.set()

    async def _listen(self) -> None:
        keep_texts_out(asyncio.get_running_loop())
        settings = self._settings
        access = Access(
            self._dsn,
            "mana_gateway",
            str(Path(settings.secrets_dir, "mana_gateway")),
            "mana-gateway",
        )
        fleet = FleetStore(Database(access, max_connections=8))
        owners = opened_owners(settings, self._dsn)
        copier = opened_copier(settings, self._dsn, owners)
        deps = Deps(
            fleet=fleet,
            control=ControlStore(fleet.database),
            supervisor=SupervisorHandle(self._supervisor),
            watch=self._watch(access),
            settings=settings,
            version=self._version,
            service_key=read_service_key(settings),
            metrics=Metrics(),
            owners=owners,
        )
        serving, operators = await open_doors(create_app(deps), settings, deps.metrics)
        self._url = serving.url
        self._listening.set()
        log.info("gateway_listening url=%s operators=%s", serving.url, operators.url)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(Stager(owners).run())
            loops.create_task(owners.sync_hub.run())
            loops.create_task(asyncio.Event().wait() if copier is None else copier.run())

    def _watch(self, access: Access) -> Watch:
        """The watch at work, on a connection and with a handle of its own."""
        own = msgspec.structs.replace(access, statement_timeout_ms=STATEMENT_MS)
        places = ray_places()
        watch = Watch(
            fleet=FleetStore(Database(own, max_connections=1)),
            supervisor=SupervisorHandle(self._supervisor),
            settings=self._settings,
            version=self._version,
            rooms=RoomWatch(reserves(self._settings, places.folder)),
            ray=RayLife(places),
        )
        watch.start()
        return watch

    def address(self) -> tuple[str, str]:
        """Where it answers, or "" and one line on what kept it from listening."""
        self._listening.wait()
        return self._url, self._problem


async def open_doors(
    app: ASGIApp, settings: Settings, metrics: Metrics
) -> tuple[RunningServer, RunningServer]:
    """The app behind the door for people and the operators' own; raises CannotListen.

    Whoever holds all places of the one closes the other to nobody.
    """

    def counted(door: str) -> Callable[[Ending], None]:
        return lambda ending: metrics.inc(
            "http_connections_ended_total", {"door": door, "reason": ending}
        )

    operators = await serve(
        app,
        settings.operators_host,
        settings.operators_port,
        Doorway(Limits(most=affordable(OPERATORS_MOST)), counted("operators")),
        names=settings.operators_names,
        proxies=settings.proxies,
    )
    limits = msgspec.structs.replace(settings.limits, most=affordable(settings.limits.most))
    people = await serve(
        app,
        settings.host,
        settings.port,
        Doorway(limits, counted("people")),
        names=settings.names,
        proxies=settings.proxies,
    )
    return people, operators
