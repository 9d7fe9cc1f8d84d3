"""A due occurrence is planned exactly once, whatever happens to the process that runs it (P1)."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mana_actors.messages import Order, Report
from state.runs.outcome import Skipped
from state.runs.reasons import told
from supervisor.supervision import dispatch
from tests.driver import Driver
from tests.integration.support import (
    DONE,
    LEASE_OVER,
    LONG_AGO,
    PLAN,
    World,
    killed_at,
    occurrence,
    text,
    until,
)

MANA = ("u1", "legacy:ai-default")


async def due_mission(world: World, **fields: Any) -> None:
    await (await world.client()).mission(**fields)
    await world.driver.fold_all()


async def in_flight(world: World, driver: Driver | None = None) -> asyncio.Task[Report]:
    """A run whose model call does not come back until `release`."""
    world.provider.hold()
    asked = len(world.provider.requests)
    runner = await (driver or world.driver).runner(MANA, "first")
    running = asyncio.create_task(runner.run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, asked + 1)
    return running


# --- slots ----------------------------------------------------------------------------------------


async def test_five_ticks_with_nobody_online_give_one_iteration_per_slot(world: World):
    await due_mission(world)
    slots = [LONG_AGO]
    for number in range(1, 6):
        _, (report,) = await world.driver.tick()
        assert report.outcome == "ran"
        await world.driver.fold_all()
        record = await world.record()
        assert record["nextRunAt"] > text(datetime.now(UTC))
        assert [i["id"] for i in record["iterations"]] == [occurrence(slot) for slot in slots]
        assert len(await world.runs()) == number
        slots.append(await world.open_slot(slot=LONG_AGO + timedelta(days=number)))
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []


async def test_its_own_write_back_does_not_plan_again(world: World):
    await due_mission(world)
    await world.driver.tick()
    for _ in range(3):
        looked, reports = await world.driver.tick()
        assert (looked.orders, reports) == ({}, [])
    assert len(world.provider.requests) == 1


async def test_a_hundred_users_with_the_same_agent_id_all_run(world: World):
    for number in range(100):
        await (await world.client(f"user{number}")).mission()
    reports: list[Report] = []
    for _ in range(3):  # as many at once as the caps allow
        reports += (await world.driver.tick())[1]
    assert {report.user_id for report in reports if report.outcome == "ran"} == {
        f"user{number}" for number in range(100)
    }
    assert len(reports) == 100
    runs = await world.runs()
    assert {run["agent_id"] for run in runs} == {"legacy:ai-default"}
    assert len({run["iteration_id"] for run in runs}) == 100


async def test_a_slot_older_than_the_installation_moves_on(world: World):
    await world.sql("UPDATE mana_ai.install SET slots_from = clock_timestamp()")
    await due_mission(world)
    _, reports = await world.driver.tick()
    assert reports == []
    (row,) = await world.written()
    assert set(row["data"]) == {"nextRunAt"}
    assert row["data"]["nextRunAt"] > text(datetime.now(UTC))
    assert row["actor"]["principalId"] == "system:mission-runner"
    looked, _ = await world.driver.tick()
    assert (looked.moves, len(await world.written())) == ([], 1)


async def test_a_missed_slot_moves_on_where_its_owner_wants_none_and_runs_else(world: World):
    await due_mission(world, missedRuns="none")
    _, reports = await world.driver.tick()
    assert reports == []
    (row,) = await world.written()
    assert set(row["data"]) == {"nextRunAt"}
    assert row["data"]["nextRunAt"] > text(datetime.now(UTC))
    assert await world.runs() == []
    decided = "SELECT decision, reason, due_at FROM mana_ai.decisions"
    (told_owner,) = await world.sql(decided)
    assert tuple(told_owner) == ("skipped-missed", told("slot-missed"), LONG_AGO)
    # Asked for, it runs all the same; and with another word the next that is missed does, too.
    late = text(datetime.now(UTC) - timedelta(hours=1))
    ahead = datetime.now(UTC) + timedelta(days=1)
    await (await world.client()).edit(missedRuns="one", nextRunAt=late, stamp=ahead)
    _, reports = await world.driver.tick()
    assert [report.outcome for report in reports] == ["ran"]


async def test_a_served_slot_that_a_client_brings_back_moves_on(world: World):
    await due_mission(world)
    await world.driver.tick()
    ahead = datetime.now(UTC) + timedelta(days=300)
    await (await world.client()).edit(nextRunAt=text(LONG_AGO), stamp=ahead)
    for _ in range(3):
        assert (await world.driver.tick())[1] == []
    assert len(world.provider.requests) == 1
    assert len(await world.runs()) == 1
    assert (await world.record())["nextRunAt"] > text(datetime.now(UTC))


# --- claims ---------------------------------------------------------------------------------------


async def test_one_of_two_claims_gets_the_occurrence(world: World):
    await due_mission(world)
    runners = [await world.driver.runner(MANA, name) for name in ("first", "second")]
    world.provider.hold()
    both = [asyncio.create_task(runner.run(Order("m1", 0))) for runner in runners]
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    done, (other,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().outcome for task in done] == ["held"]
    world.provider.release()
    assert (await other).outcome == "ran"
    assert len(await world.runs()) == 1


async def test_a_served_occurrence_is_not_claimed_again(world: World):
    await due_mission(world)
    assert (await world.run()).outcome == "ran"
    assert (await world.run()).outcome in ("served", "later", "stale")
    assert len(world.provider.requests) == 1


async def test_an_attempt_whose_lease_ended_is_fenced_off_and_still_charged(world: World):
    world.provider.script = [{**DONE, "usage": [700, 77]}, DONE]
    await due_mission(world)
    first = await in_flight(world)
    await world.sql(LEASE_OVER)
    world.provider.script[1] = {**DONE, "content": "zweiter"}
    second = asyncio.create_task(world.run())
    await asyncio.to_thread(world.provider.wait_for_requests, 2)
    world.provider.release()
    outcomes = sorted([(await first).outcome, (await second).outcome])
    assert outcomes == ["ran", "superseded"]
    (run,) = await world.runs()
    assert (run["state"], run["attempt"]) == ("committed", 2)
    (row,) = await world.written()
    assert [i["summary"] for i in row["data"]["iterations"]] == ["zweiter"]
    assert sorted(await world.spent()) == [50, 777]
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0


async def test_the_lease_is_renewed_while_the_model_thinks(world: World):
    await due_mission(world)
    driver = world.new_driver(lease_ms=300)
    await driver.start()
    running = await in_flight(world, driver)
    began = (await world.runs())[0]["lease_until"]

    async def renewed() -> bool:
        return (await world.runs())[0]["lease_until"] > began + timedelta(milliseconds=300)

    await until(renewed)
    assert (await world.run()).outcome == "held"
    world.provider.release()
    assert (await running).outcome == "ran"


async def test_a_dead_process_frees_its_claims_at_once(world: World):
    await due_mission(world)
    running = await in_flight(world)
    running.cancel()
    assert await world.driver.schedule.live_holders() == ["first"]
    assert await world.driver.schedule.release_holder("first") == ([("u1", "m1")], [])
    world.provider.release()
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    assert (await world.runs())[0]["attempt"] == 2


async def test_an_agent_runs_no_more_missions_at_once_than_its_owner_allows(world: World):
    client = await world.client()
    await client.agent(maxConcurrentMissions=2)
    for number in range(4):
        await client.mission(f"m{number}")
    await world.driver.fold_all()
    world.provider.hold()
    runs = [asyncio.create_task(world.run(f"m{number}")) for number in range(4)]
    await asyncio.to_thread(world.provider.wait_for_requests, 2)

    async def two_are_refused() -> bool:
        return sum(task.done() for task in runs) == 2

    await until(two_are_refused)
    refused = [task.result().ended for task in runs if task.done()]
    now = await world.value("SELECT clock_timestamp()")
    for each in refused:  # soon: a run that ends before this is noted wakes nobody
        assert isinstance(each, Skipped)
        assert each.decision == "skipped-concurrency"
        assert each.look_at is not None
        assert each.look_at < now + timedelta(seconds=10)
    world.provider.release()
    outcomes = [(await task).outcome for task in runs]
    assert outcomes.count("ran") == 2
    assert world.provider.most_in_flight == 2


async def test_a_freed_place_wakes_the_next_blocked_mission(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dispatch, "AHEAD", 0)
    client = await world.client()
    for number in range(3):
        await client.mission(f"m{number}")
    for served in range(1, 4):
        _, (report,) = await world.driver.tick()
        assert report.outcome == "ran"
        assert world.driver.decisions["ran"] == served
    assert (
        world.driver.decisions["skipped-concurrency"] == 2
    )  # counted when it changed, not per look
    assert len(await world.runs()) == 3


async def test_missions_of_one_agent_that_fall_due_together_are_ordered_together(world: World):
    client = await world.client()
    for number in range(3):
        await client.mission(f"m{number}")
    _, reports = await world.driver.tick()
    assert [report.outcome for report in reports] == ["ran"] * 3
    assert world.provider.most_in_flight == 1
    assert world.driver.decisions == {"ran": 3}


# --- journal --------------------------------------------------------------------------------------


async def test_an_answer_that_was_journalled_is_not_paid_twice(world: World):
    world.provider.script = [PLAN, DONE]
    await due_mission(world)
    await killed_at(world, "after_journal")
    assert len(world.provider.requests) == 1
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert len(world.provider.requests) == 2
    assert await world.spent() == [100, 50]
    (row,) = await world.written()
    (iteration,) = row["data"]["iterations"]
    assert iteration["plan"][0]["intent"]["params"]["title"] == "Einkaufen"
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 0


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("after_gate", 2),
        ("after_claim", 2),
        ("after_hold", 2),
        ("before_model_call", 2),
        ("after_answer", 3),
        ("before_settle", 3),
        ("after_journal", 2),
        ("in_commit", 3),
    ],
)
async def test_a_kill_at_any_step_costs_at_most_one_more_call(world: World, point: str, calls: int):
    """Of two rounds: the first answer is settled before the second call, the last at the end."""
    repeated = {"after_answer": [PLAN], "before_settle": [PLAN], "in_commit": [DONE]}.get(point, [])
    world.provider.script = [PLAN, DONE, DONE] if repeated == [DONE] else [PLAN, *repeated, DONE]
    await due_mission(world)
    await killed_at(world, point)
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert len(world.provider.requests) == calls
    await world.driver.fold_all()
    assert [i["id"] for i in (await world.record())["iterations"]] == [occurrence(LONG_AGO)]
    assert await world.wrong_snapshots() == []


async def test_a_kill_after_the_commit_leaves_nothing_to_do(world: World):
    await due_mission(world)
    await killed_at(world, "after_commit_before_reply")
    assert (await world.driver.tick())[1] == []
    assert len(await world.written()) == 1


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure_waits_and_after_the_last_try_the_owner_sees_why(world: World):
    world.provider.script = [{"status": 503, "kind": "no_healthy_provider"}] * 3
    await due_mission(world)
    driver = world.new_driver(run_attempts=3, backoff_max_s=0.01)
    await driver.start()
    reports: list[Report] = []

    async def failed() -> bool:
        reports.extend((await driver.tick())[1])
        return reports[-1:] != [] and reports[-1].outcome == "failed"

    await until(failed)
    assert [report.outcome for report in reports] == ["waiting", "waiting", "failed"]
    await driver.fold_all()
    record = await world.record()
    (iteration,) = record["iterations"]
    assert (iteration["overallStatus"], iteration["id"]) == ("failed", occurrence(LONG_AGO))
    assert iteration["errorDetails"]["name"] == "no_healthy_provider"
    assert record["nextRunAt"] > text(datetime.now(UTC))
    (run,) = await world.runs()
    assert (run["state"], run["failures"], run["attempt"]) == ("failed", 2, 3)
    assert (await driver.tick())[1] == []


async def test_a_refusal_that_cannot_pass_is_not_tried_again(world: World):
    world.provider.script = [{"status": 400, "kind": "capability"}]
    await due_mission(world)
    assert (await world.run()).outcome == "failed"
    assert len(world.provider.requests) == 1


async def test_an_empty_answer_fails_visibly(world: World):
    world.provider.script = [{"content": ""}]
    await due_mission(world)
    assert (await world.run()).outcome == "failed"
    (row,) = await world.written()
    assert row["data"]["iterations"][0]["errorDetails"]["name"] == "empty-plan"


@pytest.mark.parametrize(
    ("answer", "is_nonsense"),
    [({"status": 503, "kind": "no_healthy_provider"}, False), ({"garbage": b"not json"}, True)],
)
async def test_only_nonsense_counts_as_a_parse_failure(
    world: World, answer: dict[str, Any], is_nonsense: bool
):
    world.provider.script = [answer]
    await due_mission(world)
    report = await world.run()
    assert report.outcome == "waiting"
    names = {count.name for count in report.counts}
    assert ("parse_failures_total" in names) == is_nonsense


async def test_what_the_provider_asked_for_is_waited(world: World):
    world.provider.script = [{"status": 429, "kind": "rate_limit", "retry_after": "17"}]
    await due_mission(world)
    before = datetime.now(UTC)
    assert (await world.run()).outcome == "waiting"
    (run,) = await world.runs()
    assert timedelta(seconds=16) < run["not_before"] - before < timedelta(seconds=19)
    assert run["waiting_for"] == "back-off"
    assert (await world.snapshot())["wake_at"] == run["not_before"]
    assert (await world.driver.tick())[1] == []
    assert await world.spent() == [0]


async def test_a_pause_ends_a_run_that_waits(world: World):
    world.provider.script = [PLAN, {"status": 503}]
    await due_mission(world)
    assert (await world.run()).outcome == "waiting"
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 1
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    await world.driver.supervision.look()
    (run,) = await world.runs()
    assert run["state"] == "withdrawn"
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 0
    await (await world.client()).edit(state="active")
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    assert len(await world.runs()) == 1


# --- asked for ------------------------------------------------------------------------------------


async def request(world: World, key: str, mission: str = "m1", user: str = "u1") -> datetime | None:
    gateway = await world.connect("mana_gateway")
    row = await gateway.fetchrow(
        "SELECT * FROM mana_ai.request_run($1, $2, $3)", user, mission, key
    )
    assert row is not None
    return row["due_at"]


async def test_the_same_key_asks_for_one_run(world: World):
    await due_mission(world, nextRunAt="2099-01-01T07:00:00.000Z")
    asked = [await request(world, "k1"), await request(world, "k1")]
    assert asked[0] == asked[1]
    _, (report,) = await world.driver.tick()
    assert (report.outcome, report.due_at) == ("ran", asked[0])
    assert await request(world, "k1") == asked[0]
    assert (await world.driver.tick())[1] == []
    await request(world, "k2")
    assert len((await world.driver.tick())[1]) == 1
    assert len(await world.runs()) == 2


async def test_a_manual_mission_runs_when_asked_and_only_then(world: World):
    await due_mission(world, cadence={"kind": "manual"}, nextRunAt=None)
    assert (await world.driver.tick())[1] == []
    await request(world, "k1")
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    await world.driver.fold_all()
    assert (await world.record())["nextRunAt"] is None
    assert (await world.driver.tick())[1] == []


async def test_a_run_that_was_asked_for_leaves_a_due_slot_standing(world: World):
    await due_mission(world, nextRunAt="2099-01-01T07:00:00.000Z")
    asked = await request(world, "k1")
    slot = await world.open_slot()
    outcomes: list[datetime | None] = []
    for _ in range(2):
        _, (report,) = await world.driver.tick()
        outcomes.append(report.due_at)
    assert sorted(str(at) for at in outcomes) == sorted([str(slot), str(asked)])
    assert (await world.driver.tick())[1] == []


async def test_nobody_can_ask_for_somebody_elses_mission(world: World):
    await due_mission(world)
    assert await request(world, "k", user="u2") is None
    assert await request(world, "k", mission="none") is None


async def test_ids_and_texts_of_a_run_stay_out_of_its_report(world: World):
    await due_mission(world, title="geheim", objective="geheim")
    report = await world.run()
    assert "geheim" not in repr(report)
    pinned = json.loads((await world.runs())[0]["pinned"])
    assert pinned.keys() == {"now", "used", "boundary", "cap"}
