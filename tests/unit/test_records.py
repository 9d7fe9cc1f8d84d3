from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.log.cadence import Daily
from state.log.principals import DEFAULT_AGENT_ID
from state.log.records import (
    Agent,
    InputRef,
    agent_from_record,
    default_agent,
    is_due,
    mission_from_record,
)

TEN = datetime(2026, 4, 15, 10, tzinfo=UTC)
WHOLE = {
    "title": "T",
    "objective": "O",
    "conceptMarkdown": "C",
    "inputs": [{"module": "notes", "table": "notes", "id": "n1"}],
    "cadence": {"kind": "daily", "atHour": 7, "atMinute": 0},
    "state": "active",
    "nextRunAt": "2026-04-15T10:00:00.000Z",
    "iterations": [{"id": "i1"}],
    "agentId": "a1",
    "grant": {"wrappedKey": "AAAA"},
    "spaceId": "s1",
}


def mission(**changed: Any) -> Any:
    return mission_from_record("u1", "m1", WHOLE | changed)


def agent(**fields: Any) -> Agent:
    return agent_from_record("u1", "a1", {"name": "A", "policy": None} | fields)


def test_a_whole_mission_is_read_without_problems():
    read = mission()
    assert read.problems == ()
    assert read.inputs == (InputRef("notes", "notes", "n1"),)
    assert read.cadence == Daily(7, 0)
    assert read.next_run_at == TEN
    assert (read.agent_id, read.space_id, read.grant) == ("a1", "s1", {"wrappedKey": "AAAA"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ["x"]),
        ("state", "ACTIVE"),
        ("state", None),
        ("nextRunAt", 9_999_999_999_999),
        ("nextRunAt", "tomorrow"),
        ("cadence", {"kind": "lunar"}),
        ("inputs", {"a": 1}),
        ("inputs", [{"module": "notes"}]),
        ("iterations", ["x"]),
        ("agentId", 7),
        ("grant", "x"),
        ("spaceId", 7),
    ],
)
def test_each_fault_is_one_problem_that_names_the_field(field: str, value: Any):
    problems = mission(**{field: value}).problems
    assert len(problems) == 1
    assert problems[0].startswith(field)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
_agent_fields = ("name", "role", "policy", "maxTokensPerDay", "maxConcurrentMissions", "state")


@given(st.dictionaries(st.sampled_from([*WHOLE, *_agent_fields, "deletedAt"]), _json))
def test_no_record_can_break_its_reader(record: dict[str, Any]):
    assert mission_from_record("u1", "m1", record).id == "m1"
    assert agent_from_record("u1", "a1", record).max_concurrent >= 0


def test_problems_never_quote_what_the_owner_wrote():
    read = mission(state="secret-word", nextRunAt="secret-word", inputs=["secret-word"])
    assert read.problems
    assert "secret-word" not in str(read.problems)


@pytest.mark.parametrize("field", ["title", "objective", "conceptMarkdown"])
def test_ciphertext_makes_a_mission_unreadable(field: str):
    assert not mission(**{field: "enc:1:abc"}).readable
    assert mission(**{field: "about enc:1:abc"}).readable


def test_due_means_active_present_and_reached():
    assert is_due(mission(), TEN)
    assert not is_due(mission(), TEN - timedelta(microseconds=1))
    for changed in (
        {"state": "paused"},
        {"deletedAt": "x"},
        {"nextRunAt": None},
        {"nextRunAt": ""},
    ):
        assert not is_due(mission(**changed), TEN)
    assert is_due(mission(deletedAt=""), TEN)
    assert is_due(mission(nextRunAt="2026-04-15T12:00:00+02:00"), TEN)


@pytest.mark.parametrize(
    ("raw", "cap", "faulty"),
    [
        (None, None, False),
        (0, 0, False),
        (1000, 1000, False),
        (-1, 0, True),
        ("1000", 0, True),
        (True, 0, True),
        (float("inf"), 0, True),
        (10**400, 0, True),
    ],
)
def test_an_invalid_token_cap_lets_nothing_run(raw: Any, cap: int | None, faulty: bool):
    read = agent(maxTokensPerDay=raw)
    assert (read.max_tokens_per_day, bool(read.problems)) == (cap, faulty)


@pytest.mark.parametrize(
    ("raw", "limit", "faulty"),
    [(None, 1, False), (3, 3, False), (-1, 1, True), ("many", 1, True), (1.5, 1, True)],
)
def test_an_invalid_concurrency_is_one(raw: Any, limit: int, faulty: bool):
    read = agent(maxConcurrentMissions=raw)
    assert (read.max_concurrent, bool(read.problems)) == (limit, faulty)


def test_an_unknown_agent_state_is_paused_and_an_absent_one_active():
    assert agent(state="sleeping").state == "paused"
    assert agent(state="sleeping").problems
    assert (agent().state, agent().problems) == ("active", ())


def test_a_user_without_agents_has_the_default_one():
    assert default_agent("u1") == Agent(id=DEFAULT_AGENT_ID, user_id="u1", name="Mana")
