"""The gateway as a Ray actor, one per node: what it knows by Ray, and its doors."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import msgspec

from mana_actors.crash import keep_to_ourselves
from mana_actors.logs import configure_logging
from mana_actors.remote import SupervisorHandle, ray_places
from state.store.connect import Access, Database
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.doors import Doors
from supervisor.health.ray_life import RayLife
from supervisor.health.room import RoomWatch, reserves
from supervisor.health.watch import STATEMENT_MS, Watch
from supervisor.node.settings import Settings


class GatewayActor:
    """Starts listening in the background; `address` waits for that."""

    def __init__(self, settings: bytes, dsn: str, supervisor: str, version: str) -> None:
        keep_to_ourselves()
        configure_logging("gateway")
        known = Settings.from_wire(settings)
        places = ray_places()
        role = "mana_gateway"
        access = Access(dsn, role, str(Path(known.secrets_dir, role)), "mana-gateway")
        own = msgspec.structs.replace(access, statement_timeout_ms=STATEMENT_MS)
        watch = Watch(
            fleet=FleetStore(Database(own, max_connections=1)),
            supervisor=SupervisorHandle(supervisor),
            settings=known,
            version=version,
            rooms=RoomWatch(reserves(known, places.folder)),
            ray=RayLife(places),
        )
        watch.start()
        self._doors = Doors(known, access, version, watch, lambda: SupervisorHandle(supervisor))
        self._doors.open()
        # A full collection would stop every page for 25 ms, to look at what is loaded for good.
        gc.collect()
        gc.freeze()

    def address(self) -> tuple[str, str]:
        """Where it answers, or "" and one line on what kept it from listening."""
        return self._doors.address()

    def pid(self) -> int:
        """This process, for whoever asks whether it lives."""
        return os.getpid()
