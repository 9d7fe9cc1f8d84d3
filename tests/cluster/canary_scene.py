"""A node at work for one person with an encrypted note, and everywhere that a text could lie."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec

from mana_actors.client.owner.grants import MissionGrants
from mana_actors.client.owner.sealing import OwnerKeys
from state.grants.grant import Derivation, derived_key
from supervisor.custody.key_folder import add_key
from supervisor.gateway.app import INTERNAL
from tests import canary
from tests.canary import Hit, Needle
from tests.collector import Collector
from tests.fake_auth import FakeAuth
from tests.fake_provider import Entry, Recorded
from tests.faults.scene import DEFAULT_AGENT, FAST, ScriptedProvider
from tests.integration.support import Client, HeldProvider
from tests.node import NodeProcess
from tests.owners import Desk, key_variables
from tests.postgres import FOLDER_PREFIX, LOG_OWNER, MEMORY, SUPERUSER, Database

USER = "u1"
REF = {"module": "notes", "table": "notes", "id": "n1"}
PEOPLE = ("/internal/people", "/internal/spaces")
"""Nobody signs in here: this node has an auth service of its own."""
PAGES = ("/health", "/metrics", "/", f"/agents/{USER}/{DEFAULT_AGENT}")
ROUTER_PATHS = ("/health", "/metrics", "/v1/health", "/v1/aliases", "/v1/models")
PATIENCE_S = 90.0
KINDS = {
    "ray::SupervisorActor": "supervisor",
    "ray::GatewayActor": "gateway",
    "ray::LlmRouterActor": "router",
    "ray::AgentActor": "warm",
    "mana_actors.keys": "key holder",
    "supervisor.node.keeper": "node keeper",
    "supervisor.node.main": "node",
}
"""Our processes by a part of their title; all others are Ray's own."""


class Provider(HeldProvider, ScriptedProvider):
    """Plays a script per mission, and holds its answers when told to."""

    _hold_at = 0

    def hold_at(self, count: int) -> None:
        """Hold answers from this model call on."""
        self._hold_at = count

    def _record(self, request: Recorded) -> Entry:
        entry = super()._record(request)
        calls = sum(each.body is not None for each in self.requests)  # not looks at its models
        if request.body is not None and calls == self._hold_at:
            self._gate.clear()
        return entry


