"""What the gateway needs from outside, and what a tick reports."""

from typing import Any, Literal, Protocol

import msgspec

from state.store.control import ControlStore
from state.store.fleet import FleetStore
from supervisor.gateway.people.owners import Owners
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics


class TickStats(msgspec.Struct, frozen=True, rename="camel"):
    """What one scan for due missions did (tick §2); `errors` are `mission=<id>: <message>`."""

    scanned_at: str
    due_mission_count: int = 0
    plans_produced: int = 0
    plans_written_back: int = 0
    parse_failures: int = 0
    errors: list[str] = []


class TickReport(msgspec.Struct, frozen=True):
    """One asked-for tick: under way, over, or failed because the scan itself did."""

    id: str
    state: Literal["running", "done", "failed"]
    stats: TickStats | None = None


class Supervisor(Protocol):
    """What the gateway asks of the supervisor, in whatever process that is; any call may raise."""

    async def tick(self) -> str:
        """Begin a scan now, or join the one under way; its id."""
        ...

    async def tick_status(self, tick_id: str) -> dict[str, Any] | None:
        """A `TickReport` as JSON values; None for an id it does not know."""
        ...

    async def status(self) -> dict[str, Any]:
        """Facts for operators: a list `awake`, a text `problem` or null, and more JSON values."""
        ...

    async def stop_run(
        self, user_id: str, agent_id: str, mission_id: str, run_id: str, reason: str
    ) -> None:
        """Have an agent drop a run that was cancelled."""
        ...

    async def metrics(self) -> dict[str, Any]:
        """A snapshot of its `supervisor.supervision.metrics.Metrics`."""
        ...


class Deps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the app is made of; the service key comes from its file."""

    fleet: FleetStore
    control: ControlStore
    supervisor: Supervisor
    settings: Settings
    version: str
    service_key: str
    metrics: Metrics
    owners: Owners | None = None  # None: no auth service is named
