"""Pause and cancel reach a run wherever it is: in a model call, in back-off."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.invariants import wait_until_quiet
from tests.faults.scene import (
    DEFAULT_AGENT,
    FAST,
    SERVED_S,
    Mission,
    Scene,
    ScriptedProvider,
)
from tests.node import NodeProcess, wait_for
from tests.postgres import TestServer

HANGS = {"hang": "headers"}
BUSY = {"status": 503, "text": "busy"}
Act = Callable[[Scene, Mission], Any]


@pytest.fixture(scope="module")
def scene(postgres: TestServer) -> Iterator[Scene]:
    """A node whose runs back off for longer than any test takes."""
    database = postgres.migrated()
    slow = {"MANA_BACKOFF_MIN_S": "600", "MANA_BACKOFF_MAX_S": "900"}
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST | slow) as node:
        yield Scene(database, provider, node)
    postgres.drop(database)


def mana(scene: Scene, *args: str) -> dict[str, Any]:
    """What a command answers."""
    env = {**os.environ, "MANA_SERVICE_KEY_FILE": str(scene.node.folder / "service_key")}
    command = [
        str(Path(sys.executable).with_name("mana")),
        *args,
        "--json",
        "--url",
        scene.node.url,
    ]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    return json.loads(done.stdout)


def pause_mission(scene: Scene, mission: Mission) -> None:
    told = mana(scene, "pause", mission.user, "--mission", mission.id)
    assert (told["state"], told["changed"]) == ("paused", True)


def pause_agent(scene: Scene, mission: Mission) -> None:
    assert mana(scene, "pause", f"{mission.user}/{mission.agent}")["state"] == "paused"


def owner_pauses(scene: Scene, mission: Mission) -> None:
    scene.edit(mission, state="paused")


def resume(scene: Scene, mission: Mission) -> None:
    mana(scene, "resume", f"{mission.user}/{mission.agent}")
    mana(scene, "resume", mission.user, "--mission", mission.id)


def pushed(scene: Scene, name: str, *script: dict[str, Any]) -> Mission:
    """A mission of an agent that has a record."""
    mission = scene.push(name, *script, nextRunAt=None)
    scene.add_agent(mission.user, mission.agent)
    scene.edit(mission, nextRunAt="2026-01-05T07:00:00.000Z")
    return mission


def spent(scene: Scene, mission: Mission) -> list[int]:
    rows = scene.ask(
        "SELECT tokens_used FROM mana_ai.token_usage WHERE mission_id = $1 ORDER BY id", mission.id
    )
    return [row["tokens_used"] for row in rows]


@pytest.mark.parametrize("act", [pause_mission, pause_agent, owner_pauses])
def test_a_pause_during_a_model_call_drops_the_call_and_resume_runs_it(
    scene: Scene, act: Act
) -> None:
    mission = pushed(scene, act.__name__.replace("_", "-"), HANGS)
    scene.wait_for_call(mission)
    act(scene, mission)
    run = scene.wait_served(mission)
    assert run["state"] == "withdrawn"
    assert run["reason"].endswith("is paused")
    wait_for(lambda: scene.provider.in_flight == 0, "the call dropped")
    assert spent(scene, mission) == [run["tokens"]], "its hold, once"
    assert scene.snapshot(mission)["record"]["iterations"] == []
    resume(scene, mission)
    scene.wait_for_call(mission, 2)
    wait_until_quiet(scene.database)
    scene.assert_one_plan(mission, most_calls=2)
    assert len(spent(scene, mission)) == 2


def test_a_pause_during_back_off_withdraws_and_resume_runs_it(scene: Scene) -> None:
    mission = pushed(scene, "backs-off", BUSY)
    wait_for(lambda: [r["state"] for r in scene.runs(mission)] == ["waiting"], "a run that waits")
    pause_mission(scene, mission)
    run = scene.wait_served(mission)
    assert (run["state"], run["reason"]) == ("withdrawn", "the mission is paused")
    resume(scene, mission)
    scene.wait_for_call(mission, 2)
    scene.assert_one_plan(mission, most_calls=2)


def test_a_cancel_during_a_model_call_drops_it_and_the_slot_moves_on(scene: Scene) -> None:
    mission = pushed(scene, "cancelled", HANGS)
    scene.wait_for_call(mission)
    told = mana(scene, "cancel", mission.user, "--mission", mission.id)
    assert told["changed"]
    wait_for(lambda: scene.provider.in_flight == 0, "the call dropped")
    (run,) = scene.runs(mission)
    wait_for(
        lambda: scene.snapshot(mission)["next_run_at"] > run["closed_at"],
        "the slot moved on",
        SERVED_S,
    )
    assert (run["state"], run["reason"]) == ("withdrawn", "cancelled by an operator")
    assert spent(scene, mission) == [run["tokens"]]
    assert scene.calls(mission) == 1
    assert not mana(scene, "cancel", str(run["run_id"]))["changed"]
    shown = mana(scene, "agents", "show", f"{mission.user}/{DEFAULT_AGENT}")
    assert shown["decisions"][0]["reason"] == "cancelled by an operator"
