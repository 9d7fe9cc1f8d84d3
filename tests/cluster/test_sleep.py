"""Who is awake: those with work, no more than fit, and the least recently used sleeps first."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.conftest import AWAKE_MAX
from tests.faults.invariants import wait_until_quiet
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.integration.steps import MISSION
from tests.integration.support import text
from tests.node import NodeProcess, wait_for
from tests.postgres import TestServer

WARM = 1
THOUSAND = """
INSERT INTO public.sync_changes
       (app_id, table_name, record_id, user_id, op, data, field_meta, client_id)
SELECT 'ai', 'aiMissions', 'm1', format('asleep-%s', n), 'insert', $1::jsonb, '{}', 'c'
  FROM generate_series(1, 1000) AS n
"""


@pytest.fixture(scope="module")
def sleepy(postgres: TestServer) -> Iterator[Scene]:
    """A node whose agents sleep after one idle second."""
    database = postgres.migrated()
    settings = {**FAST, "MANA_AGENT_IDLE_S": "1", "MANA_WARM_POOL": str(WARM)}
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **settings) as node:
        yield Scene(database, provider, node)
    postgres.drop(database)


def test_more_users_with_the_same_agent_id_than_fit_all_run(scene: Scene) -> None:
    missions = [scene.push(f"crowd-{n}") for n in range(2 * AWAKE_MAX)]
    most = 0
    for mission in missions:
        scene.wait_served(mission, within_s=60)
        most = max(most, len(scene.node.awake()))
    assert most <= AWAKE_MAX
    for mission in missions:
        scene.assert_one_plan(mission)
    scene.check(succeeded=len(missions))


def test_least_recently_used_agent_sleeps_first(scene: Scene) -> None:
    missions = [scene.push(f"used-{n}") for n in range(AWAKE_MAX)]
    for mission in missions:
        scene.wait_served(mission)
    again = scene.push("used-again", user=missions[0].user)
    scene.wait_served(again)
    assert set(scene.node.awake()) == {mission.pair for mission in missions}
    one_more = scene.push("one-more")
    scene.wait_served(one_more)
    awake = set(scene.node.awake())
    assert one_more.pair in awake
    assert missions[0].pair in awake, "used last of the six"
    assert len(awake) == AWAKE_MAX


def test_an_idle_agent_sleeps_and_wakes_again_for_its_next_slot(sleepy: Scene) -> None:
    mission = sleepy.push("sleeper")
    sleepy.wait_served(mission)
    holder = sleepy.runs(mission)[0]["holder"]
    wait_for(lambda: not sleepy.node.awake(), "everyone asleep")
    wait_for(lambda: len(sleepy.node.pids_of("AgentActor")) == WARM, "their processes gone")
    wait_until_quiet(sleepy.database)
    slot = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    sleepy.edit(mission, stamp=datetime.now(UTC) + timedelta(hours=1), nextRunAt=text(slot))
    run = sleepy.wait_served(mission, times=2)
    assert run["due_at"] == slot
    assert run["holder"] != holder, "a process of its own"
    sleepy.check(succeeded=2)


def test_a_thousand_asleep_agents_cost_rows_only(sleepy: Scene) -> None:
    later = {**MISSION, "nextRunAt": text(datetime.now(UTC) + timedelta(days=30))}
    sleepy.ask(THOUSAND, json.dumps(later))
    known = "SELECT count(*) AS n FROM mana_ai.mission_snapshots WHERE user_id LIKE 'asleep-%'"
    wait_for(lambda: sleepy.ask(known)[0]["n"] == 1000, "a thousand missions known")
    wait_for(lambda: not sleepy.node.awake(), "everyone asleep")
    wait_for(lambda: len(sleepy.node.pids_of("AgentActor")) == WARM, "the warm pool alone")
    connected = "SELECT usename FROM pg_stat_activity WHERE datname = current_database()"

    def agents_connected() -> bool:  # a backend outlives its client by a moment
        return "mana_agent" in [row["usename"] for row in sleepy.ask(connected)]

    wait_for(lambda: not agents_connected(), "no connection of an agent")
    sleepy.check()
