"""`mana demo`: an installation of its own, eight missions of three people, what became of them."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from mana_actors.client import APPS, Client, ShownRecord
from mana_actors.http.paths import path_of
from state.store import embedded
from state.store.connect import Access, Database
from state.store.sync_log import SyncLog
from supervisor.cli import up_down
from supervisor.cli.environment import node_environment
from supervisor.cli.failures import FAILED, Failure
from supervisor.cli.gateway_client import Gateway
from supervisor.cli.output import json_out
from supervisor.demo.facts import MissionFacts, Outcome, is_settled, mission_facts, outcome
from supervisor.demo.story import MISSIONS, POISON, POISONED, RAN, USERS, written
from supervisor.demo.table import Stage
from supervisor.node.credentials import read_service_key
from supervisor.node.settings import AGENT_VARIABLES, SECRET_VARIABLES, VARIABLES

LOG_OWNER = "mana_sync"
DUE_IN = timedelta(seconds=2)
WARM_WITHIN_S = 15.0
SETTLED_WITHIN_S = 40.0
POLL_S = 0.15
WATCHED = ("/internal/decisions", "/internal/runs", "/internal/problems")
OWN_VARIABLES = {
    *VARIABLES.values(),
    *(variable for variable, _ in AGENT_VARIABLES.values()),
    *SECRET_VARIABLES,
    "TICK_ENABLED",
    "MANA_BUCKETS",
    "POLICY_MODE",
}
AWAKE = {(mission.user, mission.agent) for mission in MISSIONS if mission.expected == RAN}
SHORT = {
    "PORT": "0",
    "MANA_WARM_POOL": str(len(AWAKE)),
    "TICK_INTERVAL_MS": "5000",
    # Long enough that the two missions of one agent meet.
    "MANA_REHEARSAL_LATENCY_MS": "300",
}


def run_demo(*, as_json: bool, keep: bool) -> int:
    """The exit code; facts on stdout, progress on stderr."""
    began = time.monotonic()
    with _folder(keep=keep) as folder:
        env, settings = node_environment({**SHORT, "MANA_DATA_DIR": str(folder)})
        up_down.say("starting an installation of its own")
        try:
            node, _ = up_down.start(env, settings)
            gateway = Gateway(node.url, read_service_key(settings))
            result = asyncio.run(_performed(folder, gateway, Stage(is_quiet=as_json)))
        finally:
            up_down.stop(folder)
    if as_json:
        json_out(msgspec.to_builtins(result))
    for reason in result.reasons:
        up_down.say(f"not as it should be: {reason}")
    up_down.say(f"the demo took {time.monotonic() - began:.0f} s")
    return 0 if result.ok else FAILED


async def _performed(folder: Path, gateway: Gateway, stage: Stage) -> Outcome:
    server = embedded.status(folder)
    if server is None:
        raise Failure("the demo's Postgres is gone")
    access = Access(server.dsn(LOG_OWNER), LOG_OWNER, str(server.secret(LOG_OWNER)), "mana-demo")
    database = Database(access, max_connections=1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        clients: dict[str, Client] = {}
        for user in USERS:
            told = await asyncio.to_thread(_signed_in, gateway, user)
            opened = Client.open(
                folder / "clients" / f"{user}.db",
                url=gateway.url,
                token=told["accessToken"],
                live=False,
            )
            clients[user] = await stack.enter_async_context(opened)
        return await _Demo(gateway, SyncLog(database), clients, stage).play()


def _signed_in(gateway: Gateway, user: str) -> dict[str, str]:
    """A token of somebody who is new here."""
    gateway.call("POST", "/internal/people", content={"user": user})
    return gateway.call("POST", path_of("/internal/people", user) + "/token")


class _Demo:
    """The clients, and what they see."""

    def __init__(
        self, gateway: Gateway, log: SyncLog, clients: dict[str, Client], stage: Stage
    ) -> None:
        self._gateway, self._log, self._clients, self._stage = gateway, log, clients, stage
        self._pushed: dict[str, datetime] = {}
        self._due = datetime.now(UTC)

    async def play(self) -> Outcome:
        """Write, watch, and show what is sent back."""
        # A moment for the pool, so that the table shows how long a wake takes and not a start.
        up_down.say(f"warming {len(AWAKE)} processes")
        give_up = time.monotonic() + WARM_WITHIN_S
        while time.monotonic() < give_up:
            told = await asyncio.to_thread(self._gateway.get, "/internal/status")
            if (told["supervisor"] or {}).get("warm", 0) >= len(AWAKE):
                break
            await asyncio.sleep(POLL_S)
        self._due = datetime.now(UTC) + DUE_IN
        await asyncio.gather(*(self._wrote(user) for user in USERS))
        await self._log.push(POISONED, f"faulty-{POISONED}", [POISON])
        missions, quarantined = await self._watched()
        result = outcome(missions, quarantined)
        self._stage.records({user: await self._shown(user) for user in USERS})
        return result

    async def _wrote(self, user: str) -> None:
        client = self._clients[user]
        apps: dict[str, None] = {}
        async with client.transaction():
            for one in written(self._due):
                if one.user == user:
                    apps[APPS[one.table]] = None
                    await client.table(one.table).put(one.id, one.fields)
        await client.sync(*apps)
        self._pushed[user] = datetime.now(UTC)

    async def _watched(self) -> tuple[list[MissionFacts], int]:
        """Look until everything is settled, or for 40 s."""
        give_up = time.monotonic() + SETTLED_WITHIN_S
        with self._stage.table() as show:
            while True:
                decisions, runs, problems = [
                    await asyncio.to_thread(self._gateway.items, path, {}, 200) for path in WATCHED
                ]
                shown = {
                    (user, record.id): record.fields
                    for user in USERS
                    for record in await self._shown(user)
                }
                missions = [
                    mission_facts(
                        mission,
                        due=self._due,
                        pushed=self._pushed[mission.user],
                        decisions=decisions,
                        runs=runs,
                        shown=shown[mission.user, mission.id],
                    )
                    for mission in MISSIONS
                ]
                show(missions, len(problems))
                if is_settled(missions, len(problems)) or time.monotonic() > give_up:
                    return missions, len(problems)
                await asyncio.sleep(POLL_S)

    async def _shown(self, user: str) -> list[ShownRecord]:
        await self._clients[user].sync("ai")
        return await self._clients[user].table("aiMissions").list()


@contextmanager
def _folder(*, keep: bool) -> Generator[Path]:
    """A data directory for the demo alone; settings meant for another installation are gone."""
    for name in OWN_VARIABLES:
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="mana-demo-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # Postgres runs as another account
    try:
        yield folder
    finally:
        if keep:
            up_down.say(f"its data stays in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
