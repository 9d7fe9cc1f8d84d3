"""Each due time of a mission has exactly one outcome."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from state.runs.reasons import told
from state.store.own.runs import OwnRun
from supervisor.gateway.people.made.schedule import TimeDecided, due_times

SEVEN = datetime(2026, 4, 20, 7, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = [SEVEN + day * DAY for day in range(7)]


def run(at: datetime, state: str = "committed", **more: Any) -> OwnRun:
    whole: dict[str, Any] = {
        "run_id": UUID(int=1), "mission_id": "m1", "agent_id": "a1", "due_at": at,
        "requested": False, "state": state, "attempt": 1, "failures": 0, "lost": 0,
        "waiting_for": None, "not_before": None, "reason": None, "stop_reason": None,
        "iteration_id": None, "steps": 1, "tokens": 1, "opened_at": at, "claimed_at": at,
        "closed_at": at + timedelta(minutes=1),
    }  # fmt: skip
    return OwnRun(**whole | more)


def test_a_run_is_what_became_of_its_time_and_no_time_is_told_twice():
    runs = [
        run(WEEK[0]),
        run(WEEK[1], "failed"),
        run(WEEK[2], "withdrawn", reason=told("cancelled")),
    ]
    decided = [TimeDecided(WEEK[0], "ran", None), TimeDecided(WEEK[3], "skipped-paused", "why")]
    found = due_times(WEEK, runs, decided, waits=None)
    assert [one.due_at for one in found] == WEEK[::-1]
    outcomes = [one.outcome for one in reversed(found)]
    assert outcomes[:4] == ["planned", "failed", "cancelled", "skipped"]
    assert outcomes[4:] == ["missed"] * 3


def test_times_that_passed_meanwhile_were_missed_and_say_which_run_made_up_for_them():
    late = run(WEEK[1], closed_at=WEEK[3] + timedelta(hours=2))
    found = {one.due_at: one for one in due_times(WEEK[:5], [run(WEEK[0]), late], [], waits=None)}
    assert found[WEEK[1]].outcome == "planned"
    for at in WEEK[2:4]:
        assert (found[at].outcome, found[at].served_by) == ("missed", WEEK[1])
    assert (found[WEEK[4]].outcome, found[WEEK[4]].served_by) == ("missed", None)


def test_the_slot_that_waits_makes_up_for_all_after_it():
    found = {one.due_at: one for one in due_times(WEEK[:4], [run(WEEK[0])], [], waits=WEEK[1])}
    assert found[WEEK[1]].outcome == "due"
    assert [found[at].served_by for at in WEEK[2:4]] == [WEEK[1]] * 2


def test_what_was_asked_for_makes_up_for_nothing():
    asked = run(WEEK[0] + timedelta(hours=1), requested=True, closed_at=WEEK[2])
    found = {one.due_at: one for one in due_times(WEEK[:2], [asked], [], waits=None)}
    assert found[WEEK[1]].served_by is None
    assert found[asked.due_at].requested
