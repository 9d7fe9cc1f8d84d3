"""What the gateway is made of, and the facts that its health is judged from."""

import asyncio
import logging
from typing import Any

import msgspec

from state.errors import StateError
from state.store.gateway.control import ControlStore
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.supervisor import ASK_S, Supervisor, SupervisorSilent, asked
from supervisor.node.health import START_S, Facts
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics

log = logging.getLogger("mana.gateway")


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


async def facts(deps: Deps) -> Facts:
    """What health is judged from; never raises."""
    supervisor, found = await asyncio.gather(_status(deps), _shards(deps))
    return Facts(supervisor=supervisor, shards=found[0], overdue=found[1])


async def _status(deps: Deps) -> dict[str, Any] | None:
    try:
        return await asked(deps.supervisor.status())
    except SupervisorSilent:
        return None


async def _shards(deps: Deps) -> tuple[list[Any] | None, int]:
    try:
        async with asyncio.timeout(ASK_S):
            return await deps.fleet.shards(), await deps.fleet.overdue(START_S)
    except (StateError, TimeoutError) as exc:
        log.warning("database_silent error=%s", type(exc).__name__)
        return None, 0
