"""Pause, resume and cancel: what the log, the run and the budget say afterwards."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mana_actors.agent.attempt.run import Runner
from mana_actors.messages import Order, Report
from state.store.connect import Database as Connections
from state.store.gateway.control import CANCELLED, Cancelled, ControlStore, NotPossible
from tests.integration.support import DONE, PLAN, World, open_world, text, until
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

AGENT = "legacy:ai-default"
PAIR = ("u1", AGENT)
BUSY = {"status": 503, "text": "busy"}


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with open_world(database, [PLAN, DONE]) as made:
        yield made


@pytest.fixture
async def control(world: World) -> AsyncIterator[ControlStore]:
    connections = Connections(world.access("mana_gateway"), max_connections=4)
    yield ControlStore(connections)
    await connections.close()


async def begun(world: World, runner: Runner) -> "asyncio.Task[Report]":
    """A run that waits for its model's answer."""
    await world.driver.fold_all()
    world.provider.hold()
    seen = len(world.provider.requests)
    task = asyncio.create_task(runner.run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, seen + 1)
    return task


async def ended(task: "asyncio.Task[Report]") -> Report:
    """What comes of the run, long before its model call's own deadline; never cancels it itself."""
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, "it goes on"
    return task.result()


async def heard(runner: Runner) -> None:
    """Have the process know what was folded, as its deltas would tell it."""
    await runner.recall.again(["m1"])
    await runner.catch_up()


async def stopped(world: World, runner: Runner, task: "asyncio.Task[Report]") -> Report:
    """What comes of the run once the change is folded and heard of; its answer never comes."""
    await world.driver.fold_all()
    await heard(runner)
    report = await ended(task)
    world.provider.release()
    return report


async def the_run(world: World) -> dict[str, Any]:
    (run,) = await world.runs()
    return run


async def waiting(world: World) -> UUID:
    """The run of m1, which waits after a failure of its provider."""
    await world.driver.fold_all()
    world.provider.script[:0] = [{**BUSY, "retry_after": "3600"}]
    report = await world.run()
    assert report.outcome == "waiting"
    return (await the_run(world))["run_id"]


# --- pause and resume -----------------------------------------------------------------------------


async def test_a_pause_is_a_row_of_the_owner_and_beats_a_clock_that_runs_ahead(
    world: World, control: ControlStore
):
    client = await world.client()
    ahead = datetime.now(UTC) + timedelta(days=400)
    await client.push("insert", "m1", _mission("space-1"), space="space-1")
    await client.push("update", "m1", {"state": "active"}, meta={"state": text(ahead)})
    await world.driver.fold_all()
    switched = await control.switch("u1", "aiMissions", "m1", "paused")
    assert switched is not None
    assert (switched.state, switched.changed) == ("paused", True)
    (row,) = await world.written()
    assert row["data"] == {"state": "paused"}
    assert (row["op"], row["client_id"], row["origin"]) == ("update", "mana-ai-runner", "system")
    assert (row["space_id"], row["schema_version"]) == ("space-1", 1)
    assert row["actor"]["principalId"] == "system:mission-runner"
    assert row["field_meta"]["state"] > text(ahead)
    await world.driver.fold_all()
    assert (await world.snapshot())["state"] == "paused"
    assert await world.wrong_snapshots() == []


async def test_pausing_twice_writes_one_row_even_before_the_first_is_folded(
    world: World, control: ControlStore
):
    await (await world.client()).mission()
    await world.driver.fold_all()
    for changed in (True, False):
        switched = await control.switch("u1", "aiMissions", "m1", "paused")
        assert switched is not None
        assert switched.changed is changed
    assert len(await world.written()) == 1


async def test_the_owner_may_undo_a_pause_and_a_resumed_mission_runs_at_once(
    world: World, control: ControlStore
):
    client = await world.client()
    await client.mission()
    await world.driver.fold_all()
    await control.switch("u1", "aiMissions", "m1", "paused")
    await world.driver.tick()
    assert await world.runs() == []
    await client.edit(state="active", stamp=datetime.now(UTC) + timedelta(seconds=1))
    _, reports = await world.driver.tick()
    assert [report.outcome for report in reports] == ["ran"]


@pytest.mark.parametrize(("table", "record"), [("agents", AGENT), ("aiMissions", "m1")])
async def test_what_does_not_exist_cannot_be_paused(
    world: World, control: ControlStore, table: Any, record: str
):
    assert await control.switch("u1", table, record, "paused") is None
    if table == "aiMissions":
        await (await world.client()).mission(deletedAt=text(datetime.now(UTC)))
        await world.driver.fold_all()
        assert await control.switch("u1", table, record, "paused") is None
    assert await world.written(record) == []


