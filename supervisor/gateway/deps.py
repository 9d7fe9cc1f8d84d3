"""What the gateway is made of."""

from contextlib import suppress

import msgspec

from state.store.gateway.control import ControlStore
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.supervisor import Supervisor, SupervisorSilent, asked
from supervisor.health.judgement import Facts
from supervisor.health.watch import Watch
from supervisor.node.settings import Settings
from supervisor.supervision.metrics import Metrics


class Deps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the app is made of; the service key comes from its file."""

    fleet: FleetStore
    control: ControlStore
    supervisor: Supervisor
    watch: Watch
    settings: Settings
    version: str
    service_key: str
    metrics: Metrics
    owners: Owners | None = None  # None: no auth service is named


async def facts(deps: Deps) -> Facts:
    """What is known, with the supervisor as it is now where it answers at once; never raises."""
    found = await deps.watch.facts()
    with suppress(SupervisorSilent):
        told = await asked(deps.supervisor.status(), 1.0)
        return msgspec.structs.replace(found, supervisor=told)
    return found
