"""The gate says who may run, why not, and when to look again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from state.runs.gate import BROWSER_RUN_GRACE, MISSED_AFTER, Full, GateFacts, gate
from state.runs.reasons import told

NOW = datetime(2026, 4, 27, 5, 0, tzinfo=UTC)
SLOT = NOW - timedelta(minutes=1)
SOON = NOW + timedelta(minutes=1)
DUE = GateFacts(
    now=NOW,
    state="active",
    agent_id="a1",
    next_run_at=SLOT,
    agent_known=True,
    agent_state="active",
)


def test_a_due_mission_of_an_active_agent_runs():
    assert (gate(DUE).action, gate(DUE).due_at) == ("run", SLOT)


@pytest.mark.parametrize("next_run_at", [NOW, NOW - timedelta(days=300)])
def test_it_is_due_at_its_very_instant_and_ever_after(next_run_at: datetime):
    assert gate(replace(DUE, next_run_at=next_run_at)).action == "run"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "paused"},
        {"state": "done"},
        {"state": "archived"},
        {"hidden": True},
        {"complete": False},
        {"next_run_at": None},
    ],
)
def test_what_only_a_new_row_can_change_is_not_looked_at_again(change: dict[str, Any]):
    found = gate(replace(DUE, **change))
    assert (found.action, found.decision, found.look_at) == ("later", None, None)


def test_a_mission_that_is_not_due_yet_is_looked_at_when_it_is():
    found = gate(replace(DUE, next_run_at=SOON))
    assert (found.action, found.look_at) == ("later", SOON)


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({"readable": False}, "skipped-unreadable"),
        ({"agent_known": False, "agent_state": None}, "skipped-missing-agent"),
        ({"has_left_space": True}, "skipped-left-space"),
        ({"agent_state": "archived"}, "skipped-archived"),
        ({"agent_state": "paused"}, "skipped-paused"),
        ({"agent_state": "something"}, "skipped-paused"),
        ({"cap": 0}, "skipped-budget"),
    ],
)
def test_what_its_owner_has_to_change_says_so_once(change: dict[str, Any], decision: str):
    found = gate(replace(DUE, **change))
    assert (found.action, found.decision, found.look_at) == ("skip", decision, None)
    assert found.reason


def test_the_default_agent_needs_no_record():
    change = replace(DUE, agent_id="legacy:ai-default", agent_known=False, agent_state=None)
    assert gate(change).action == "run"


def test_a_full_agent_is_looked_at_again_in_a_minute():
    found = gate(replace(DUE, running=2, max_concurrent=2))
    assert found.decision == "skipped-concurrency"
    assert found.look_at == NOW + timedelta(seconds=60)
    assert gate(replace(DUE, running=1, max_concurrent=2)).action == "run"


def test_a_used_up_budget_is_looked_at_when_it_returns():
    found = gate(replace(DUE, cap=100, used=100, back_at=SOON))
    assert (found.decision, found.look_at) == ("skipped-budget", SOON)
    assert gate(replace(DUE, cap=100, used=99)).action == "run"
    assert gate(replace(DUE, cap=None, used=10**9)).action == "run"


def test_conditions_are_asked_in_their_order():
    everything = replace(
        DUE, agent_state="archived", running=5, cap=0, browser_since=NOW, readable=True
    )
    assert gate(everything).decision == "skipped-archived"
    assert gate(replace(everything, agent_state="paused")).decision == "skipped-paused"
    assert gate(replace(everything, agent_state="active")).decision == "skipped-concurrency"


def test_a_browser_that_runs_it_now_is_left_alone_for_a_while():
    found = gate(replace(DUE, browser_since=SLOT))
    assert found.decision == "deferred-browser-run"
    assert found.look_at == SLOT + BROWSER_RUN_GRACE
    assert gate(replace(DUE, browser_since=NOW - BROWSER_RUN_GRACE)).action == "run"


def test_a_slot_that_is_served_or_from_before_us_moves_on():
    assert gate(replace(DUE, slot_served=True)).action == "move"
    assert gate(replace(DUE, slots_from=NOW)).action == "move"
    assert gate(replace(DUE, slots_from=SLOT)).action == "run"


def test_a_missed_slot_moves_on_where_its_owner_wants_none():
    late = replace(DUE, now=SLOT + MISSED_AFTER + timedelta(seconds=1))
    assert gate(late).action == "run"
    moved = gate(replace(late, leaves_missed=True))
    assert (moved.action, moved.decision, moved.reason) == (
        "move",
        "skipped-missed",
        told("slot-missed"),
    )
    assert gate(replace(late, leaves_missed=True, now=SLOT + MISSED_AFTER)).action == "run"
    asked = replace(late, leaves_missed=True, requested_at=SLOT)
    assert gate(asked).action == "run"
    waits = replace(late, leaves_missed=True, run_state="waiting", run_due_at=SLOT, not_before=SLOT)
    assert gate(waits).action == "run"


def test_a_slot_moves_on_even_where_it_could_not_run():
    assert gate(replace(DUE, slot_served=True, agent_state="paused")).action == "move"


def test_what_was_asked_for_runs_though_the_slot_is_served():
    asked = SLOT - timedelta(minutes=5)
    found = gate(replace(DUE, requested_at=asked, slot_served=True))
    assert (found.action, found.due_at) == ("run", asked)


def test_what_was_asked_for_needs_no_slot():
    found = gate(replace(DUE, requested_at=NOW, next_run_at=None))
    assert (found.action, found.due_at) == ("run", NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"run_state": "open", "run_due_at": SLOT, "lease_until": SOON},
        {"run_state": "waiting", "run_due_at": SLOT, "not_before": SOON},
    ],
)
def test_a_run_under_way_is_looked_at_when_it_may_be_taken_over(change: dict[str, Any]):
    found = gate(replace(DUE, **change))
    assert (found.action, found.look_at) == ("later", SOON)
    over = {key: NOW if value == SOON else value for key, value in change.items()}
    assert gate(replace(DUE, **over)).action == "run"


def test_a_run_under_way_keeps_its_occurrence():
    asked = SLOT - timedelta(minutes=5)
    waits = replace(DUE, requested_at=asked, run_state="waiting", run_due_at=SLOT, not_before=NOW)
    assert gate(waits).due_at == SLOT
    assert gate(replace(waits, run_due_at=NOW - timedelta(days=1))).due_at == asked


@pytest.mark.parametrize("scope", ["agent", "user", "installation"])
def test_a_used_up_limit_of_operators_is_looked_at_when_it_returns(scope: str):
    found = gate(replace(DUE, full=Full(scope, "money", SOON)))
    assert (found.decision, found.look_at) == ("skipped-budget", SOON)
    assert found.reason.startswith(f"the {scope}'s limit in money")


def test_a_cap_of_zero_is_looked_at_only_when_something_changes():
    assert gate(replace(DUE, cap=0, back_at=SOON)).look_at is None
