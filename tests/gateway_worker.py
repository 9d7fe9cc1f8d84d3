"""A gateway as a process of its own, which may be killed: `python -m tests.gateway_worker`.

Standard input has one JSON object: `settings`, `dsn` by role, `secrets`, `port`.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from mana_actors.http.server import serve
from state.store.connect import Access, Database
from state.store.gateway.fleet import FleetStore
from supervisor.gateway.app import create_app
from supervisor.gateway.people.owners import opened_owners
from supervisor.node.settings import Settings
from tests.gateway_parts import FakeSupervisor, deps_of


async def main() -> None:
    """Serve until killed."""
    given: dict[str, Any] = msgspec.json.decode(sys.stdin.buffer.read())
    settings = msgspec.convert(given["settings"], Settings)
    role = "mana_gateway"
    access = Access(given["dsn"], role, str(Path(settings.secrets_dir, role)))
    fleet = FleetStore(Database(access, max_connections=4))
    owners = opened_owners(settings, given["dsn"])
    deps = deps_of(fleet, FakeSupervisor(), settings, owners)
    await serve(create_app(deps), "127.0.0.1", given["port"], has_sockets=True)
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
