"""How a run ends is decided on the mission as it is now."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from state.log.merge import Snapshot
from state.log.stamps import text_of
from state.runs.commit import Commit, CommitFacts, Withdrawal, commit_of
from state.runs.occurrence import Closed, Occurrence

NOW = datetime(2026, 4, 27, 5, 0, 41, 120_999, tzinfo=UTC)
SLOT = datetime(2026, 4, 27, 5, 0, tzinfo=UTC)
SLOT_TEXT = "2026-04-27T05:00:00.000Z"
ITERATION: dict[str, Any] = {
    "id": "it1",
    "startedAt": "x",
    "finishedAt": "x",
    "plan": [],
    "source": "server",
}
FIELDS: dict[str, Any] = {
    "title": "t",
    "objective": "Plane die Woche",
    "state": "active",
    "cadence": {"kind": "daily", "atHour": 7, "atMinute": 0},
    "nextRunAt": SLOT_TEXT,
    "iterations": [{"id": "old"}],
}
RUN = Occurrence("u1", "legacy:ai-default", "m1", SLOT, requested=False)


def at(
    run: Occurrence = RUN, *, stamps: dict[str, str] | None = None, **fields: Any
) -> CommitFacts:
    snapshot = Snapshot({**FIELDS, **fields}, stamps or {}, exists=True, complete=True)
    berlin = ZoneInfo("Europe/Berlin")
    return CommitFacts(run, snapshot, None, "Mana", berlin, NOW, seen=frozenset({"old"}))


def committed(
    closing: CommitFacts, *, state: Closed = "committed"
) -> tuple[Commit, dict[str, Any]]:
    ended = commit_of(closing, ITERATION, state=state, steps=0, reason=None)
    assert isinstance(ended, Commit)
    return ended, msgspec.json.decode(ended.data)


def withdrawn(closing: CommitFacts) -> str:
    ended = commit_of(closing, ITERATION, state="committed", steps=0, reason=None)
    assert isinstance(ended, Withdrawal)
    return ended.reason


def test_a_plan_is_appended_and_the_next_run_follows_from_now():
    commit, data = committed(at())
    assert data == {
        "iterations": [{"id": "old"}, ITERATION],
        "nextRunAt": "2026-04-28T05:00:00.000Z",
    }
    assert (commit.state, commit.iteration_id) == ("committed", "it1")
    assert commit.next_run_at == datetime(2026, 4, 28, 5, tzinfo=UTC)


def test_the_cadence_of_now_counts_not_that_of_the_start():
    commit, data = committed(at(cadence={"kind": "interval", "everyMinutes": 30}))
    assert data["nextRunAt"] == "2026-04-27T05:30:41.120Z"
    assert commit.next_run_at == datetime(2026, 4, 27, 5, 30, 41, 120_000, tzinfo=UTC)


@pytest.mark.parametrize("cadence", [None, {"kind": "cron"}, {"kind": "manual"}, "daily"])
def test_without_a_cadence_it_runs_no_more(cadence: object):
    commit, data = committed(at(cadence=cadence))
    assert (data["nextRunAt"], commit.next_run_at) == (None, None)


def test_a_final_failure_moves_on_too():
    commit, data = committed(at(), state="failed")
    assert commit.state == "failed"
    assert data["nextRunAt"] > SLOT_TEXT


def test_a_next_run_that_the_owner_moved_is_theirs():
    commit, data = committed(at(nextRunAt="2026-05-01T10:00:00.000Z"))
    assert set(data) == {"iterations"}
    assert commit.next_run_at == datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_one_stamp_wins_for_every_field():
    fast = {"iterations": "2026-04-27T06:00:00.000Z", "nextRunAt": "2026-04-27T07:00:00.000Z"}
    commit, _ = committed(at(stamps=fast))
    assert commit.floor == "2026-04-27T07:00:00.001Z"
    commit, _ = committed(at(stamps={"iterations": "2026-04-01T06:00:00.000Z"}))
    assert commit.floor == "2026-04-01T06:00:00.001Z"  # the database's clock is later


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"deletedAt": SLOT_TEXT}, "the mission was deleted"),
        ({"state": "paused"}, "the mission is paused"),
        ({"state": "archived"}, "the mission is archived"),
        ({"state": 7}, "the mission is paused"),
        ({"agentId": "a2"}, "the mission belongs to another agent now"),
    ],
)
def test_what_is_no_longer_wanted_is_withdrawn(fields: dict[str, Any], reason: str):
    assert withdrawn(at(**fields)) == reason


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ({"hidden": True, "state": "active"}, "the agent is deleted"),
        ({"hidden": False, "state": "paused"}, "the agent is paused"),
    ],
)
def test_an_agent_that_may_not_run_withdraws(agent: dict[str, Any], reason: str):
    assert withdrawn(replace(at(), agent=agent)) == reason


BROWSER = {"id": "b", "finishedAt": "2026-04-27T05:00:20.000Z", "overallStatus": "approved"}
MOVED = "2026-04-28T05:00:00.000Z"


def test_a_slot_that_a_browser_served_is_withdrawn():
    assert (
        withdrawn(at(iterations=[BROWSER], nextRunAt=MOVED)) == "a browser served this occurrence"
    )


@pytest.mark.parametrize(
    "other",
    [
        {**BROWSER, "id": "old"},
        {**BROWSER, "source": "server"},
        {**BROWSER, "overallStatus": "failed"},
        {**BROWSER, "overallStatus": "running"},
        {**BROWSER, "finishedAt": "2026-04-27T04:00:00.000Z"},
        {**BROWSER, "finishedAt": 7},
        {"id": "b"},
    ],
)
def test_other_iterations_of_a_browser_withdraw_nothing(other: dict[str, Any]):
    committed(at(iterations=[other], nextRunAt=MOVED))


def test_a_browser_that_left_the_slot_standing_did_not_serve_it():
    committed(at(iterations=[BROWSER]))


ASKED = replace(RUN, requested=True, due_at=SLOT - timedelta(minutes=3))


@pytest.mark.parametrize(
    ("next_run_at", "written"),
    [(SLOT_TEXT, False), ("2026-04-27T18:00:00.000Z", True), (None, True)],
)
def test_a_run_that_was_asked_for_leaves_a_due_slot_standing(
    next_run_at: str | None, written: bool
):
    _, data = committed(at(ASKED, nextRunAt=next_run_at))
    assert ("nextRunAt" in data) == written


def test_instants_are_written_with_three_digits():
    assert text_of(NOW) == "2026-04-27T05:00:41.120Z"
