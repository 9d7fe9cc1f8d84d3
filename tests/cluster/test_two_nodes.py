"""A Ray that others started, on several nodes: agents land only where a router answers."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import JoinedProcess, NodeProcess, send, wait_for
from tests.ports import free_port
from tests.postgres import TestServer

STARTED_S = 120.0
SMALL = ("--num-cpus=1", "--object-store-memory=78643200", "--node-ip-address=127.0.0.1")
OFFER = """--resources={"mana": 1}"""


class Rays:
    """Ray nodes of one cluster, each in a session of its own; `ray stop` would end others' too."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"mana-rays-{os.getpid()}-"))
        self.address = f"127.0.0.1:{free_port()}"
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        self.env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> int:
        """One more node; the process of its raylet."""
        ray = Path(sys.executable).with_name("ray")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MANA_"))}
        log = self.folder / f"start-{len(self._started)}"
        with log.open("wb") as output:
            node = subprocess.Popen(
                [ray, "start", "--block", "--disable-usage-stats", *SMALL, *arguments],
                env=inherited | self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(node)
        wait_for(lambda: b"Ray runtime started" in log.read_bytes(), "a Ray node", STARTED_S)
        (raylet,) = [p for p in _of_session(node.pid) if _program(p) == "raylet"]
        return raylet

    def close(self) -> None:
        for node in self._started:
            while found := _of_session(node.pid):
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                node.poll()
            node.wait()
        shutil.rmtree(self.folder)


def _of_session(session: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[3]) == session and stat[0] not in "ZX":
                found.append(int(entry.name))
    return found


def _program(pid: int) -> str:
    try:
        return Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])).name
    except OSError:
        return ""


def _raylet_of(pid: int) -> int:
    """The raylet that an agent's process belongs to; forks have their server's environment."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (found,) = [v for v in variables if v.startswith(b"RAY_RAYLET_PID=")]
    return int(found.partition(b"=")[2])


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    """No node of Ray yet."""
    made = Rays()
    yield made
    made.close()


def _homes(scene: Scene, name: str, count: int) -> set[int]:
    """The raylets on whose machines new agents were planned for."""
    missions = [scene.push(f"{name}-{n}") for n in range(count)]
    for mission in missions:
        scene.wait_served(mission, within_s=STARTED_S)
        scene.assert_one_plan(mission, most_calls=2)
    awake = scene.node.awake()
    return {_raylet_of(awake[mission.pair].pid) for mission in missions if mission.pair in awake}


def test_agents_land_where_a_router_answers(rays: Rays, postgres: TestServer) -> None:
    database = postgres.migrated()
    first = rays.start("--head", f"--port={rays.address.partition(':')[2]}", OFFER,
                       "--include-dashboard=false", f"--temp-dir={rays.folder}")  # fmt: skip
    settings = {**FAST, **rays.env, "MANA_RAY_ADDRESS": rays.address, "MANA_WARM_POOL": "0"}
    settings |= {"PORT": str(free_port()), "MANA_LLM_PORT": str(free_port())}
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **settings) as node:
        scene = Scene(database, provider, node)
        node.kill()  # its actors live on in a Ray that is not its own, and have its ports
        assert node.processes() == {}
        node.start()
        assert "ended what an earlier node left in Ray: gateway-" in node.printed()
        assert node.http("GET", "/internal/status").status_code == 200
        without = rays.start(f"--address={rays.address}")
        assert without != first
        assert _homes(scene, "with-one-router", 6) == {first}
        more = {**rays.env, "MANA_LLM_PORT": str(free_port()), "MANA_RAY_ADDRESS": rays.address}
        with JoinedProcess(database, provider.url, **more) as joined:
            second = joined.raylet()
            assert _homes(scene, "with-two-routers", 6) == {first, second}
            send(second, signal.SIGKILL)
            wait_for(lambda: joined.restarts() == 1, "the keeper to notice", STARTED_S)
            assert _homes(scene, "with-one-gone", 4) <= {first, joined.raylet()}
            assert joined.stop() == 0
            assert joined.processes() == {}
        assert _homes(scene, "with-one-router-again", 2) == {first}
        scene.check(succeeded=18)
    postgres.drop(database)
