"""What the gateway of a real node answers, and what starts when."""

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.scene import Mission, Scene
from tests.integration.support import text
from tests.node import send, wait_for

MANUAL: dict[str, Any] = {"cadence": {"kind": "manual"}, "nextRunAt": None}


def test_a_tick_is_accepted_at_once_and_its_stats_come_by_its_id(scene: Scene) -> None:
    answer = scene.node.http("POST", "/internal/tick")
    assert answer.status_code == 202
    place = f"/internal/tick/{answer.json()['id']}"
    assert answer.headers["location"] == place
    report = wait_for(lambda: _done(scene, place), "the end of a tick")
    assert report["stats"]["dueMissionCount"] == 0


def test_a_tick_with_a_bounded_wait_answers_with_its_stats(scene: Scene) -> None:
    answer = scene.node.http("POST", "/internal/tick", params={"wait": "8"})
    assert answer.status_code == 200
    assert set(answer.json()) == {
        "scannedAt",
        "dueMissionCount",
        "plansProduced",
        "plansWrittenBack",
        "parseFailures",
        "errors",
    }


def test_a_due_mission_starts_at_its_due_time_and_not_at_the_sweep(scene: Scene) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    mission = scene.push("punctual", nextRunAt=text(due))
    run = scene.wait_served(mission)
    ticked = scene.ask("SELECT ticked_at FROM mana_ai.shards")[0]["ticked_at"]
    assert run["due_at"] == due <= run["claimed_at"]
    assert ticked < due, "no sweep came by"
    scene.assert_one_plan(mission)


def test_a_run_request_repeated_under_one_key_runs_once(scene: Scene) -> None:
    mission = scene.push("asked-for", **MANUAL)
    wait_for(lambda: _request(scene, mission, "k1").status_code == 202, "the mission to be known")
    first = _request(scene, mission, "k1").json()
    run = scene.wait_served(mission)
    again = _request(scene, mission, "k1").json()
    assert again["due_at"] == first["due_at"]
    assert run["requested"]
    scene.check()
    assert len(scene.runs(mission)) == 1
    _request(scene, mission, "k2")
    scene.wait_served(mission, times=2)
    assert scene.calls(mission) == 2
    scene.check()


def test_health_says_when_the_fold_is_stuck(scene: Scene) -> None:
    supervisor = scene.node.supervisor()
    wait_for(lambda: scene.node.http("GET", "/health").status_code == 200, "health before")
    send(supervisor, signal.SIGSTOP)
    try:
        # The clock is moved by hand, instead of waiting until it is late.
        scene.ask(
            "UPDATE mana_ai.shards SET folded_at = folded_at - interval '1 minute',"
            " taken_at = taken_at - interval '1 hour'"
        )
        told = wait_for(lambda: _failing(scene, "fold"), "health to know")
    finally:
        send(supervisor, signal.SIGCONT)
    assert told["fold"]["stuck"]
    assert any("change feed" in problem for problem in told["problems"])
    wait_for(lambda: scene.node.http("GET", "/health").status_code == 200, "health after")


def test_without_the_service_key_nothing_internal_is_told(scene: Scene) -> None:
    for key in ("", "wrong-key-wrong-key", scene.node.service_key + "x"):
        answer = scene.node.http("POST", "/internal/tick", headers={"X-Service-Key": key})
        assert answer.status_code == 401


def _failing(scene: Scene, part: str) -> dict[str, Any] | None:
    """What health says once this part fails."""
    answer = scene.node.http("GET", "/health")
    told: dict[str, Any] = answer.json()
    return told if answer.status_code == 503 and part in told["failing"] else None


def _done(scene: Scene, place: str) -> dict[str, Any] | None:
    report: dict[str, Any] = scene.node.http("GET", place).json()
    return report if report["state"] == "done" else None


def _request(scene: Scene, mission: Mission, key: str) -> Any:
    path = f"/internal/missions/{mission.user}/{mission.id}/run"
    return scene.node.http("POST", path, headers={"Idempotency-Key": key})
