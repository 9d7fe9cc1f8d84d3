"""Workers of a real Ray as forks, and what happens when each part dies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_provider import Entry
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess, send, wait_for
from tests.postgres import TestServer

SLOW: Entry = {"content": "langsam", "usage": [10, 5], "delay_s": 3}
START_S = 60.0


@pytest.fixture(scope="module")
def forking(postgres: TestServer) -> Iterator[Scene]:
    """A node whose fork server answers."""
    database = postgres.migrated()
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST) as node:
        _server_that_answers(node)
        yield Scene(database, provider, node)
    postgres.drop(database)


def _servers(node: NodeProcess) -> list[int]:
    return [p for p, title in node.processes().items() if "-m mana_actors.fork_server " in title]


def _server_that_answers(node: NodeProcess) -> int:
    socket = node.folder / "data" / "forks" / "socket"
    wait_for(lambda: socket.exists() and _servers(node), "a fork server", START_S)
    (server,) = _servers(node)
    return server


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _run_on_a_fork(scene: Scene, name: str) -> int:
    """Have missions of new users run until one did in a fork; its process."""
    for n in range(8):
        mission = scene.push(f"{name}-{n}")
        scene.wait_served(mission, within_s=START_S)
        scene.assert_one_plan(mission)
        told = scene.node.supervision()["awake"]
        (agent,) = [one for one in told if (one["user"], one["agent"]) == mission.pair]
        if agent["fork"]:
            return int(agent["pid"])
    raise AssertionError("no agent is a fork")


def test_agents_are_forks_of_one_server_and_say_so(forking: Scene) -> None:
    server = _server_that_answers(forking.node)
    pid = _run_on_a_fork(forking, "fork")
    assert _parent(pid) == server
    assert os.getpgid(pid) == pid
    forks = {p for p in forking.node.pids_of("AgentActor") if _parent(p) == server}
    told = {a["pid"]: a["fork"] for a in forking.node.supervision()["awake"]}
    assert all(is_fork == (p in forks) for p, is_fork in told.items())


def test_a_fork_that_dies_is_heard_of_and_its_mission_taken_over(forking: Scene) -> None:
    _run_on_a_fork(forking, "before")
    mission = forking.push("dies", SLOW)
    forking.wait_for_call(mission)
    send(forking.node.awake()[mission.pair].pid, signal.SIGKILL)
    forking.wait_served(mission)
    forking.assert_one_plan(mission, most_calls=2)


def test_a_server_that_dies_is_started_again_and_nobody_else_notices(forking: Scene) -> None:
    server = _server_that_answers(forking.node)
    pid = _run_on_a_fork(forking, "first")
    send(server, signal.SIGKILL)
    wait_for(lambda: server not in forking.node.processes(), "its end")
    os.utime(forking.node.folder / "data" / "forks" / "lock", (0, 0))  # as if a minute had passed
    for n in range(4):
        mission = forking.push(f"without-{n}")
        forking.wait_served(mission, within_s=START_S)
        forking.assert_one_plan(mission)
    assert pid in forking.node.processes()
    assert _server_that_answers(forking.node) != server
    assert _parent(_run_on_a_fork(forking, "again")) == _server_that_answers(forking.node)


def test_nothing_is_left_of_a_node_whose_raylet_was_killed(forking: Scene) -> None:
    """The last test of this node."""
    node = forking.node
    server = _server_that_answers(node)
    fork = _run_on_a_fork(forking, "last")
    (raylet,) = [p for p, title in node.processes().items() if "/raylet/raylet " in title]
    send(raylet, signal.SIGKILL)
    wait_for(lambda: server not in node.processes(), "the server's end")
    node.kill()
    assert fork not in node.processes()
    assert not (node.folder / "data" / "forks" / "socket").exists()


def test_without_the_setting_ray_starts_each_worker(postgres: TestServer) -> None:
    database = postgres.migrated()
    off = FAST | {"MANA_FORK_SERVER": "false"}
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **off) as node:
        scene = Scene(database, provider, node)
        for n in range(3):
            scene.wait_served(scene.push(f"plain-{n}"), within_s=START_S)
        awake = node.supervision()["awake"]
        assert [agent["fork"] for agent in awake] == [False] * 3
        assert _servers(node) == []
        assert not (node.folder / "data" / "forks").exists()
        assert node.stop() == 0
    postgres.drop(database)
