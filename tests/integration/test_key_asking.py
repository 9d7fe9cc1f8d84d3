"""A key is asked for only where a model call follows."""

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from state.runs.reasons import told
from state.store.gateway.limits import LimitChange
from tests.gateway_parts import fleet_of
from tests.integration.granted_scene import Records, granted, hand_over, push_sealed
from tests.integration.key_scene import Scene, key_scene
from tests.integration.support import DONE, PLAN, Json, World, killed_at, open_world, text
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

MANA = "legacy:ai-default"
NOTE: Records = {("notes", "n1"): {"id": "n1", "title": "Einkauf", "content": "Kuchen-7f3a " * 9}}
REF: Json = {"module": "notes", "table": "notes", "id": "n1"}
WAITING = """
UPDATE mana_ai.runs SET state = 'waiting', waiting_for = $1, lease_until = NULL,
       not_before = clock_timestamp() + interval '1 hour'
"""
SPEND = """
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros)
VALUES ($1, 'another', 'x', 1000000, 1000000)
"""


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with open_world(database, [PLAN, DONE]) as world, key_scene(world, tmp_path) as opened:
        world.driver = world.new_driver(key_socket=str(opened.socket_path))
        await world.driver.start()
        yield opened


async def granting(scene: Scene, **mission: Any) -> None:
    """A due mission whose only input is a granted note, everything handed over."""
    await push_sealed(scene.world, {"notes": "notes"}, NOTE)
    client = await scene.world.client()
    await client.agent()
    await client.mission(inputs=[REF], grant=granted(), **mission)
    await scene.world.driver.fold_all()
    await hand_over(scene.world, granted(), NOTE)


async def assert_nothing_asked(scene: Scene) -> None:
    assert await scene.releases() == []
    assert await scene.world.sql("SELECT * FROM mana_ai.decrypt_audit") == []
    assert scene.world.provider.requests == []


# --- before the gate and the claim ----------------------------------------------------------------


@pytest.mark.parametrize(
    "agent",
    [{"state": "paused"}, {"state": "archived"}, {"maxTokensPerDay": 0}],
    ids=["paused", "archived", "no-budget"],
)
async def test_an_agent_that_may_not_run_asks_no_key(scene: Scene, agent: Json):
    await granting(scene)
    await (await scene.world.client()).edit(MANA, table="agents", **agent)
    await scene.world.driver.fold_all()
    assert (await scene.world.run()).outcome == "skip"
    await assert_nothing_asked(scene)


def begun_in_a_browser() -> Json:
    """Just now: after a quarter of an hour it counts no more, and tests are listed before that."""
    begun = {"id": "i-1", "overallStatus": "running", "source": "browser"}
    return {"iterations": [begun | {"startedAt": text(datetime.now(UTC))}]}


@pytest.mark.parametrize(
    "mission",
    [
        lambda: {"state": "paused"},
        lambda: {"nextRunAt": text(datetime.now(UTC) + timedelta(days=1))},
        lambda: {"objective": "enc:1:AAAA.BBBB"},
        begun_in_a_browser,
    ],
    ids=["paused", "not-due", "unreadable", "browser-run"],
)
async def test_a_mission_that_does_not_run_now_asks_no_key(
    scene: Scene, mission: Callable[[], Json]
):
    await granting(scene, **mission())
    assert (await scene.world.run()).outcome in ("skip", "later")
    await assert_nothing_asked(scene)


@pytest.mark.parametrize("what", ["research", "back-off"])
async def test_a_run_that_waits_asks_no_key(scene: Scene, what: str):
    await granting(scene)
    await scene.claim()
    await scene.world.sql(WAITING, what)
    assert (await scene.world.run()).outcome == "waiting"
    await assert_nothing_asked(scene)


async def test_an_occurrence_that_another_process_holds_asks_no_key(scene: Scene):
    await granting(scene)
    await scene.claim()
    assert (await scene.world.run()).outcome == "held"
    await assert_nothing_asked(scene)


# --- no room for the call -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit",
    [{"kind": "agent"}, {"kind": "user"}, {"kind": "installation"}, {"owner": 1200}],
    ids=["operator", "user", "installation", "owner"],
)
async def test_no_key_leaves_where_the_call_has_no_room(
    scene: Scene, database: Database, limit: Json
):
    world = scene.world
    await granting(scene)
    await set_cap(world, database, **limit, tokens=1200)
    report = await world.run()
    assert (report.outcome, report.decision) == ("waiting", "skipped-budget")
    assert "one call needs up to" in report.reason
    await assert_nothing_asked(scene)
    await set_cap(world, database, **(limit | {"owner": None}), tokens=None)
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert [outcome for outcome, _ in await scene.outcomes()] == ["released"]


async def set_cap(
    world: World,
    database: Database,
    *,
    kind: str | None = None,
    owner: int | None = None,
    tokens: int | None,
) -> None:
    """An operator's limit, or the owner's own cap."""
    if kind is None:
        await (await world.client()).edit(MANA, table="agents", maxTokensPerDay=owner)
        await world.driver.fold_all()
        return
    names = {"agent": ("u1", MANA), "user": ("u1", "")}.get(kind, ("", ""))
    fleet = fleet_of(database)
    try:
        await fleet.set_limit(_change(kind, *names, tokens))
    finally:
        await fleet.close()


async def test_what_others_spent_is_not_told_where_no_key_is_asked(
    scene: Scene, database: Database
):
    await granting(scene)
    await scene.world.sql(SPEND, "u2")
    await set_cap(scene.world, database, kind="installation", tokens=1_000_500)
    report = await scene.world.run()
    assert report.reason.endswith("more than is left of the installation's limit")
    await assert_nothing_asked(scene)


async def test_a_run_that_has_answers_still_gets_its_key_when_the_room_is_gone(scene: Scene):
    """Its plan would be lost otherwise: the journal is only used with the inputs it was made of."""
    world = scene.world
    world.provider.script[:] = [PLAN, DONE]
    await granting(scene)
    await killed_at(world, "after_journal")
    await (await world.client()).edit(MANA, table="agents", maxTokensPerDay=150)
    await world.driver.fold_all()
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1), report
    assert report.reason == told("cut-budget")
    assert len(world.provider.requests) == 1


def _change(kind: Any, user: str, agent: str, tokens: int | None) -> LimitChange:
    return LimitChange(kind, user, agent, tokens=tokens)
