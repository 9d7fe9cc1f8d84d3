"""Health says what is broken while the real thing is, and for how long nobody knew it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.faults.scene import Scene
from tests.node import send, wait_for
from tests.postgres import SUPERUSER, run_apart

pytestmark = pytest.mark.one_postgres

FAR = "2126-01-01T00:00:00.000Z"
GIVES_UP = """
import sys
import ray
ray.init(address=sys.argv[1], namespace="mana", log_to_driver=False, logging_level="ERROR")
for one in ray.util.list_named_actors(all_namespaces=True):
    if one["name"].startswith(sys.argv[2]):
        ray.kill(ray.get_actor(one["name"], namespace="mana"))
"""


@pytest.fixture
def scene(hurt_scene: Scene) -> Scene:
    """A node that is well before each test, and that each may break."""
    return hurt_scene


@pytest.fixture(autouse=True)
def is_well(scene: Scene) -> None:
    healed(scene)


def failing(scene: Scene) -> dict[str, str] | None:
    """The parts that fail, with all that is said of each; None while nobody answers."""
    try:
        told: dict[str, Any] = scene.node.http("GET", "/health").json()
    except httpx2.TransportError:
        return None
    found = defaultdict[str, list[str]](list)
    for one in told["signs"]:
        if one["is_failing"]:
            found[one["part"]].append(str(one["what"]))
    return {part: "; ".join(said) for part, said in found.items()}


def seen(scene: Scene, part: str, began: float, words: str = "") -> None:
    """Return once health says these words of a part; prints how long that took."""

    def said() -> str | None:
        what = (failing(scene) or {}).get(part)
        return what if what is not None and words in what else None

    what = wait_for(said, f"health to say {words or part}")
    sys.stdout.write(f"time to know: {part} {time.monotonic() - began:.1f} s: {what}" + "\n")


def healed(scene: Scene) -> None:
    wait_for(lambda: failing(scene) == {}, "a node that is well", 90)


def command_of(scene: Scene, program: str) -> tuple[int, str]:
    """The process of the node's Ray that runs this program, and its command line."""
    return next(
        (pid, line)
        for pid, line in scene.node.processes().items()
        if program in "".join(line.split()[:1])  # one that just ended has none
    )


def test_health_says_what_is_broken_and_that_it_is_mended(scene: Scene) -> None:
    _, raylet = command_of(scene, "raylet")
    named = re.search(r"--raylet_socket_name=(\S+)", raylet)
    assert named
    socket, away = Path(named[1]), Path(named[1] + ".away")
    began = time.monotonic()
    socket.rename(away)
    seen(scene, "raylet", began, "no new process can start")
    away.rename(socket)
    healed(scene)

    for part, pid in (
        ("gcs", command_of(scene, "gcs_server")[0]),
        ("router", scene.node.pids_of("LlmRouterActor")[0]),
        ("supervisor", scene.node.supervisor()),
    ):
        began = time.monotonic()
        send(pid, signal.SIGSTOP)
        try:
            seen(scene, part, began)
        finally:
            send(pid, signal.SIGCONT)
        healed(scene)


def test_health_names_who_holds_the_shard(scene: Scene) -> None:
    async def held() -> None:
        connection: asyncpg.Connection = await scene.database.connect(SUPERUSER)
        async with connection.transaction():
            await connection.execute("SELECT FROM mana_ai.shards FOR UPDATE")
            pid, began = connection.get_server_pid(), time.monotonic()
            seen(scene, "fold", began, f"session {pid} of postgres")
        await connection.close()

    run_apart(held())
    healed(scene)


@pytest.mark.parametrize("kind", ["supervisor", "gateway"])
def test_an_actor_that_ray_gave_up_is_made_anew(scene: Scene, kind: str) -> None:
    """As after a constructor that failed: Ray restarts a process that ended, and this never."""
    _, raylet = command_of(scene, "raylet")
    address = re.search(r"--gcs-address=(\S+)", raylet)
    assert address
    title = f"{kind.capitalize()}Actor"
    (old,) = scene.node.pids_of(title)
    token = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else it asks at this machine's other address
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(scene.database.secrets_dir / "ray_token"),
    }
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", GIVES_UP, address[1], f"{kind}-"],
        env={**os.environ, **token},
        check=True,
    )
    wait_for(lambda: [p for p in scene.node.pids_of(title) if p != old], f"another {kind}", 60)
    healed(scene)
    sys.stdout.write(f"{kind} made anew: {time.monotonic() - began:.1f} s" + "\n")
    assert f"Ray gave the {kind} up" in scene.node.printed()
    scene.wait_served(scene.push("after"))


def test_a_stopped_raylet_is_ended_and_started_anew(scene: Scene) -> None:
    """It has not ended, so nobody hears of it; health does within its time."""
    pid, _ = command_of(scene, "raylet")
    restarts, began = scene.node.restarts(), time.monotonic()
    send(pid, signal.SIGSTOP)
    seen(scene, "raylet", began, "does not answer")
    wait_for(lambda: scene.node.restarts() > restarts, "the keeper to start all anew", 60)
    sys.stdout.write(f"restarted after {time.monotonic() - began:.1f} s" + "\n")
    healed(scene)
    scene.wait_served(scene.push("after"), within_s=60)


def test_a_key_is_missed_only_once_a_mission_has_a_grant(scene: Scene) -> None:
    assert "keys" not in (failing(scene) or {})
    assert " ERROR " not in "".join(
        line for line in scene.node.printed().splitlines() if "mana.keys" in line
    )
    began = time.monotonic()
    scene.push("granted", grant={"grantVersion": 2}, nextRunAt=FAR)
    seen(scene, "keys", began, "has no key")
