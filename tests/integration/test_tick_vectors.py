"""Suite `tick` on a real Postgres: the golden cases, and inputs like theirs that show each Rule."""

from pathlib import Path
from typing import Any

import pytest

from tests.vectors.__main__ import load
from tests.vectors.overrides import OVERRIDES
from tests.vectors.reference_tick import TICK_RULES, tick
from tests.vectors.suites import SUITES
from tests.vectors.tick import give_tick, view_tick
from tests.vectors.verdict import Case

pytestmark = pytest.mark.one_postgres

FILE = Path(__file__).parents[1] / "vectors" / "tick.json"
CASES = load(FILE)
AT = "2026-04-15T10:00:00.000Z"
FAR = "2099-01-01T00:00:00.000Z"
SLOT = "2026-04-15T00:00:00.000Z"


def _row(table: str, id_: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    row = {
        "app_id": "ai", "table_name": table, "record_id": id_, "user_id": "u1", "op": "insert",
        "data": data, "field_meta": {}, "created_at": AT,
    }  # fmt: skip
    return row | more


def mission(id_: str = "m1", user: str = "u1", **fields: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "title": "T", "objective": "O", "conceptMarkdown": "", "state": "active", "inputs": [],
        "nextRunAt": SLOT, "iterations": [], "cadence": {"kind": "manual"}, "agentId": "a1",
    }  # fmt: skip
    return _row("aiMissions", id_, whole | fields, user_id=user)


def agent(id_: str = "a1", user: str = "u1", **fields: Any) -> dict[str, Any]:
    whole = {"name": "N", "role": "", "state": "active", "maxConcurrentMissions": 1}
    return _row("agents", id_, whole | fields, user_id=user)


def edit(table: str, id_: str, **data: Any) -> dict[str, Any]:
    meta = dict.fromkeys(data, FAR)
    return _row(table, id_, data, op="update", field_meta=meta, created_at=FAR)


def case(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {
        "rows": list(rows), "between": [], "tokenUsage": [], "script": [], "ticks": 1,
        "deepResearch": False, "research": None, "researchJobs": [],
    }  # fmt: skip
    return given | more


def call(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


TASK = call("create_task", title="A")
LIKE_THEM = {
    "missing-agent": case(mission(agentId="gone")),
    "default-agent": case(mission(agentId=None), mission("m2", agentId=None)),
    "per-user": case(mission(), agent(), mission("m2", "u2"), agent("a1", "u2")),
    "tolerant-agent": case(mission(), agent(state="asleep")),
    "tolerant-agent, cap": case(mission(), agent(maxTokensPerDay="many")),
    "tolerant-agent, places": case(
        mission(), mission("m2"), agent(maxConcurrentMissions="all of them")
    ),
    "tolerant-policy": case(mission(), agent(policy={"defaultForAi": "propose"})),
    "complete": case(_row("aiMissions", "m1", mission()["data"], op="update"), agent()),
    "checked-calls": case(
        mission(),
        agent(policy={"tools": {"create_note": "deny"}, "defaultsByModule": {}}),
        script=[
            {
                "calls": [
                    TASK,
                    call("rm_rf", path="/"),
                    call("list_tasks"),
                    call("create_note", content="c"),
                    call("create_task", title="B", colour="red"),
                ]
            },
            {"content": "done", "usage": [1, 1]},
        ],
    ),
    "no-doubles": case(
        mission(), agent(), script=[{"calls": [TASK, TASK]}, {"calls": [TASK]}, {"content": "x"}]
    ),
    "no-empty-plan": case(mission(), agent(), script=[{"content": " "}]),
    "hold": case(
        mission(),
        agent(maxTokensPerDay=10),
        script=[{"calls": [TASK], "usage": [5, 4]}, {"content": "never asked", "usage": [1, 1]}],
    ),
    "all-usage": case(
        mission(), agent(), script=[{"calls": [TASK], "usage": [3, 4, 50]}, {"content": "x"}]
    ),
    "unreported": case(mission(), agent(), script=[{"calls": [TASK]}, {"content": "x"}]),
    "back-off": case(mission(), agent(), script=[{"status": 503, "kind": "unknown"}], ticks=3),
    "back-off, for good": case(
        mission(), agent(), script=[{"status": 422, "kind": "blocked"}], ticks=2
    ),
    "blocked-waits": case(mission(), agent(state="paused"), ticks=3),
    "blocked-waits, changed": case(
        mission(), agent(state="paused"), ticks=2,
        between=[[], [edit("agents", "a1", state="active")]],
    ),
    "served-slot": case(
        mission(), agent(), ticks=3, between=[[], [edit("aiMissions", "m1", nextRunAt=SLOT)]]
    ),
    "next-run": case(mission(), agent(), ticks=3),
    "next-run, moved by the owner": case(
        mission(), agent(), ticks=2,
        between=[[], [edit("aiMissions", "m1", nextRunAt="2026-05-01T00:00:00.000Z")]],
    ),
    "garbage from the model": case(mission(), agent(), script=[{"half": True}]),
    "one at a time, then the other": case(mission(), mission("m2"), agent(), ticks=3),
}  # fmt: skip


def _case(given: dict[str, Any], expected: Any) -> Case:
    return {"name": "like them", "input": given, "expected": expected}


@pytest.mark.parametrize("one", CASES, ids=[one["name"] for one in CASES])
def test_every_golden_case_passes_or_falls_under_a_rule(one: Case):
    outcome = SUITES["tick"](one)
    assert outcome.status in ("passed", "overridden"), outcome.difference


@pytest.mark.parametrize("name", LIKE_THEM)
def test_an_input_like_theirs_gives_what_the_rules_say(name: str):
    given = LIKE_THEM[name]
    expected = tick(given, TICK_RULES)
    shaped = _case(given, expected)
    assert view_tick(give_tick(given), shaped) == view_tick(expected, shaped)


def test_without_any_rule_the_reference_gives_what_the_original_gave():
    research = OVERRIDES["tick"][0]
    cases = [one for one in CASES if not research.applies(one["input"])]
    assert len(cases) >= 27
    for one in cases:
        original = tick(one["input"], frozenset())
        assert view_tick(original, one) == view_tick(one["expected"], one), one["name"]


def test_every_rule_has_an_input_that_it_changes():
    silent = {
        rule
        for rule in TICK_RULES
        if not any(
            tick(given, TICK_RULES - {rule}) != tick(given, TICK_RULES)
            or tick(given, frozenset({rule})) != tick(given, frozenset())
            for given in LIKE_THEM.values()
        )
    }
    assert silent == set()
