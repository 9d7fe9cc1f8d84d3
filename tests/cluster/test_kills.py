"""SIGKILL at every named step: one plan for each occurrence, at most one extra call (P1, P10)."""

import pytest

from tests.fake_provider import Entry
from tests.faults.granted import CANARY
from tests.faults.invariants import wait_until_quiet
from tests.faults.scene import Scene
from tests.node import AGENT_POINTS, READING_POINTS, SUPERVISOR_POINTS, wait_for

SLOW: Entry = {"content": "fertig", "usage": [10, 5], "delay_s": 3}
PROPOSES: Entry = {"calls": [{"name": "create_task", "args": {"title": "x"}}], "usage": [10, 5]}
REPEATS = ("after_answer", "before_settle", "in_commit")
"""Where an answer was heard and is not durable yet: that one call is made again."""


@pytest.mark.parametrize("point", AGENT_POINTS)
def test_agent_killed_at_any_step_leaves_exactly_one_iteration(scene: Scene, point: str) -> None:
    """Of two rounds: the first answer is settled by itself, the last with the commit."""
    scene.node.arm(point)
    mission = scene.push("agent-kill", PROPOSES)
    run = scene.wait_served(mission)
    # The commit is seen a moment before its process comes to the point just behind it.
    wait_for(lambda: not scene.node.is_armed(point), f"an agent at {point}")
    assert run["attempt"] == (1 if point in ("after_gate", "after_commit_before_reply") else 2)
    scene.assert_one_plan(mission, most_calls=3 if point in REPEATS else 2)
    scene.check()


@pytest.mark.parametrize("point", [*READING_POINTS, "after_answer", "after_journal"])
def test_a_run_that_reads_secrets_survives_a_kill_at_any_step(scene: Scene, point: str) -> None:
    """The next process asks for the key again and, once it is there, reads the sealed journal."""
    mission = scene.push_granted(
        f"secret-{point}", PROPOSES, {"content": f"{CANARY} geplant", "usage": [10, 5]}
    )
    scene.node.arm(point)
    scene.start(mission)
    run = scene.wait_served(mission)
    assert not scene.node.is_armed(point)
    assert run["attempt"] == 2
    scene.assert_one_plan(mission, most_calls=3 if point in REPEATS else 2)
    assert CANARY.encode() in scene.provider.requests_for(mission.id)[0].raw
    (iteration,) = scene.snapshot(mission)["record"]["iterations"]
    assert iteration["usedEncryptedInputs"] is True
    releases = "SELECT outcome FROM mana_ai.key_releases WHERE run_id = $1"
    assert scene.ask(releases, run["run_id"]) == [{"outcome": "released"}] * 2
    scene.check()


@pytest.mark.parametrize("point", SUPERVISOR_POINTS)
def test_supervisor_killed_at_any_step_loses_no_change_and_doubles_no_run(
    scene: Scene, point: str
) -> None:
    before = scene.node.supervisor()
    slow = scene.push("in-flight", SLOW)
    scene.wait_for_call(slow)
    process = scene.node.awake()[slow.pair]
    scene.node.arm(point)
    quick = scene.push("supervisor-kill")
    wait_for(lambda: not scene.node.is_armed(point), f"a supervisor at {point}")
    scene.wait_served(slow)
    scene.wait_served(quick)
    scene.assert_one_plan(slow)
    scene.assert_one_plan(quick)
    assert scene.node.supervisor() != before
    assert scene.node.awake()[slow.pair] == process, "the run in flight kept its process"
    scene.check(succeeded=2)


def test_a_new_supervisor_adopts_the_agents_that_are_awake(scene: Scene) -> None:
    first = scene.push("adopted")
    scene.wait_served(first)
    process = scene.node.awake()[first.pair]
    wait_until_quiet(scene.database)  # a fold under way would take the next row as well
    scene.node.arm("before_fold")
    second = scene.push("adopted", user=first.user)
    scene.wait_served(second)
    assert not scene.node.is_armed("before_fold")
    assert scene.node.awake()[first.pair] == process
    holders = {run["holder"] for mission in (first, second) for run in scene.runs(mission)}
    assert holders == {process.process}
    scene.check(succeeded=2)


def test_an_agent_that_dies_on_every_run_ends_in_a_visible_failure(scene: Scene) -> None:
    """It is not tried for ever: the owner sees it, and the mission moves on."""
    # Each process that takes the run dies of the first that is left.
    scene.node.arm("after_claim", "after_hold", "before_model_call", "after_answer")
    mission = scene.push("poison")

    def failed() -> bool:
        return any(run["state"] == "failed" for run in scene.runs(mission))

    wait_for(failed, "a failed run", 180)  # five processes in turn, on a loaded machine
    scene.node.disarm()
    wait_until_quiet(scene.database)
    (run,) = scene.runs(mission)
    assert run["attempt"] == 5, "four tries, and the one that gave up"
    (iteration,) = scene.snapshot(mission)["record"]["iterations"]
    assert iteration["overallStatus"] == "failed"
    assert "process died" in run["reason"]
    assert scene.calls(mission) == 1
    neighbour = scene.push("neighbour")
    scene.wait_served(neighbour)
    scene.check()