async def test_what_is_over_cannot_be_resumed(world: World, control: ControlStore):
    client = await world.client()
    await client.mission(state="done")
    await client.agent(state="archived")
    await world.driver.fold_all()
    with pytest.raises(NotPossible, match="the mission is done"):
        await control.switch("u1", "aiMissions", "m1", "active")
    with pytest.raises(NotPossible, match="the agent is archived"):
        await control.switch("u1", "agents", AGENT, "active")


async def test_nobody_can_pause_the_record_of_another_user(world: World, control: ControlStore):
    await (await world.client("u1")).mission()
    await world.driver.fold_all()
    assert await control.switch("u2", "aiMissions", "m1", "paused") is None


# --- during a model call --------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["operator", "owner"])
@pytest.mark.parametrize("what", ["mission", "agent"])
async def test_a_pause_during_a_model_call_ends_the_run_and_charges_its_hold_once(
    world: World, control: ControlStore, who: str, what: str
):
    client = await world.client()
    await client.mission()
    await client.agent()
    runner = await world.driver.runner(PAIR)
    task = await begun(world, runner)
    table, record = ("aiMissions", "m1") if what == "mission" else ("agents", AGENT)
    if who == "operator":
        await control.switch("u1", table, record, "paused")
    else:
        await client.edit(record, table=table, state="paused")
    report = await stopped(world, runner, task)
    assert (report.outcome, report.decision) == ("withdrawn", "withdrawn")
    assert report.reason == f"the {what} is paused"
    run = await the_run(world)
    assert (run["state"], run["reason"]) == ("withdrawn", f"the {what} is paused")
    (charged,) = await world.spent()
    assert (charged, charged) == (run["tokens"], report.tokens)
    assert charged > 0
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0
    assert (await world.record())["iterations"] == []
    await control.switch("u1", table, record, "active")
    await until(lambda: _ran(world))
    assert len((await world.record())["iterations"]) == 1


async def _ran(world: World) -> bool:
    _, reports = await world.driver.tick()
    await world.driver.fold_all()
    return [report.outcome for report in reports] == ["ran"]


async def test_a_pause_in_the_log_stops_a_commit_though_nobody_folded_it(
    world: World, control: ControlStore
):
    client = await world.client()
    await client.mission()
    await client.agent()
    task = await begun(world, await world.driver.runner(PAIR))
    await control.switch("u1", "agents", AGENT, "paused")
    world.provider.release()
    report = await task
    assert (report.outcome, report.reason) == ("withdrawn", "the agent is paused")
    assert [row for row in await world.written() if "iterations" in row["data"]] == []


async def test_a_change_that_leaves_the_run_wanted_does_not_stop_it(world: World):
    client = await world.client()
    await client.mission()
    runner = await world.driver.runner(PAIR)
    task = await begun(world, runner)
    await client.edit(title="Anders")
    await world.driver.fold_all()
    await heard(runner)
    world.provider.release()
    assert (await task).outcome == "ran"


# --- during back-off ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["mission", "agent"])
async def test_a_pause_during_back_off_withdraws_the_run_at_the_next_look(
    world: World, control: ControlStore, what: str
):
    client = await world.client()
    await client.mission()
    await client.agent()
    await waiting(world)
    table, record = ("aiMissions", "m1") if what == "mission" else ("agents", AGENT)
    await control.switch("u1", table, record, "paused")
    await world.store.fold()
    await world.driver.supervision.look()
    assert world.driver.decisions["withdrawn"] == 1
    run = await the_run(world)
    assert (run["state"], run["reason"]) == ("withdrawn", f"the {what} is paused")
    await control.switch("u1", table, record, "active")
    assert await _ran(world)


async def test_a_run_that_began_to_wait_after_the_pause_was_folded_is_withdrawn(world: World):
    client = await world.client()
    await client.mission()
    await waiting(world)
    await world.sql("UPDATE mana_ai.mission_snapshots SET state = 'paused'")
    assert await world.driver.schedule.withdraw_unwanted("u1", ["m1"]) == 1
    assert await world.driver.schedule.withdraw_unwanted("u1", ["m1"]) == 0


@pytest.mark.parametrize("snapshots", ["mission_snapshots", "agent_snapshots"])
async def test_a_run_is_not_withdrawn_by_what_was_folded_over_meanwhile(
    world: World, snapshots: str
):
    client = await world.client()
    await client.agent()
    await client.mission()
    await waiting(world)
    versions = (
        "SELECT r.run_id, s.version, a.version FROM mana_ai.runs AS r"
        " JOIN mana_ai.mission_snapshots AS s USING (user_id, mission_id)"
        " JOIN mana_ai.agent_snapshots AS a ON (a.user_id, a.agent_id) = (r.user_id, r.agent_id)"
    )
    (decided_by,) = await world.sql(versions)
    withdraw = "SELECT mana_ai.withdraw_waiting('u1', $1, 'the mission is paused', $2, $3)"
    await world.sql(f"UPDATE mana_ai.{snapshots} SET version = version + 1")
    assert not await world.value(withdraw, *decided_by)
    assert (await the_run(world))["state"] == "waiting"
    assert await world.value(withdraw, *(await world.sql(versions))[0])
    assert (await the_run(world))["state"] == "withdrawn"


