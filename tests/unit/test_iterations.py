from __future__ import annotations

import pickle
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from state.errors import TerminalError, UserIdMissingError
from state.log.iterations import (
    Author,
    PlannedStep,
    append_iteration,
    failed_iteration,
    iteration_from_plan,
    iteration_id,
    merge_iterations,
    row_actor,
)
from state.log.records import MissionIteration
from state.rules.budgets import TokenWindow, hold_size, room

GOLDEN_ID = "48c4d9a2-6f17-5442-b4e4-6ceb223daa10"
NOW = "2026-04-27T05:00:41.120Z"


def done(name: str, status: str = "approved", start: int = 0, **more: Any) -> dict[str, Any]:
    started = f"2026-04-15T10:00:{start:02d}.000Z"
    return {"id": name, "startedAt": started, "plan": [], "overallStatus": status, **more}


def test_an_occurrence_has_one_iteration_id():
    one = iteration_id("u1", "m1", 1)
    assert one == iteration_id("u1", "m1", 1)
    assert uuid.UUID(one).version == 5
    others = [("u1", "m1", 2), ("u1", "m2", 1), ("u2", "m1", 1), ("u1m", "1", 1), ("u", "1m1", 1)]
    assert len({one, *(iteration_id(*other) for other in others)}) == 6


def test_the_id_of_an_occurrence_never_changes_between_releases():
    assert iteration_id("u1", "m1", 1_776_247_200_000_000) == GOLDEN_ID


def test_a_plan_waits_for_review_and_an_empty_one_does_not():
    plan = iteration_from_plan([PlannedStep("create_task", {"title": "A"})], "s", "it1", NOW)
    assert plan["overallStatus"] == "awaiting-review"
    assert plan["plan"][0] == {
        "id": "it1-0",
        "summary": "create_task",
        "intent": {"kind": "toolCall", "toolName": "create_task", "params": {"title": "A"}},
        "status": "planned",
    }
    assert iteration_from_plan([], "s", "it1", NOW)["overallStatus"] == "approved"


def test_a_final_failure_says_why():
    failed = failed_iteration("it1", NOW, "ProviderError", "the model did not answer")
    assert failed["overallStatus"] == "failed"
    assert failed["errorDetails"] == {
        "name": "ProviderError",
        "message": "the model did not answer",
    }
    assert msgspec.convert(failed, MissionIteration).source == "server"


def test_the_newest_iterations_are_kept():
    old = [done(str(index)) for index in range(250)]
    kept = append_iteration(old, done("new"))
    assert [item["id"] for item in kept] == [*map(str, range(51, 250)), "new"]


@given(st.lists(st.integers(0, 3_000), max_size=40), st.integers(0, 20_000))
def test_the_kept_array_fits_its_bytes(sizes: list[int], limit: int):
    old = [done(str(index), note="x" * size) for index, size in enumerate(sizes)]
    kept = append_iteration(old, done("new"), max_bytes=limit)
    assert kept[-1]["id"] == "new"
    assert len(kept) == 1 or len(msgspec.json.encode(kept)) <= limit
    assert kept[:-1] == old[len(old) + 1 - len(kept) :]


def test_a_repeated_iteration_does_not_undo_what_a_client_executed():
    executed = done("it1", plan=[{"id": "it1-0", "status": "approved"}])
    assert append_iteration([executed], done("it1")) == [executed]


def test_a_repeated_iteration_replaces_its_own_failure():
    assert append_iteration([done("it1", "failed")], done("it1")) == [done("it1")]


def test_healing_loses_no_iteration_and_takes_the_newest_logged_version():
    ours = [done("a", start=1), done("server", start=3)]
    theirs = [done("a", start=1, userFeedback="gut"), done("b", start=2)]
    merged = merge_iterations([ours, theirs])
    assert [item["id"] for item in merged] == ["a", "b", "server"]
    assert merged[0]["userFeedback"] == "gut"


_versions = st.lists(st.lists(st.builds(done, st.sampled_from("abcd"), start=st.integers(0, 5))))


@given(_versions)
def test_healing_keeps_every_id_ever_seen_once(versions: list[list[dict[str, Any]]]):
    merged = merge_iterations(versions)
    seen = {item["id"] for version in versions for item in version}
    assert sorted(item["id"] for item in merged) == sorted(seen)
    assert merge_iterations([*versions, merged]) == merged


def test_a_row_is_signed_by_its_agent_with_the_reason():
    author = Author("a1", "Cashflow Watcher")
    assert row_actor("m1", "it1", author, "Plane die Woche") == {
        "kind": "ai",
        "principalId": "a1",
        "displayName": "Cashflow Watcher",
        "missionId": "m1",
        "iterationId": "it1",
        "rationale": "Plane die Woche",
    }
    assert row_actor("m1", "it1", None, None)["principalId"] == "legacy:ai-default"
    assert row_actor("m1", None, author, None)["principalId"] == "system:mission-runner"


def test_a_missing_owner_says_so_across_processes():
    again = pickle.loads(pickle.dumps(UserIdMissingError("vault")))  # noqa: S301
    assert isinstance(again, TerminalError)
    assert str(again) == "vault: user id is empty"


def test_a_hold_covers_the_request_and_the_answer():
    assert hold_size(1001, 500) == 1001
    assert hold_size(1000, 500, bytes_per_token=1) == 1500
    assert hold_size(10, 0, bytes_per_token=3) == 4


def test_room_is_what_cap_usage_and_holds_leave():
    assert room(None, 5, 5) is None
    assert room(100, 60, 30) == 10
    assert room(0, 0, 0) == room(10, 60, 0) == 0


def test_tokens_return_after_24_hours():
    start = datetime(2026, 4, 15, tzinfo=UTC)
    window = TokenWindow([(start + timedelta(hours=2), 50)])
    window.add(start, 100)
    now = start + timedelta(hours=3)
    assert window.used(now) == 150
    later = start + timedelta(hours=24)
    assert window.used(later) == 50
    window.forget(later)
    assert window.used(now) == 50
