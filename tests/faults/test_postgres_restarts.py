"""Postgres killed under load and during a boot: nothing is stranded."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from state.store import embedded
from state.store.embedded.postmaster import recorded
from tests.faults.scene import FAST, Mission, Scene, ScriptedProvider
from tests.node import NodeProcess
from tests.postgres import Database, TestServer, new_folder, remove_folder

DURABLE = {"fsync": "off", "full_page_writes": "off"}  # a killed server must keep what it committed
SEED = int(os.environ.get("MANA_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
KILLS = 3
MISSIONS = 18


class Crashing:
    """A server of its own that is killed and started again."""

    def __init__(self) -> None:
        self._folder = new_folder()
        self.server = TestServer(self._started())

    def _started(self) -> embedded.Server:
        return embedded.start(self._folder, progress=lambda _: None, settings=DURABLE, major="18")

    def kill(self) -> None:
        """SIGKILL the server; its children end themselves."""
        found = recorded(self._folder / "postgres" / "data")
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it again, at the same address."""
        self._started()

    def remove(self) -> None:
        remove_folder(self._folder)


@pytest.fixture
def crashing() -> Iterator[Crashing]:
    """A server that the test may kill."""
    made = Crashing()
    yield made
    made.remove()


def test_restarts_of_postgres_under_load_strand_nothing(crashing: Crashing) -> None:
    chance = random.Random(SEED)
    database = crashing.server.migrated()
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST) as node:
        scene = Scene(database, provider, node)
        missions: list[Mission] = []
        for _ in range(KILLS):
            missions += [
                scene.push("load", {"content": "f", "usage": [9, 1], "delay_s": chance.random()})
                for _ in range(MISSIONS // KILLS)
            ]
            time.sleep(chance.uniform(0.2, 2.0))
            crashing.kill()
            time.sleep(chance.uniform(0.0, 1.5))
            crashing.start()
        for mission in missions:
            scene.wait_served(mission, within_s=60)
            scene.assert_one_plan(mission, most_calls=1 + KILLS)
        scene.check(succeeded=MISSIONS)


def test_a_restart_of_postgres_during_a_boot_is_waited_out(crashing: Crashing) -> None:
    database: Database = crashing.server.migrated()
    with ScriptedProvider() as provider:
        node = NodeProcess(database, provider.url, **FAST)
        scene = Scene(database, provider, node)
        mission = scene.push("during-a-boot")
        try:
            node.spawn()
            while "step: starting Ray" not in node.printed():
                time.sleep(0.01)
            crashing.kill()
            again = threading.Timer(3.0, crashing.start)
            again.start()
            node.wait_until_ready()
            again.join()
            scene.wait_served(mission, within_s=40)
            scene.assert_one_plan(mission)
            scene.check()
        finally:
            node.close()