# --- cancel ---------------------------------------------------------------------------------------


async def cancelled(control: ControlStore, run_id: UUID) -> Cancelled:
    done = await control.cancel(run_id)
    assert done is not None
    return done


async def test_a_cancelled_run_is_over_at_once_and_its_slot_moves_on(
    world: World, control: ControlStore
):
    await (await world.client()).mission()
    run_id = await waiting(world)
    assert (await cancelled(control, run_id)).changed
    assert not (await cancelled(control, run_id)).changed
    run = await the_run(world)
    assert (run["state"], run["reason"]) == ("withdrawn", CANCELLED)
    await world.driver.tick()
    await world.driver.fold_all()
    assert (await world.snapshot())["next_run_at"] > datetime.now(UTC)
    await world.driver.tick()
    assert len(world.provider.requests) == 1
    assert (await the_run(world))["state"] == "withdrawn"


async def test_a_cancelled_slot_is_refused_also_to_who_has_not_heard_of_it(
    world: World, control: ControlStore
):
    await (await world.client()).mission()
    await cancelled(control, await waiting(world))
    assert (await world.run()).outcome == "served"
    assert len(world.provider.requests) == 1


async def test_a_cancelled_request_is_closed(world: World, control: ControlStore):
    await (await world.client()).mission(nextRunAt=None, cadence={"kind": "manual"})
    await world.driver.fold_all()
    await world.sql(
        "INSERT INTO mana_ai.run_requests (user_id, request_key, mission_id)"
        " VALUES ('u1', 'k', 'm1')"
    )
    await waiting(world)
    assert await control.cancel_live("u1", "m1") is not None
    assert (
        await world.value("SELECT count(*) FROM mana_ai.run_requests WHERE closed_at IS NULL") == 0
    )
    await world.driver.tick()
    assert len(world.provider.requests) == 1


async def test_a_cancel_during_a_model_call_drops_the_call(world: World, control: ControlStore):
    await (await world.client()).mission()
    runner = await world.driver.runner(PAIR)
    task = await begun(world, runner)
    run_id = (await the_run(world))["run_id"]
    await cancelled(control, run_id)
    assert await world.value("SELECT count(*) FROM mana_ai.runs WHERE state = 'open'") == 0
    runner.stop("m1", CANCELLED, str(run_id))
    report = await ended(task)
    world.provider.release()
    assert (report.outcome, report.decision) == ("withdrawn", None)
    (charged,) = await world.spent()
    assert charged == (await the_run(world))["tokens"] > 0
    assert await world.value("SELECT count(*) FROM mana_ai.decisions") == 1


async def test_a_cancel_that_nobody_hears_still_stops_the_commit(
    world: World, control: ControlStore
):
    await (await world.client()).mission()
    task = await begun(world, await world.driver.runner(PAIR))
    await cancelled(control, (await the_run(world))["run_id"])
    world.provider.release()
    assert (await task).outcome == "superseded"
    assert await world.written() == []


async def test_a_stop_for_another_run_is_not_heard(world: World):
    await (await world.client()).mission()
    runner = await world.driver.runner(PAIR)
    task = await begun(world, runner)
    runner.stop("m1", CANCELLED, "00000000-0000-0000-0000-000000000000")
    world.provider.release()
    assert (await task).outcome == "ran"


async def test_a_run_that_is_over_cannot_be_cancelled(world: World, control: ControlStore):
    await (await world.client()).mission()
    await world.driver.tick()
    with pytest.raises(NotPossible, match="the run is committed"):
        await control.cancel((await the_run(world))["run_id"])
    assert await control.cancel(UUID(int=0)) is None
    assert await control.cancel_live("u1", "m1") is None


# --- gates ----------------------------------------------------------------------------------------


async def test_a_browser_run_defers_the_mission_without_waking_anybody(world: World):
    begun_at = datetime.now(UTC)
    iteration: dict[str, Any] = {
        "id": "i1",
        "startedAt": text(begun_at),
        "overallStatus": "running",
        "plan": [],
    }
    await (await world.client()).mission(iterations=[iteration])
    looked, reports = await world.driver.tick()
    assert (looked.orders, reports) == ({}, [])
    assert world.driver.decisions == {"deferred-browser-run": 1}
    wake = (await world.snapshot())["wake_at"]
    assert wake > begun_at + timedelta(minutes=14)


def _mission(space: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": "m1",
        "title": "T",
        "objective": "O",
        "conceptMarkdown": "",
        "inputs": [],
    }
    return {**fields, "state": "active", "iterations": [], "spaceId": space}
