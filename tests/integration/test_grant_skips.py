"""A run that is skipped for its grant leaves one decision: the one its owner should see."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from mana_actors.agent.inputs.reader import OF_THE_GRANT
from mana_actors.messages import Report
from state.runs.outcome import Skipped, after
from state.runs.reasons import told
from state.store.agent import Closing
from state.store.gateway.fleet import Filter
from supervisor.supervision.counts import count_report
from supervisor.supervision.metrics import Metrics
from tests.gateway_parts import fleet_of
from tests.integration.granted_scene import Records, granted, hand_over, push_sealed
from tests.integration.key_scene import DAY_S, Scene, key_scene
from tests.integration.support import DONE, PLAN, Json, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

NOTE: Records = {("notes", "n1"): {"id": "n1", "title": "Einkauf", "content": "Kuchen"}}
REF: Json = {"module": "notes", "table": "notes", "id": "n1"}
NO_GRANT = "its encrypted inputs need a grant, and it has none"


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with open_world(database, [PLAN, DONE]) as world, key_scene(world, tmp_path) as opened:
        world.driver = world.new_driver(key_socket=str(opened.socket_path))
        await world.driver.start()
        await push_sealed(world, {"notes": "notes"}, NOTE)
        yield opened


async def skipped(scene: Scene, grant: Json | None = None) -> Report:
    """The report of a run of a mission with this grant and a sealed note."""
    await (await scene.world.client()).mission(inputs=[REF], grant=grant)
    await scene.world.driver.fold_all()
    return await scene.world.run()


async def decisions(scene: Scene) -> list[tuple[str, str]]:
    """Decision and reason, oldest first."""
    rows = await scene.world.sql("SELECT decision, reason FROM mana_ai.decisions ORDER BY id")
    return [(row["decision"], row["reason"]) for row in rows]


def counted(*reports: Report) -> dict[str, float]:
    """What the metrics show after these reports, the two counters of skips."""
    metrics = Metrics()
    for report in reports:
        count_report(metrics, report)
    counters = metrics.snapshot()["counters"]
    return counters.get("agent_decisions_total", {}) | counters.get("grant_skips_total", {})


async def test_a_skip_leaves_one_decision_with_its_reason(scene: Scene, database: Database):
    report = await skipped(scene)
    assert await decisions(scene) == [("skipped-grant", NO_GRANT)]
    fleet = fleet_of(database)
    (mission,), (run,) = await fleet.missions(Filter()), await fleet.runs(Filter())
    await fleet.close()
    assert (mission.decision, mission.reason) == ("skipped-grant", NO_GRANT)
    assert (run.state, run.reason) == ("withdrawn", NO_GRANT)
    assert counted(report) == {'["skipped-grant"]': 1, '["no-grant"]': 1}


async def test_the_report_of_a_skip_is_not_written_down_again(scene: Scene):
    report = await skipped(scene)
    assert not after(report.ended).notes
    assert after(Skipped("skipped-paused", "the agent is paused", None, None)).notes


async def test_the_same_skip_again_is_no_news_and_another_reason_is(scene: Scene):
    first, again = await skipped(scene), await scene.world.run()
    assert again.decision == "skipped-grant"
    assert await decisions(scene) == [("skipped-grant", NO_GRANT)]
    assert counted(first, again) == {'["skipped-grant"]': 1, '["no-grant"]': 2}
    await (await scene.world.client()).edit(grant=granted(["notes:other"]))
    await scene.world.driver.fold_all()
    assert (await scene.world.run()).decision == "skipped-grant"
    assert [decision for decision, _ in await decisions(scene)] == ["skipped-grant"] * 2


@pytest.mark.parametrize(
    ("age_s", "reason"), [(8 * DAY_S, "expired"), (-DAY_S, "malformed")], ids=["expired", "future"]
)
async def test_the_metric_has_the_reason_of_the_key_holder(scene: Scene, age_s: int, reason: str):
    await (await scene.world.client()).mission(inputs=[REF], grant=granted())
    await scene.world.driver.fold_all()
    await hand_over(scene.world, granted(), NOTE)
    await (await scene.world.client()).edit(grant=granted(age_s=age_s))
    await scene.world.driver.fold_all()
    report = await scene.world.run()
    assert counted(report) == {'["skipped-grant"]': 1, f'["{reason}"]': 1}
    assert await decisions(scene) == [("skipped-grant", told(OF_THE_GRANT[reason]))]


async def test_a_skipped_mission_runs_as_soon_as_it_is_granted(scene: Scene):
    world = scene.world
    await skipped(scene)
    await (await world.client()).edit(grant=granted())
    await world.driver.fold_all()
    await hand_over(world, granted(), NOTE)
    assert (await world.run()).outcome == "ran"
    assert [decision for decision, _ in await decisions(scene)] == ["skipped-grant", "ran"]


async def test_nobody_skips_another_agents_run_or_one_that_was_passed_by(scene: Scene):
    claim = await scene.mission(None)
    for user, agent, attempt in (("u2", "legacy:ai-default", 1), ("u1", "another", 1),
                                 ("u1", "legacy:ai-default", 2)):  # fmt: skip
        store = await scene.store(user, agent)
        ended = await store.skip(Closing(claim.run_id, attempt), "x", 1)
        assert ended.outcome == "superseded"
    assert [run["state"] for run in await scene.world.runs()] == ["open"]
