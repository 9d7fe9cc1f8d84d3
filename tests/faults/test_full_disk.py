"""A small disk that fills up: it is seen, nothing begins or is paid, and room heals it."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from state.store import embedded
from tests.faults.scene import FAST, Mission, Scene, ScriptedProvider
from tests.node import NodeProcess, wait_for
from tests.postgres import SUPERUSER, TestServer, run_apart

MB = 1024 * 1024
SIZE_MB, FREE_MB = 400, 64
SERVER = {"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "32MB"}


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of its own, that a test can fill."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="mana-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0711", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


class Filler:
    """A file that leaves so many bytes free."""

    def __init__(self, disk: Path) -> None:
        self._disk, self._path = disk, disk / "filler"

    def leave(self, free_mb: int) -> None:
        with self._path.open("ab") as file, contextlib.suppress(OSError):
            while (free := os.statvfs(self._disk).f_bavail * 4096) > free_mb * MB:
                file.write(b"\0" * min(MB, free - free_mb * MB))
                file.flush()

    def remove(self) -> None:
        self._path.unlink()


def failing(scene: Scene) -> dict[str, str]:
    """The parts that fail, with what is said of each."""
    told: dict[str, Any] = scene.node.http("GET", "/health").json()
    return {one["part"]: str(one["what"]) for one in told["signs"] if one["is_failing"]}


def test_a_full_disk_pauses_runs_before_they_are_paid_and_room_heals_it(disk: Path) -> None:
    (disk / "pg").mkdir(mode=0o711)
    (disk / "data").mkdir(mode=0o700)
    server = embedded.start(disk / "pg", progress=lambda _: None, settings=SERVER, major="18")
    database = TestServer(server).migrated()
    filler = Filler(disk)
    settings = {"MANA_DATA_DIR": str(disk / "data"), "MANA_DISK_FREE_MB": str(FREE_MB)}
    try:
        with (
            ScriptedProvider() as provider,
            NodeProcess(database, provider.url, **FAST, **settings) as node,
        ):
            scene = Scene(database, provider, node)
            wait_for(lambda: not failing(scene), "health before", 60)
            scene.wait_served(scene.push("before"))

            # Nearly full: nothing begins, and its owner reads why.
            began = time.monotonic()
            filler.leave(FREE_MB // 2)
            what = wait_for(lambda: failing(scene).get("disk"), "health to say so")
            sys.stdout.write(f"time to know: disk {time.monotonic() - began:.1f} s: {what}" + "\n")
            waits = wait_for(partial(_deferred, scene, [scene.push("meanwhile")]), "the decision")
            assert (scene.calls(waits), scene.runs(waits)) == (0, [])

            # Full: Postgres gives up, since it cannot write what it is about to do.
            filler.leave(0)
            run_apart(_write_until_it_ends(scene))
            wait_for(lambda: "database" in failing(scene), "health to say so")
            assert "disk" in failing(scene)
            assert scene.calls(waits) == 0

            # Room again: all goes on by itself, and nothing is lost.
            filler.remove()
            embedded.start(disk / "pg", progress=lambda _: None, settings=SERVER, major="18")
            began = time.monotonic()
            scene.wait_served(waits, within_s=60)
            sys.stdout.write(f"time to go on: {time.monotonic() - began:.1f} s" + "\n")
            scene.assert_one_plan(waits, most_calls=1)
            wait_for(lambda: not failing(scene), "health after", 60)
            scene.check(succeeded=2)
    finally:
        embedded.stop(disk / "pg", mode="immediate")


def _deferred(scene: Scene, pushed: list[Mission]) -> Mission | None:
    """One that waits for room; the supervisor looks at its disks by itself, later than health."""
    decision = _decision(scene, pushed[-1].id)
    if decision == "ran":
        pushed.append(scene.push("meanwhile"))
    return pushed[-1] if decision == "deferred-disk-full" else None


def _decision(scene: Scene, mission: str) -> str | None:
    rows = scene.ask(
        "SELECT decision FROM mana_ai.mission_snapshots WHERE mission_id = $1", mission
    )
    return rows[0]["decision"] if rows else None


async def _write_until_it_ends(scene: Scene) -> None:
    """Ask for one segment of the write-ahead log after the other, until there is no server."""
    connection = await scene.database.connect(SUPERUSER)
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        while True:
            await connection.execute(
                "SELECT pg_logical_emit_message(false, 'full', repeat('x', 9999))"
            )
            await connection.execute("SELECT pg_switch_wal()")
    connection.terminate()
