"""Each part of a node killed in turn with runs in flight; `-s` prints how long it was away."""

import os
import signal
import time
from collections.abc import Callable

import httpx2
import pytest

from state.store.embedded.postmaster import is_alive
from tests.fake_provider import Entry
from tests.faults.scene import Mission, Scene
from tests.node import NodeProcess, wait_for

SLOW: Entry = {"content": "langsam", "usage": [10, 5], "delay_s": 2}
BACK_S = 90.0
"""Two cores that others use as well start a Ray in half a minute."""


@pytest.fixture
def scene(hurt_scene: Scene) -> Scene:
    """A node that is hurt again and again."""
    return hurt_scene


def part(scene: Scene, title: str) -> int:
    """The process of the node whose command is like this."""

    def found() -> int | None:
        return next((p for p, t in scene.node.processes().items() if title in t), None)

    return wait_for(found, title)


def flying(scene: Scene) -> list[Mission]:
    """Two missions whose runs wait for the model."""
    missions = [scene.push("in-flight", SLOW) for _ in range(2)]
    for mission in missions:
        scene.wait_for_call(mission)
    return missions


def killed(scene: Scene, title: str) -> Callable[[str], None]:
    """Kill a part; a function that prints the time since then."""
    pid, began = part(scene, title), time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def tell(what: str) -> None:
        print(f"{title}: {time.monotonic() - began:.1f} s until {what}")  # noqa: T201 - asked for

    return tell


@pytest.mark.parametrize("title", ["/raylet/raylet", "/gcs/gcs_server", "supervisor.node.main"])
def test_the_end_of_ray_or_the_work_starts_all_of_it_again(scene: Scene, title: str) -> None:
    old = scene.node.processes()
    url, restarts = scene.node.url, scene.node.restarts()
    missions = flying(scene)
    tell = killed(scene, title)
    wait_for(lambda: scene.node.restarts() > restarts, "the keeper to notice", 10)
    tell("it was noticed")
    old.pop(scene.node.pid)
    wait_for(lambda: not any(is_alive(pid) for pid in old), "the end of the old processes", 10)
    tell("every old process was gone")
    after = scene.push("after")
    scene.wait_served(after, within_s=BACK_S)
    tell("the next plan")
    for mission in (*missions, after):
        scene.wait_served(mission, within_s=BACK_S)
        scene.assert_one_plan(mission, most_calls=2)
    wait_for(lambda: _is_well(scene.node), "a node that is well", BACK_S)
    assert scene.node.url == url
    scene.check(succeeded=3)


@pytest.mark.parametrize(
    "title",
    [
        "mana_actors.fork_server",
        "mana_actors.keys",
        "ray::LlmRouterActor",
        "ray::GatewayActor",
        "ray::SupervisorActor",
    ],
)
def test_a_part_that_ends_comes_back_alone(scene: Scene, title: str) -> None:
    old, restarts = part(scene, title), scene.node.restarts()
    missions = flying(scene)
    tell = killed(scene, title)
    for mission in missions:
        scene.wait_served(mission, within_s=BACK_S)
        scene.assert_one_plan(mission, most_calls=2)
    tell("the runs in flight were served")
    after = scene.push("after")
    scene.wait_served(after, within_s=BACK_S)
    scene.assert_one_plan(after)
    tell("the next plan")
    give_up = time.monotonic() + BACK_S
    while not any(title in t and pid != old for pid, t in scene.node.processes().items()):
        assert time.monotonic() < give_up, f"no other {title}"
        # A worker that starts has a fork server started, but not twice within half a minute.
        scene.wait_served(scene.push("more"), within_s=BACK_S)
    tell("another one ran")
    assert scene.node.restarts() == restarts, scene.node.printed()[-3000:]
    wait_for(lambda: _is_well(scene.node), "a node that is well", BACK_S)
    scene.check(succeeded=3)


def _is_well(node: NodeProcess) -> bool:
    try:
        return node.http("GET", "/health").status_code == 200
    except httpx2.TransportError:  # missions may run again before the gateway listens
        return False
