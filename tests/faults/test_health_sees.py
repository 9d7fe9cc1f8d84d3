"""Health says what is broken while the real thing is, and for how long nobody knew it."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess, send, wait_for
from tests.postgres import SUPERUSER, TestServer, run_apart

pytestmark = pytest.mark.one_postgres

FAR = "2126-01-01T00:00:00.000Z"


@pytest.fixture
def scene(postgres: TestServer) -> Iterator[Scene]:
    """A node that is well, and that the test may break."""
    database = postgres.migrated()
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST) as node:
        found = Scene(database, provider, node)
        wait_for(lambda: not failing(found), "health before", 60)
        yield found
    postgres.drop(database)


def failing(scene: Scene) -> dict[str, str]:
    """The parts that fail, with what is said of each."""
    told: dict[str, Any] = scene.node.http("GET", "/health").json()
    return {one["part"]: str(one["what"]) for one in told["signs"] if one["is_failing"]}


def seen(scene: Scene, part: str, began: float) -> str:
    """What health says of a part once it fails; prints how long that took."""
    what = wait_for(lambda: failing(scene).get(part), f"health to say {part}")
    sys.stdout.write(f"time to know: {part} {time.monotonic() - began:.1f} s: {what}" + "\n")
    return what


def healed(scene: Scene) -> None:
    wait_for(lambda: not failing(scene), "health after", 60)


def command_of(scene: Scene, program: str) -> tuple[int, str]:
    """The process of the node's Ray that runs this program, and its command line."""
    return next(
        (pid, line) for pid, line in scene.node.processes().items() if program in line.split()[0]
    )


def test_health_says_what_is_broken_and_that_it_is_mended(scene: Scene) -> None:
    _, raylet = command_of(scene, "raylet")
    named = re.search(r"--raylet_socket_name=(\S+)", raylet)
    assert named
    socket, away = Path(named[1]), Path(named[1] + ".away")
    began = time.monotonic()
    socket.rename(away)
    assert "no new process can start" in seen(scene, "raylet", began)
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
            assert f"session {pid} of postgres" in seen(scene, "fold", began)
        await connection.close()

    run_apart(held())
    healed(scene)


def test_a_key_is_missed_only_once_a_mission_has_a_grant(scene: Scene) -> None:
    assert "keys" not in failing(scene)
    assert " ERROR " not in "".join(
        line for line in scene.node.printed().splitlines() if "mana.keys" in line
    )
    began = time.monotonic()
    scene.push("granted", grant={"grantVersion": 2}, nextRunAt=FAR)
    assert "has no key" in seen(scene, "keys", began)
