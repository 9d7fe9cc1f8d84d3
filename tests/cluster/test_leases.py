"""A lease is lost by a stopped process only, and what it then does counts for nothing."""

import asyncio
import signal

from mana_actors.messages import Order, Report
from tests.driver import Driver
from tests.fake_provider import Entry
from tests.faults.scene import Mission, Scene
from tests.integration.steps import access_of, settings_of
from tests.node import send, wait_for

LEASE_S = 3.0
SLOW: Entry = {"content": "langsam", "usage": [10, 5], "delay_s": 1}
LONG: Entry = {"content": "lang", "usage": [10, 5], "delay_s": 2.5 * LEASE_S}


def test_a_stopped_attempt_that_goes_on_later_is_refused_and_charged_once(scene: Scene) -> None:
    mission = scene.push("stopped", SLOW)
    scene.wait_for_call(mission)
    agent, supervisor = scene.node.awake()[mission.pair].pid, scene.node.supervisor()
    send(supervisor, signal.SIGSTOP)  # so that the other attempt is ours, and the first one lives
    try:
        send(agent, signal.SIGSTOP)
        wait_for(lambda: _lease_is_over(scene, mission), "the end of a lease")
        assert asyncio.run(_second_attempt(scene, mission)).outcome == "ran"
        send(agent, signal.SIGCONT)
        wait_for(lambda: len(_charged(scene, mission)) == 2, "the first attempt's tokens")
    finally:
        send(supervisor, signal.SIGCONT)
    scene.assert_one_plan(mission, most_calls=2)
    assert scene.runs(mission)[0]["attempt"] == 2
    assert scene.runs(mission)[0]["holder"] == "driver"
    assert _charged(scene, mission) == [15, 15]
    scene.check()


def test_a_stopped_process_is_ended_and_another_attempt_finishes(scene: Scene) -> None:
    mission = scene.push("frozen", {**SLOW, "delay_s": 0.5})
    scene.wait_for_call(mission)
    agent = scene.node.awake()[mission.pair].pid
    send(agent, signal.SIGSTOP)
    scene.wait_served(mission)
    scene.assert_one_plan(mission, most_calls=2)
    wait_for(lambda: agent not in scene.node.processes(), "the end of the stopped process")
    scene.check()


def test_a_model_call_longer_than_the_lease_is_not_taken_over(scene: Scene) -> None:
    mission = scene.push("long", LONG)
    scene.wait_served(mission)
    scene.assert_one_plan(mission)
    assert scene.runs(mission)[0]["attempt"] == 1
    scene.check()


def _lease_is_over(scene: Scene, mission: Mission) -> bool:
    return scene.ask(
        "SELECT lease_until < clock_timestamp() AS over FROM mana_ai.runs WHERE mission_id = $1",
        mission.id,
    )[0]["over"]


def _charged(scene: Scene, mission: Mission) -> list[int]:
    rows = scene.ask(
        "SELECT tokens_used FROM mana_ai.token_usage WHERE mission_id = $1", mission.id
    )
    return [row["tokens_used"] for row in rows]


async def _second_attempt(scene: Scene, mission: Mission) -> Report:
    """The same occurrence, run from this process."""
    driver = Driver(
        lambda role: access_of(scene.database, role),
        settings_of(scene.database, scene.provider.url),
    )
    try:
        return await (await driver.runner(mission.pair)).run(Order(mission.id, 0))
    finally:
        await driver.close()
