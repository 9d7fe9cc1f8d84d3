"""A gateway on a test database, with a supervisor that says what the test wants."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from state.store.connect import Access
from state.store.connect import Database as Connections
from state.store.gateway.control import ControlStore
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.app import create_app
from supervisor.gateway.deps import Deps
from supervisor.gateway.people.owners import Owners
from supervisor.health.judgement import Facts
from supervisor.health.last_hour import HourTold, LastHour
from supervisor.health.room import RoomWatch, reserves
from supervisor.health.watch import Watch
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics
from tests.postgres import Database

KEY = "a-service-key-for-tests"
STATS: dict[str, Any] = {
    "scannedAt": "2026-04-26T10:00:00.000Z",
    "dueMissionCount": 2,
    "plansProduced": 1,
    "plansWrittenBack": 1,
    "parseFailures": 0,
    "errors": [],
}

IDLE = {"seconds": 21.4, "start_cpu_s": 0.2, "idle_cpu_share": 0.0093}


class FakeSupervisor:
    """Answers at once; `report` is what its tick reports, `dead` makes every call raise."""

    def __init__(self) -> None:
        self.metered = Metrics()
        self.report: dict[str, Any] = {"id": "t1", "state": "done", "stats": STATS}
        self.dead = False
        self.more: dict[str, Any] = {}
        self.ticks = self.asked = 0
        self.stopped: list[tuple[str, ...]] = []
        self.memories: dict[tuple[str, str], dict[str, Any]] = {}

    async def tick(self) -> str:
        self._check()
        self.ticks += 1
        return "t1"

    async def tick_status(self, tick_id: str) -> dict[str, Any] | None:
        self._check()
        return self.report if tick_id == self.report["id"] else None

    async def status(self) -> dict[str, Any]:
        self.asked += 1
        self._check()
        awake = [{"user": "u1", "agent": f"a{number}", "pid": 7} for number in (1, 2, 3)]
        told = {"awake": awake, "warm": 1, "feed_waiting": 0, "idle": IDLE}
        return told | self.more

    async def stop_run(
        self, user_id: str, agent_id: str, mission_id: str, run_id: str, reason: str
    ) -> None:
        self._check()
        self.stopped.append((user_id, agent_id, mission_id, run_id, reason))

    async def memory_of(self, user_id: str, agent_id: str) -> dict[str, Any] | None:
        self._check()
        return self.memories.get((user_id, agent_id))

    async def metrics(self) -> dict[str, Any]:
        self._check()
        return self.metered.snapshot()

    def _check(self) -> None:
        if self.dead:
            raise ConnectionError("actor died")


def busy_hour() -> HourTold:
    """Forty-five minutes in which more and more happened."""
    hour, ran = LastHour(), 0.0
    now_s = datetime.now(UTC).timestamp()
    for minute in range(46):
        ran += minute % 7 + minute // 9
        counted = {"ran": ran, "failed": ran // 40, "woken": ran // 3, "tokens": ran * 2_300}
        hour.note(now_s - (45 - minute) * 60, counted, 0.2 + minute % 5 / 10)
    return hour.told()


def fleet_of(database: Database) -> FleetStore:
    """The fleet of a test database, as the gateway's own role."""
    role = "mana_gateway"
    access = Access(database.dsn(role), role, str(database.password_file(role)))
    return FleetStore(Connections(access, max_connections=4))


def settings_for(folder: Path, **more: Any) -> Settings:
    """Settings of an embedded node in a folder."""
    return Settings(data_dir=str(folder), secrets_dir=str(folder / "secrets"), **more)


class FreshWatch(Watch):
    """Looks anew whenever it is asked, on the test's own loop."""

    async def facts(self) -> Facts:
        await self.look()
        return await super().facts()


def watch_of(fleet: FleetStore, supervisor: FakeSupervisor, settings: Settings) -> FreshWatch:
    """A watch without a Ray."""
    return FreshWatch(
        fleet=fleet,
        supervisor=supervisor,
        settings=settings,
        version="1.2.3",
        rooms=RoomWatch(reserves(settings, None)),
    )


def deps_of(
    fleet: FleetStore, supervisor: FakeSupervisor, settings: Settings, owners: Owners | None = None
) -> Deps:
    """What a gateway under test is made of."""
    return Deps(
        fleet=fleet,
        control=ControlStore(fleet.database),
        supervisor=supervisor,
        watch=watch_of(fleet, supervisor, settings),
        settings=settings,
        version="1.2.3",
        service_key=KEY,
        metrics=Metrics(),
        owners=owners,
    )


def app_of(fleet: FleetStore, supervisor: FakeSupervisor, folder: Path, **settings: Any) -> ASGIApp:
    """The gateway's app."""
    return create_app(deps_of(fleet, supervisor, settings_for(folder, **settings)))


def client_of(app: ASGIApp, *, key: str | None = KEY) -> httpx2.AsyncClient:
    """A client of the app without a socket; server errors come back as answers."""
    headers = {} if key is None else {"X-Service-Key": key}
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)
