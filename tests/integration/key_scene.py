"""A person's mission with a grant, a live run of it, and a key holder, for tests of keys."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mana_actors.keys.client import HeldKey, KeyHolder
from mana_actors.keys.releases import Releases
from mana_actors.keys.server import KeyServer
from state.grants.grant import Trust
from state.grants.mint import Issuer, minted_grant, read_request
from state.rules.exposure import Exposure
from state.sealing import key_pairs
from state.store.agent import AgentStore, Claim, keys_capability
from state.store.connect import Database as Pool
from state.store.keys import KeyStore
from tests.integration.support import LONG_AGO, Json, World
from tests.unit.test_grant_vectors import case

PEMS: dict[str, dict[str, str]] = case("grant", "unwrap: ok")["keys"]
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MASTER_KEY = bytes(range(1, 33))
DAY_S = 86_400


def minted(
    mission: str = "m1",
    user: str = "u1",
    *,
    age_s: float = 0,
    exposure: Exposure = "local",
    **fields: Any,
) -> Json:
    """A grant as our issuer makes it, `age_s` seconds ago."""
    body: Json = {"missionId": mission, "tables": ["notes"], "recordIds": ["notes:n1"]}
    return minted_grant(
        read_request(body | fields),
        user_id=user,
        master_key=MASTER_KEY,
        issuer=Issuer(key_pairs.runner_public_key(PEMS["a"]["publicPem"]), SIGNING_KEY),
        now=time.time_ns() - int(age_s * 1e9),
        exposure=exposure,
    )


def trust(**more: Any) -> Trust:
    """What our key holder goes by."""
    issuer = SIGNING_KEY.public_key()
    known: Json = {
        "private_keys": (key_pairs.runner_private_key(PEMS["a"]["privatePem"]),),
        "issuers": {key_pairs.issuer_key_id(issuer): issuer},
    }
    return Trust(**known | more)


class Scene:
    """A world with a key holder in it."""

    def __init__(self, world: World, socket_path: Path, stack: AsyncExitStack) -> None:
        self.world = world
        self.socket_path = socket_path
        self.holder = KeyHolder(str(socket_path))
        self._stack = stack
        self._runs: dict[str, tuple[AgentStore, Claim]] = {}

    async def mission(self, grant: Any, mission: str = "m1", user: str = "u1") -> Claim:
        """A mission with this grant, folded, and its run claimed."""
        await (await self.world.client(user)).mission(mission, grant=grant)
        await self.world.driver.fold_all()
        return await self.claim(mission, user)

    async def claim(self, mission: str = "m1", user: str = "u1") -> Claim:
        """An attempt at the mission's occurrence."""
        store = await self.store(user)
        claim = await store.claim(mission, LONG_AGO, 60_000, "h", "{}")
        assert claim.outcome == "claimed"
        self._runs[mission] = store, claim
        return claim

    async def store(self, user: str = "u1", agent: str = "legacy:ai-default") -> AgentStore:
        """The database as this agent may use it."""
        token = await self.world.driver.schedule.sign_capability(user, agent, (), (), 900)
        pool = Pool(self.world.access("mana_agent"), max_connections=2)
        self._stack.push_async_callback(pool.close)
        return AgentStore(pool, user, agent, lambda: token)

    async def capability(self, mission: str = "m1") -> str:
        """Leave to ask for the key of this mission's run."""
        store, claim = self._runs[mission]
        return await keys_capability(store, claim.run_id, claim.attempt or 0)

    @asynccontextmanager
    async def data_key(
        self, mission: str = "m1", capability: str | None = None, **ask: Any
    ) -> AsyncGenerator[HeldKey]:
        """The key of this mission's run; `ask` changes what is asked for."""
        _, claim = self._runs[mission]
        asked: Json = {"run_id": claim.run_id, "attempt": claim.attempt, "mission_id": mission}
        token = capability or await self.capability(mission)
        async with self.holder.data_key(token, **asked | ask) as held:
            yield held

    async def releases(self) -> list[Json]:
        """The attempts, oldest first."""
        rows = await self.world.sql("SELECT * FROM mana_ai.key_releases ORDER BY ts")
        return [dict(row) for row in rows]

    async def outcomes(self) -> list[tuple[str, str | None]]:
        """Outcome and reason of the attempts, oldest first."""
        return [(row["outcome"], row["reason"]) for row in await self.releases()]


@asynccontextmanager
async def key_scene(
    world: World, folder: Path, trusted: Trust | None = None
) -> AsyncGenerator[Scene]:
    """A scene whose key holder answers in this process."""
    async with AsyncExitStack() as stack:
        store = KeyStore(Pool(world.access("mana_keys"), max_connections=4))
        stack.push_async_callback(store.close)
        path = folder / "keys" / "socket"
        await stack.enter_async_context(
            KeyServer(Releases(store, trusted or trust()), path).serving()
        )
        yield Scene(world, path, stack)


def write_keys(folder: Path) -> tuple[Path, Path]:
    """The runner's private and the issuer's public key as files."""
    private, issuer = folder / "runner.pem", folder / "issuer.pub.pem"
    private.write_text(PEMS["a"]["privatePem"])
    private.chmod(0o600)
    issuer.write_bytes(
        SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, issuer


class HolderProcess:
    """The key holder as a process of its own; ended with the block."""

    def __init__(self, world: World, folder: Path, *more: str) -> None:
        self.socket_path = folder / "keys" / "socket"
        self.log = folder / "keys.log"
        private, issuer = write_keys(folder)
        access = world.access("mana_keys")
        self._command = [
            sys.executable, "-m", "mana_actors.keys",
            "--socket", str(self.socket_path), "--dsn", access.dsn,
            "--password-file", access.password_file,
            "--private-key", str(private), "--issuer-key", str(issuer), *more,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and return once it listens."""
        self.process = await asyncio.to_thread(self._spawned)
        async with asyncio.timeout(60):
            while not await self._answers():
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.02)

    def _spawned(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stderr=log, stdout=log)

    async def _answers(self) -> bool:
        from mana_actors.keys.client import KeyHolderUnreachable

        try:
            await KeyHolder(str(self.socket_path)).counts()
        except KeyHolderUnreachable:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code
