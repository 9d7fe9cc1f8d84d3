"""A node that is killed whole, that drains, and that is not alone with its shard."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_provider import Entry
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess, wait_for
from tests.postgres import TestServer

SLOW: Entry = {"content": "langsam", "usage": [10, 5], "delay_s": 3}


@pytest.fixture
def scene(postgres: TestServer) -> Iterator[Scene]:
    """A node that the test may end."""
    database = postgres.migrated()
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST) as node:
        yield Scene(database, provider, node)
    postgres.drop(database)


def test_a_node_killed_whole_resumes_and_later_drains(scene: Scene) -> None:
    asleep = scene.push("before-the-kill")
    scene.wait_served(asleep)
    running = [scene.push(f"in-flight-{n}", SLOW) for n in range(2)]
    for mission in running:
        scene.wait_for_call(mission)
    scene.node.kill()
    assert scene.node.processes() == {}
    waiting = scene.push("while-it-is-dead")
    scene.node.start()
    for mission in (*running, waiting):
        scene.wait_served(mission, within_s=40)
        scene.assert_one_plan(mission, most_calls=2)
    scene.check(succeeded=4)
    last = scene.push("before-the-end", SLOW)
    scene.wait_for_call(last)
    left_alone = scene.push("too-late", nextRunAt="2126-01-01T00:00:00.000Z")
    assert scene.node.stop() == 0
    assert scene.runs(last)[0]["state"] == "committed", "what ran may finish"
    assert scene.runs(left_alone) == []
    assert "drained" in scene.node.printed()
    wait_for(lambda: not scene.node.processes(), "the end of every process")
    assert not (scene.node.folder / "data" / "node.json").exists()


def test_the_older_of_two_supervisors_stands_down_and_says_so(
    scene: Scene, postgres: TestServer
) -> None:
    with NodeProcess(scene.database, scene.provider.url, **FAST) as newer:
        assert scene.node.supervisor() != newer.supervisor()
        old = wait_for(lambda: _stood_down(scene.node), "the older one to stand down")
        assert "epoch" in old["problem"]
        health = wait_for(lambda: _unwell(scene.node), "health to know")
        assert any("epoch" in problem for problem in health["problems"])
        assert newer.http("GET", "/health").status_code == 200
        missions = [scene.push(f"shared-{n}") for n in range(6)]
        for mission in missions:
            scene.wait_served(mission)
            scene.assert_one_plan(mission)
        assert {pair for m in missions if (pair := m.pair) in newer.awake()}
        assert newer.supervision()["stood_down"] is False
        scene.check(succeeded=6)


def _unwell(node: NodeProcess) -> dict[str, Any] | None:
    answer = node.http("GET", "/health")
    return answer.json() if answer.status_code == 503 else None


def _stood_down(node: NodeProcess) -> dict[str, str] | None:
    told = node.status()["supervisor"]
    return told if told and told["stood_down"] else None