class Story:
    """One person whose note is read by two missions, and everything of the node that read it."""

    def __init__(
        self,
        database: Database,
        node: NodeProcess,
        provider: Provider,
        collector: Collector,
        owner: "Owner",
        admin: asyncpg.Connection,
    ) -> None:
        self.database, self.node, self.provider = database, node, provider
        self.collector, self.owner, self.admin = collector, owner, admin

    async def until(self, look: Callable[[], Any]) -> Any:
        """What it gives once that is something."""
        give_up = time.monotonic() + PATIENCE_S
        while not (found := await look()):
            assert time.monotonic() < give_up, self.node.printed()
            await asyncio.sleep(0.1)
        return found

    async def ended(self, mission: str) -> str:
        """How a mission's run ended."""

        async def look() -> Any:
            return await self.admin.fetchval(
                "SELECT state FROM mana_ai.runs WHERE mission_id = $1"
                " AND state IN ('committed', 'failed')",
                mission,
            )

        return await self.until(look)

    async def asked(self, mission: str, times: int = 1) -> None:
        """Return once the model was asked for a mission so often."""

        async def look() -> Any:
            return len(self.provider.requests_for(mission)) >= times

        await self.until(look)

    async def gone(self, pids: Iterable[int]) -> None:
        """Return once these processes have ended."""

        async def look() -> Any:
            return not set(pids) & set(self.node.processes())

        await self.until(look)

    async def asleep(self) -> None:
        """Return once nobody is awake."""

        async def look() -> Any:
            return not self.agents()

        await self.until(look)

    def assert_no_core_files(self) -> None:
        """No process of ours leaves one, however it ends."""
        for pid, title in self.node.processes().items():
            if _kind(title) != "ray":
                limits = canary.shown_of(pid, "limits").decode().splitlines()
                cores = [one.split()[4:6] for one in limits if one.startswith("Max core file")]
                assert cores in ([], [["0", "0"]]), title

    def agents(self) -> list[int]:
        """Processes that belong to somebody."""
        return [awake.pid for awake in self.node.awake().values()]

    async def outside(self, needles: list[Needle]) -> set[Hit]:
        """Hits in files, tables, pages, traces, environments and arguments."""
        shared = [f for f in MEMORY.iterdir() if not f.name.startswith(FOLDER_PREFIX)]
        hits = canary.in_files(needles, [self.node.folder, *shared])  # tables are searched as such
        hits |= await canary.in_tables(needles, self.admin)
        for place, page in self._pages():
            hits |= canary.found(needles, place, page)
        for body in self.collector.bodies:
            hits |= canary.found(needles, "traces", body)
        for pid in self.node.processes():
            hits |= canary.in_surroundings(needles, pid)
        return hits

    def inside(self, needles: list[Needle]) -> dict[str, set[str]]:
        """Names of needles by kind of process whose memory holds them."""
        agents = self.agents()
        hits: dict[str, set[str]] = {}
        for pid, title in self.node.processes().items():
            kind = "agent" if pid in agents else _kind(title)
            hits.setdefault(kind, set()).update(canary.in_memory(needles, pid))
        return hits

    def _pages(self) -> list[tuple[str, bytes]]:
        """Every page and list that an operator can open, and the router's."""
        login = self.node.http("POST", "/internal/login").json()["path"]
        with httpx2.Client(base_url=self.node.url, trust_env=False, timeout=15) as browser:
            assert browser.get(login).status_code == 200
            paths = [
                *_internal_paths(),
                "/health",
                "/metrics",
                "/",
                f"/agents/{USER}/{DEFAULT_AGENT}",
            ]
            headers = {"X-Service-Key": self.node.service_key}
            answers = [browser.get(path, headers=headers) for path in paths]
            router = self.node.http("GET", "/internal/llm").json()["url"]
            token = (self.database.secrets_dir / "llm_token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            answers += [browser.get(router + path, headers=headers) for path in ROUTER_PATHS]
        unexpected = [
            (one.url, one.status_code)
            for one in answers
            if one.status_code != (404 if one.url.path.startswith(PEOPLE) else 200)
        ]
        assert unexpected == [], unexpected
        return [(str(one.url), one.content) for one in answers]


def _internal_paths() -> list[str]:
    """Every list of the gateway's."""
    names = {"{user}": USER, "{agent}": DEFAULT_AGENT}
    paths = [path for verb, path, _ in INTERNAL if verb == "GET" and "{id}" not in path]
    for name, value in names.items():
        paths = [path.replace(name, value) for path in paths]
    return paths


def _kind(title: str) -> str:
    """What a process is, by its title."""
    for sign, kind in KINDS.items():
        if sign in title:
            return kind
    return "ray"


class Owner:
    """The person: a device that pushes, a browser that grants."""

    def __init__(self, device: Client, client: MissionGrants, master_key: bytearray) -> None:
        self.device, self.client, self.master_key = device, client, master_key
        self.data_keys: list[bytes] = []

    async def write(self, note: dict[str, Any]) -> None:
        """The note as it is synced."""
        self.sealed = self.client.keys.seal("notes", note)
        await self.device.push("insert", "n1", self.sealed, table="notes", app="notes")

    async def grant(self, mission: str) -> None:
        """A mission that is due, and may read the note."""
        await self.device.mission(mission, inputs=[REF], objective=f"Plane {mission}")
        grant = await self.client.ask(mission, ["notes:n1"], exposure="any")
        derivation = msgspec.convert(grant["derivation"], Derivation)
        with derived_key(self.master_key, USER, derivation) as key:
            self.data_keys.append(bytes(key.material))
        await self.device.edit(mission, grant=grant)
        await self.client.hand_over(grant, {"notes:n1": self.sealed})


@asynccontextmanager
async def told(database: Database, folder: Path) -> AsyncGenerator[Story]:
    """A node at work, with a vault, a key holder and a collector of traces."""
    collector = Collector()
    async with AsyncExitStack() as stack:
        stack.callback(collector.close)
        auth = await stack.enter_async_context(FakeAuth())
        for kind in ("runner", "issuer"):
            add_key(folder / "keys", kind, datetime.now(UTC))
        named = {k: v for k, v in key_variables(folder).items() if k == "MANA_AUTH_KEK_FILE"}
        named |= {"MANA_AUTH_URL": auth.url, "MANA_KEYS_DIR": str(folder / "keys")}
        named |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "MANA_AGENT_KEEP_AWAKE": "true"}
        provider = stack.enter_context(Provider())
        node = stack.enter_context(NodeProcess(database, provider.url, **FAST, **named))
        log = await database.connect(LOG_OWNER)
        stack.push_async_callback(log.close)
        admin = await database.connect(SUPERUSER)
        stack.push_async_callback(admin.close)
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=node.url, trust_env=False)
        )
        master_key = bytearray(await Desk(http, auth, USER).key())
        grants = MissionGrants(http, auth.token(USER), OwnerKeys(USER, master_key))
        owner = Owner(Client(log, USER), grants, master_key)
        yield Story(database, node, provider, collector, owner, admin)
