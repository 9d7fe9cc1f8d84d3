"""The gateway's two doors, people's and operators', each with a thread and a loop of its own.

Whatever people ask keeps their loop busy alone: operators, health and metrics are answered beside
it, by another copy of the app with connections of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Literal

import msgspec
from starlette.types import ASGIApp

from mana_actors.http.door import Doorway, Ending, Limits
from mana_actors.http.server import RunningServer, serve
from mana_actors.http.sockets import affordable
from mana_actors.logs import keep_texts_out, without_text
from state.store.connect import Access, Database
from state.store.gateway.control import ControlStore
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.app import create_app
from supervisor.gateway.auth import Sessions
from supervisor.gateway.deps import Deps
from supervisor.gateway.people.inbox.stager import Stager
from supervisor.gateway.people.owners import opened_copier, opened_owners
from supervisor.gateway.supervisor import Supervisor
from supervisor.health.watch import Watch
from supervisor.node.credentials import read_service_key
from supervisor.node.settings import Settings, SettingsError
from supervisor.supervision.metrics import Metrics

log = logging.getLogger("mana.gateway")

OPERATORS_MOST = 1024

Whose = Literal["people", "operators"]


class Doors:
    """Opens both in the background; `address` waits for that.

    `new_supervisor` makes a handle for one loop: a call is answered where it was made.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        version: str,
        watch: Watch,
        new_supervisor: Callable[[], Supervisor],
    ) -> None:
        self._settings, self._access, self._version = settings, access, version
        self._watch, self._new_supervisor = watch, new_supervisor
        self._metrics = Metrics()
        self._opened: dict[Whose, Future[str]] = {"operators": Future(), "people": Future()}
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._ends: list[Callable[[], object]] = []

    def open(self) -> None:
        """Begin to listen; returns at once."""
        try:
            key = read_service_key(self._settings)
        except SettingsError as exc:
            self._opened["operators"].set_exception(exc)
            return
        sessions = Sessions(key)
        for whose in self._opened:
            given = whose, key, sessions
            thread = threading.Thread(target=self._serve, args=given, name=whose, daemon=True)
            self._threads.append(thread)
            thread.start()

    def address(self) -> tuple[str, str]:
        """Where people are answered, or "" and one line on what kept a door from opening."""
        try:
            _, people = (opened.result() for opened in self._opened.values())
        except Exception as exc:  # noqa: BLE001 - told to whoever asks for the address
            return "", str(exc) or type(exc).__name__
        return people, ""

    def close(self) -> None:
        """Close both, and return once nobody is served any more."""
        self._is_closed = True  # one that opens at this moment sees that
        for end in self._ends:
            end()
        for thread in self._threads:
            thread.join()

    def _serve(self, whose: Whose, key: str, sessions: Sessions) -> None:
        opened = self._opened[whose]
        try:
            asyncio.run(self._listen(whose, key, sessions))
        except Exception as exc:  # whatever it was: a fresh process opens both doors again
            if opened.done():
                log.exception(
                    "door_broken door=%s error=%s",
                    whose,
                    type(exc).__name__,
                    exc_info=without_text(exc),
                )
                os._exit(1)
            opened.set_exception(exc)

    async def _listen(self, whose: Whose, key: str, sessions: Sessions) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        keep_texts_out(loop)
        settings, dsn = self._settings, self._access.dsn
        fleet = FleetStore(Database(self._access, max_connections=8))
        owners = opened_owners(settings, dsn)
        copier = opened_copier(settings, dsn, owners)
        deps = Deps(
            fleet=fleet,
            control=ControlStore(fleet.database),
            supervisor=self._new_supervisor(),
            watch=self._watch,
            settings=settings,
            version=self._version,
            service_key=key,
            metrics=self._metrics,
            owners=owners,
        )
        serving = await opened_door(create_app(deps, sessions), settings, self._metrics, whose)
        self._ends.append(partial(loop.call_soon_threadsafe, over.set))
        if self._is_closed:
            over.set()
        self._opened[whose].set_result(serving.url)
        log.info("gateway_listening door=%s url=%s", whose, serving.url)
        work = [asyncio.create_task(serving.until_over()), asyncio.create_task(over.wait())]
        owners.sync_hub.count_in(self._metrics, whose)
        work.append(asyncio.create_task(owners.sync_hub.run(settles=whose == "people")))
        if whose == "people":
            work.append(asyncio.create_task(Stager(owners).run()))
            if copier is not None:
                work.append(asyncio.create_task(copier.run()))
        done, left = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        for task in done:
            task.result()
        await serving.stop()
        await asyncio.wait(work)
        await owners.close()
        await fleet.close()


async def opened_door(
    app: ASGIApp, settings: Settings, metrics: Metrics, whose: Whose
) -> RunningServer:
    """The app behind one of the doors, on the running loop; raises CannotListen.

    Whoever holds all places of the one closes the other to nobody.
    """

    def counted(ending: Ending) -> None:
        metrics.inc("http_connections_ended_total", {"door": whose, "reason": ending})

    if whose == "operators":
        host, port, names = (
            settings.operators_host,
            settings.operators_port,
            settings.operators_names,
        )
        limits = Limits(most=affordable(OPERATORS_MOST))
    else:
        host, port, names = settings.host, settings.port, settings.names
        limits = msgspec.structs.replace(settings.limits, most=affordable(settings.limits.most))
    door = Doorway(limits, counted)
    return await serve(
        app, host, port, door, names=names, proxies=settings.proxies, has_sockets=True
    )
