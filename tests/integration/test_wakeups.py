"""Nobody's change is slept through, whatever it meets between a run's end and the news of it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mana_actors.messages import Order, Report
from mana_actors.processes import ProcessGone
from state.runs.outcome import Outcome, Ran, Skipped, TakenOver
from state.store.supervisor.schedule import Decided, DueMission, Look, Settled
from supervisor.supervision import dispatch
from tests.driver import NAME
from tests.integration.hand import claimed
from tests.integration.support import DONE, LONG_AGO, World, open_world, text, until
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

AGENT = "legacy:ai-default"
PAIR = ("u1", AGENT)
MISSION = ("u1", "m1")
Change = Callable[[World], Awaitable[Any]]


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [DONE] * 4) as opened:
        yield opened


@pytest.fixture
def post(world: World) -> asyncio.Event:
    """Reports travel while it is set."""
    is_open, supervisors = asyncio.Event(), world.driver.processes.supervisors
    take = supervisors[NAME]

    async def taken_later(raw: bytes) -> None:
        await is_open.wait()
        await take(raw)

    supervisors[NAME] = taken_later
    is_open.set()
    return is_open


async def due(world: World) -> list[tuple[str, str]]:
    found = await world.driver.schedule.due(world.store.lease, 10)
    return [(mission.user_id, mission.mission_id) for mission in found]


async def ended(world: World, post: asyncio.Event, state: str) -> None:
    """A run has ended so, and its supervisor has not heard of it."""
    post.clear()
    await world.driver.fold_all()
    await world.driver.supervision.look()

    async def is_over() -> bool:
        return [run["state"] for run in await world.runs()] == [state]

    await until(is_over)
    await world.driver.fold_all()
    assert await due(world) == []


async def heard(world: World, post: asyncio.Event) -> Report:
    """The report has come, and what follows from it is done."""
    post.set()

    async def has_come() -> bool:
        return bool(world.driver.reports)

    await until(has_come)
    return world.driver.reports[0]


async def moved(world: World) -> None:
    await world.open_slot()


async def asked_for(world: World) -> None:
    await world.sql("SELECT mana_ai.request_run('u1', 'm1', 'key')")


async def limited(world: World, tokens: int) -> None:
    await world.sql(
        "SELECT mana_ai.set_limit('user', 'u1', '', $1, NULL::bigint, true, false)", tokens
    )


async def limit_raised(world: World) -> None:
    await limited(world, 10**9)
    assert await world.driver.schedule.wake_after_limits() == 1


async def cap_raised(world: World) -> None:
    await (await world.client()).edit(AGENT, table="agents", maxTokensPerDay=10**9)


@pytest.mark.parametrize("change", [moved, asked_for])
async def test_a_change_between_the_end_of_a_run_and_its_report_is_looked_at_at_once(
    world: World, post: asyncio.Event, change: Change
):
    await (await world.client()).mission()
    await ended(world, post, "committed")
    await change(world)
    await world.driver.fold_all()
    assert await due(world) == [MISSION]
    await world.driver.supervision.look()
    assert await due(world) == []  # its order is in flight still
    assert (await heard(world, post)).outcome == "ran"
    assert await due(world) == [MISSION]


@pytest.mark.parametrize("change", [cap_raised, limit_raised])
async def test_room_that_comes_before_the_report_of_its_lack_is_used_at_once(
    world: World, post: asyncio.Event, change: Change
):
    client = await world.client()
    if change is cap_raised:
        await client.agent(maxTokensPerDay=5)
    else:
        await limited(world, 5)
    await client.mission()
    await ended(world, post, "waiting")
    await change(world)
    await world.driver.fold_all()
    await world.driver.supervision.look()
    assert await due(world) == []
    assert (await heard(world, post)).decision == "skipped-budget"
    assert await due(world) == [MISSION]


async def test_a_turning_supervisor_runs_a_mission_that_was_moved_before_its_report(
    world: World, post: asyncio.Event
):
    post.clear()
    async with world.driver.running():
        await (await world.client()).mission()

        async def has_run(times: int) -> bool:
            return [run["state"] for run in await world.runs()] == ["committed"] * times

        await until(lambda: has_run(1))
        await world.open_slot()

        async def is_put_off() -> bool:
            at = (await world.snapshot())["wake_at"]
            return timedelta(seconds=10) < at - datetime.now(UTC) < timedelta(seconds=40)

        await until(is_put_off)
        assert await has_run(1)
        post.set()
        await until(lambda: has_run(2))


async def in_flight(world: World) -> None:
    """An order that nobody has reported on yet."""
    await (await world.client()).mission()
    await world.driver.fold_all()
    world.driver.tenure.ordering.enter(PAIR, ["m1"])


def report(version: int, end: Outcome) -> Report:
    return Report("agent-1", *PAIR, "m1", version, end)


TOMORROW = datetime.now(UTC) + timedelta(days=1)
REFUSED = Skipped("skipped-budget", "no tokens", None, TOMORROW)


@pytest.mark.parametrize("end", [REFUSED, TakenOver()])
async def test_a_refusal_that_is_heard_late_puts_nothing_to_sleep(world: World, end: Outcome):
    await in_flight(world)
    await world.driver.supervision.look()
    assert await due(world) == []
    version = (await world.snapshot())["version"]
    await world.driver.supervision.report(report(version, end))
    assert await due(world) == [MISSION]


async def test_a_refusal_leaves_what_was_woken_and_not_looked_at_yet(world: World):
    await in_flight(world)
    version = (await world.snapshot())["version"]
    await world.driver.supervision.report(report(version, REFUSED))
    assert await due(world) == [MISSION]


async def test_a_refusal_is_looked_at_again_when_it_says(world: World):
    await (await world.client()).mission(nextRunAt=text(TOMORROW))
    await world.driver.fold_all()
    world.driver.tenure.ordering.enter(PAIR, ["m1"])
    version = (await world.snapshot())["version"]
    later = TOMORROW + timedelta(days=1)
    refused = Skipped("skipped-budget", "no tokens", None, later)
    await world.driver.supervision.report(report(version, refused))
    assert (await world.snapshot())["wake_at"] == later


async def test_a_report_during_a_look_waits_for_what_the_look_decides(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await in_flight(world)
    schedule = world.driver.supervision.schedule
    settle, may_go_on, is_there = schedule.settle, asyncio.Event(), asyncio.Event()

    async def slow(looks: list[Look], decided: list[Decided]) -> Settled:
        monkeypatch.setattr(schedule, "settle", settle)  # the next one is quick
        is_there.set()
        await may_go_on.wait()
        return await settle(looks, decided)

    monkeypatch.setattr(schedule, "settle", slow)
    looking = asyncio.create_task(world.driver.supervision.look())
    await is_there.wait()
    told = asyncio.create_task(world.driver.supervision.report(report(0, REFUSED)))
    await asyncio.wait([told], timeout=0.2)  # as far as it gets
    may_go_on.set()
    await looking
    await told
    assert await due(world) == [MISSION]


async def test_a_place_that_is_freed_while_a_look_reads_is_given_to_who_waits_for_it(
    world: World, post: asyncio.Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dispatch, "AHEAD", 0)  # else the place is given before it is free
    post.clear()
    world.provider.hold()
    for mission in ("m1", "m2"):
        await (await world.client()).mission(mission)
    await world.driver.fold_all()
    await world.driver.supervision.look()
    await until(world.runs)
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = now()")
    supervision = world.driver.supervision
    read, may_go_on, has_read = supervision.schedule.due, asyncio.Event(), asyncio.Event()

    async def slow(*asked: Any) -> list[DueMission]:
        found = await read(*asked)
        has_read.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(supervision.schedule, "due", slow)
    looking = asyncio.create_task(supervision.look())
    await has_read.wait()
    monkeypatch.setattr(supervision.schedule, "due", read)
    world.provider.release()

    async def is_over() -> bool:
        return [run["state"] for run in await world.runs()] == ["committed"]

    await until(is_over)
    (served,) = [run["mission_id"] for run in await world.runs()]
    told = asyncio.create_task(
        supervision.report(Report("agent-1", *PAIR, served, 0, Ran(LONG_AGO, "i1", 0)))
    )
    await asyncio.wait([told], timeout=0.2)  # as far as it gets
    may_go_on.set()
    await looking
    await told
    (waiting,) = {"m1", "m2"} - {served}
    assert ("u1", waiting) in await due(world)


async def test_an_order_that_is_taken_back_leaves_no_look_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await (await world.client()).mission()
    await world.driver.fold_all()
    tenure = world.driver.tenure

    async def never(*_: object) -> None:
        await world.open_slot()
        await world.driver.fold_all()
        await world.driver.supervision.look()
        raise ProcessGone("agent-1")

    monkeypatch.setattr(tenure.placement, "wake", never)
    tenure.ordering.enter(PAIR, ["m1"])
    await tenure.ordering.give(PAIR, [Order("m1", 0)], [])
    assert await due(world) == [MISSION]


async def test_a_request_between_a_look_and_its_word_has_the_last_one(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    (seen,) = await world.driver.schedule.due(world.store.lease, 10)
    await asked_for(world)
    word = Look(*MISSION, seen.version, None, seen.wake_at)
    await world.driver.schedule.look_again([word])
    assert await due(world) == [MISSION]


RUN = (
    "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, state, due_at, not_before,"
    " waiting_for, cancelled_at)"
)


async def a_run(
    world: World,
    mission: str,
    state: str,
    more: str = "NULL, NULL, NULL",
    *,
    who: str = AGENT,
    due_at: datetime = LONG_AGO,
) -> None:
    """A run; `more` says not before when, what it waits for, and when it was cancelled."""
    await world.sql(f"{RUN} VALUES ('u1', $1, $2, $3, $4, {more})", who, mission, state, due_at)


@pytest.mark.parametrize("author", ["u1", "u2"])
async def test_a_slot_is_not_moved_over_rows_that_wait_to_be_folded(world: World, author: str):
    """In a shared space a member may have chosen the next time as well."""
    await (await world.client()).mission(space="s1")
    await world.driver.fold_all()
    await a_run(world, "m1", "committed")
    chosen, stamp = text(TOMORROW), text(datetime.now(UTC))
    await (await world.client(author)).push(
        "update", "m1", {"nextRunAt": chosen}, meta={"nextRunAt": stamp}, space="s1"
    )
    looked = await world.driver.supervision.look()
    assert [move.due.mission_id for move in looked.moves] == ["m1"]
    assert await due(world) == []
    await world.driver.fold_all()
    assert (await world.record())["nextRunAt"] == chosen
    assert await world.written() == []


async def installed_since(world: World) -> None:
    await world.sql("UPDATE mana_ai.install SET slots_from = now()")


async def none_if_missed(world: World) -> None:
    await (await world.client()).edit(missedRuns="none")
    await world.driver.fold_all()


async def missed_and_begun(world: World) -> None:
    await none_if_missed(world)
    await a_run(world, "m1", "waiting")


async def served_and_moved(world: World) -> None:
    await a_run(world, "m1", "committed")
    await (await world.client()).edit(nextRunAt=text(LONG_AGO + timedelta(days=1)))
    await world.driver.fold_all()


SLOTS: dict[str, tuple[Change, str, bool]] = {
    "planned": (lambda w: a_run(w, "m1", "committed"), "1 day", True),
    "failed": (lambda w: a_run(w, "m1", "failed"), "1 day", True),
    "cancelled": (lambda w: a_run(w, "m1", "withdrawn", "NULL, NULL, now()"), "1 day", True),
    "withdrawn": (lambda w: a_run(w, "m1", "withdrawn"), "1 day", False),
    "another is planned": (lambda w: a_run(w, "m1", "failed", due_at=TOMORROW), "1 day", False),
    "from before us": (installed_since, "1 day", True),
    "missed": (none_if_missed, "1 day", True),
    "not missed yet": (none_if_missed, "99 years", False),
    "missed and begun": (missed_and_begun, "1 day", False),
    "not the mission's any more": (served_and_moved, "1 day", False),
}


@pytest.mark.parametrize("slot", SLOTS)
async def test_only_a_slot_that_nobody_has_to_serve_is_moved(world: World, slot: str):
    setting, missed_after, is_moved = SLOTS[slot]
    await (await world.client()).mission()
    await world.driver.fold_all()
    await setting(world)
    moved = await world.value(
        "SELECT mana_ai.move_slot('u1', 'm1', $1, $2, $2, '{}', $3::text::interval, 'missed')",
        LONG_AGO,
        text(TOMORROW),
        missed_after,
    )
    assert moved == is_moved
    assert len(await world.written()) == is_moved
    snapshot = await world.snapshot()
    assert (snapshot["wake_at"] is None) == is_moved
    assert snapshot["decision"] == ("skipped-missed" if slot == "missed" else None)


async def blocked(
    world: World,
    mission: str,
    slot: datetime | None = LONG_AGO,
    *,
    who: str = AGENT,
    user: str = "u1",
    decision: str = "skipped-concurrency",
    wakes_in: str = "1 hour",
) -> None:
    """A mission that is looked at later."""
    await world.sql(
        "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, agent_id, record, next_run_at,"
        " decision, wake_at) VALUES ($1, $2, $3, '{}', $4, $5, now() + $6::text::interval)",
        user,
        mission,
        who,
        slot,
        decision,
        wakes_in,
    )


async def woken_by(world: World, wake: Callable[[], Awaitable[Any]]) -> list[str]:
    """Whom four calls wake, in turn."""
    looks = "SELECT user_id || '/' || mission_id AS id, wake_at FROM mana_ai.mission_snapshots"
    turns: list[str] = []
    for _ in range(4):
        before = {row["id"]: row["wake_at"] for row in await world.sql(looks)}
        await wake()
        turns += [
            row["id"] for row in await world.sql(looks) if row["wake_at"] != before[row["id"]]
        ]
    return turns


async def test_a_place_goes_to_who_waits_for_it_longest_and_to_nobody_else(world: World):
    later = [LONG_AGO + timedelta(days=day) for day in range(3)]
    await blocked(world, "ends")
    await blocked(world, "anothers", who="a2")
    await blocked(world, "m", user="u2")
    await blocked(world, "no budget", decision="skipped-budget")
    await blocked(world, "due", wakes_in="-1 hour")
    await blocked(world, "runs")
    await a_run(world, "runs", "open")
    await blocked(world, "backs off")
    await a_run(world, "backs off", "waiting", "now() + interval '1 hour', NULL, NULL")
    await blocked(world, "y asked for", None)
    await blocked(world, "x first", later[1])
    await a_run(world, "x first", "waiting", "now() - interval '1 hour', NULL, NULL")
    await blocked(world, "a second", later[2])
    woken = await woken_by(
        world, lambda: world.sql(f"SELECT mana_ai.wake_next('u1', '{AGENT}', 'ends')")
    )
    assert woken == ["u1/y asked for", "u1/x first", "u1/a second"]


async def test_room_goes_to_who_waits_for_holds_longest_and_to_nobody_else(world: World):
    holds = "NULL, 'holds', NULL"
    for mission, wakes_in in (("due", "-1 hour"), *((each, "1 hour") for each in "abcdz")):
        await blocked(world, mission, wakes_in=wakes_in)
    await a_run(world, "due", "waiting", holds)
    await a_run(world, "a", "waiting", holds, who="a2")
    await a_run(world, "b", "waiting", "NULL, 'budget', NULL")
    await a_run(world, "c", "withdrawn", holds)
    await a_run(world, "d", "waiting", holds, due_at=LONG_AGO + timedelta(days=1))
    await a_run(world, "z", "waiting", holds)
    woken = await woken_by(
        world, lambda: world.sql(f"SELECT mana_ai.wake_for_room('u1', '{AGENT}')")
    )
    assert woken == ["u1/z", "u1/d"]


async def test_a_place_that_a_supervisor_counts_goes_to_its_own_agent_first(world: World):
    await blocked(world, "a other", who="a2")
    await blocked(world, "m", user="u2")
    await blocked(world, "no budget", decision="skipped-budget")
    await blocked(world, "due", wakes_in="-1 hour")
    await blocked(world, "x first")
    await blocked(world, "y asked for", None)
    woken = await woken_by(world, lambda: world.driver.schedule.wake_blocked("u1", AGENT))
    assert woken == ["u1/y asked for", "u1/x first", "u1/a other"]


async def test_a_process_that_died_frees_its_own_claims_and_no_others(world: World):
    client = await world.client()
    await client.agent(maxConcurrentMissions=2)
    for mission in ("m1", "m2"):
        await client.mission(mission)
    await world.driver.fold_all()
    await claimed(world, "m1", holder="dead")
    await claimed(world, "m2", holder="alive")
    assert await world.driver.schedule.release_holder("dead") == ([MISSION], [])
    assert await world.driver.schedule.live_holders() == ["alive"]
    assert await due(world) == [MISSION]
