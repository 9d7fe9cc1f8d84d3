from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.vectors import reference, reference_llm
from tests.vectors.__main__ import load, main, run
from tests.vectors.llm import view_llm
from tests.vectors.overrides import OVERRIDES
from tests.vectors.reference_loop import planner_loop
from tests.vectors.suites import SUITES
from tests.vectors.verdict import Case, Outcome

FOLDER = Path(__file__).parents[1] / "vectors"
PURE = (
    *("lww", "due", "actor", "cadence", "iteration", "policy"),
    *("planner_loop", "reminders", "injection", "llm_alias", "staging"),
)
NONE: frozenset[str] = frozenset()


def at(minute: int, rest: str = ":00.000Z") -> str:
    return f"2026-04-15T10:{minute:02d}{rest}"


def row(op: str, data: Any, meta: Any = None, minute: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "record_id": "m1",
        "user_id": "u1",
        "op": op,
        "data": data,
        "field_meta": meta if meta is not None else {},
        "created_at": at(minute),
        **more,
    }


def lww(*rows: dict[str, Any], projection: str = "snapshot") -> dict[str, Any]:
    return {"projection": projection, "rows": list(rows)}


def due(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"path": "both", "userId": "u1", "now": at(30), "rows": list(rows)}


READY = {"state": "active", "nextRunAt": at(10), "title": "T"}
FIRST = row("insert", {"title": "A"}, {"title": at(5)})
LATE_ROWS = [
    [row("insert", {"title": "A"}, {"title": at(1)}, 5)],
    [row("update", {"note": "n"}, {"note": at(6)}, 4)],
]
ITERATION: dict[str, Any] = {
    "id": "it-9",
    "startedAt": at(0),
    "plan": [],
    "overallStatus": "approved",
}
APPEND: dict[str, Any] = {
    "fn": "append",
    "userId": "u1",
    "missionId": "m1",
    "existing": [],
    "newIteration": ITERATION,
    "now": at(0),
    "agent": None,
    "iterationId": "it-9",
    "rationale": None,
}
TOOLS = [{"name": "create_task", "module": "todo"}]


def cadence(**fields: Any) -> dict[str, Any]:
    return {"tz": "Europe/Berlin", "from": "2026-03-29T02:00:00.000Z", "cadence": fields}


def policy(**fields: Any) -> dict[str, Any]:
    return {"fn": "filter", "tools": TOOLS, "agent": {"id": "a", "policy": fields}}


def loop(*script: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "fn": "loop", "system": "S", "user": "U", "prior": [], "tools": ["create_task"],
        "maxRounds": None, "parallelSafe": None, "compactor": None, "reminders": None,
        "script": list(script), "compactScript": [], "toolResults": {}, **more,
    }  # fmt: skip


def entry(*calls: dict[str, Any], content: str | None = None, **more: Any) -> dict[str, Any]:
    finish = "tool_calls" if calls else "stop"
    return {"content": content, "calls": list(calls), "finish": finish, "usage": None} | more


def task(id_: str, **args: Any) -> dict[str, Any]:
    return {"id": id_, "name": "create_task", "args": args}


def wire(*tools: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "u"}]
    asked = {"messages": messages, "tools": list(tools), "model": "m", "temperature": None}
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    return {"fn": "wire", "request": asked, "answer": {"status": 200, "body": body}}


SPEC: dict[str, Any] = {
    "type": "function",
    "function": {"name": "a", "description": "", "parameters": {}},
}
SMALL = {"maxContextTokens": 100, "threshold": None, "keepRecent": None}
END = entry(content="x")
SIX = [task(f"c{number}", i=number) for number in range(6)]

FALLBACK = "aliases:\n  mana/x: {chain: [a/m, b/n]}\n  mana/y: {chain: [a/o]}\ndefault: mana/x\n"


def route(*answers: str, asks: int = 1, second: str = "mana/x", **about: Any) -> dict[str, Any]:
    request = {"model": "mana/x", **about}
    return {
        "fn": "route",
        "yaml": FALLBACK,
        "providers": {"a": {"answers": list(answers) or ["ok"], "tools": False}, "b": {}},
        "threshold": 2,
        "backoff": 60.0,
        "steps": [{"request": request}] * asks + [{"request": {"model": second}}],
    }


# One input per override, mostly the odd behaviour that the original's authors noted.
def staged_plan(fn: str, *statuses: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {
            "id": f"s{n}",
            "summary": "S",
            "intent": {"kind": "toolCall", "toolName": "create_task", "params": {}},
            "status": status,
        }
        for n, status in enumerate(statuses)
    ]
    iteration: dict[str, Any] = {
        "id": "i1",
        "startedAt": at(0),
        "plan": steps,
        "summary": "",
        "overallStatus": "awaiting-review",
        "source": "server",
    }
    mission: dict[str, Any] = {
        "id": "m1",
        "objective": "O",
        "state": "active",
        "iterations": [iteration],
    }
    return {"fn": fn, "agents": [], "passes": [{"missions": [mission]}]}


EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("staging", "asks-first"): staged_plan("execute", "planned"),
    ("staging", "one-proposal-per-step"): staged_plan("stage", "rejected", "planned"),
    ("lww", "instants"): lww(
        row("insert", {"title": "A"}, {"title": at(5, ":00.500Z")}),
        row("update", {"title": "B"}, {"title": at(5, ":00Z")}, 1),
    ),
    ("lww", "normal-stamps"): lww(row("insert", {"title": "A"}, {"title": at(5, ":00Z")})),
    ("lww", "object-stamps"): lww(
        FIRST,
        row("update", {"title": "B"}, {"title": {"at": at(9)}}, 1),
        row("update", {"title": "C"}, {"title": at(10)}, 2),
        projection="resolver",
    ),
    ("lww", "internal-fields"): lww(row("insert", {"id": "other", "_updatedAtIndex": at(1)})),
    ("lww", "later-insert"): lww(FIRST, row("insert", {"title": "B", "updatedAt": at(1)}, {}, 9)),
    ("lww", "undelete"): lww(FIRST, row("delete", None, None, 6), row("insert", {"a": 1}, {}, 7)),
    ("lww", "soft-delete"): lww(FIRST, row("delete", {"deletedAt": at(6)}, {}, 6)),
    ("lww", "quarantine"): lww(FIRST, row("upsert", {"title": "B"}, {"title": at(6)}, 6)),
    ("lww", "one-merge"): lww(
        row("insert", None, {"a": at(9)}),
        row("update", {"a": 1}, {"a": at(2)}),
        projection="import",
    ),
    ("lww", "late-rows"): {"projection": "incremental", "batches": LATE_ROWS},
    ("lww", "deleted-nonnull"): lww(row("insert", {"deletedAt": 0}), projection="agent"),
    ("due", "complete"): due(row("update", READY)),
    ("due", "due-instants"): due(row("insert", READY | {"nextRunAt": at(30, ":00Z")})),
    ("due", "tolerant-fields"): due(
        row("insert", READY | {"title": [], "inputs": [1], "grant": 5})
    ),
    ("due", "soft-delete"): due(
        row("insert", READY),
        row("delete", {"deletedAt": at(6)}, {}, 6),
        row("update", {"deletedAt": None}, {"deletedAt": at(7)}, 7),
    ),
    ("due", "undelete"): due(
        row("insert", READY), row("delete", {}, {}, 6), row("insert", READY, {}, 7)
    ),
    ("due", "instants"): due(
        row("insert", READY, {"state": at(5)}),
        row("update", {"state": "paused"}, {"state": at(5, ":00Z")}, 1),
        row("update", {"state": "active"}, {"state": at(5, ":00.500Z")}, 2),
    ),
    ("due", "internal-fields"): due(row("insert", READY | {"id": "other"})),
    ("due", "later-insert"): due(
        row("insert", READY, {"state": at(5)}),
        row("insert", {"state": "paused", "createdAt": at(1)}, {}, 9),
    ),
    ("due", "quarantine"): due(row("insert", READY), row("upsert", {"title": "B"}, {}, 6)),
    ("due", "one-merge"): due(
        row("insert", READY | {"state": "paused"}, {"state": at(8)}),
        row("update", {"state": "active"}, {"state": at(2)}, 1),
    )
    | {"path": "replay"},
    ("due", "deleted-nonnull"): due(row("insert", READY | {"deletedAt": 0})),
    ("cadence", "cadence-range"): cadence(kind="daily", atHour=24, atMinute=0),
    ("cadence", "gap-shift"): cadence(kind="daily", atHour=2, atMinute=30),
    ("cadence", "cron"): cadence(kind="cron", expression="30 9 * * 1"),
    ("policy", "policy-malformed"): policy(),
    ("llm_alias", "whole-file"): {
        "fn": "registry",
        "yaml": "aliases: {mana/x: {chain: [a/b]}, mana/y: {chain: [mana/x]}}",
    },
    ("llm_alias", "default-alias"): route(model=""),
    ("llm_alias", "next-capable"): route(tools=True),
    ("llm_alias", "next-key"): route("auth"),
    ("llm_alias", "next-model"): route("http_404", second="a/o"),
    ("llm_alias", "typed-429"): route("http_429"),
    ("llm_alias", "passing"): route("builtin_timeout"),
    ("llm_alias", "short-wait"): route("rate_limit", asks=2, second="mana/y"),
    ("llm_alias", "own-refusal"): route("http_400"),
    ("llm_alias", "half-answer"): route("truncated"),
    ("llm_alias", "own-health"): route("http_503", "http_503", "ok", asks=2, second="mana/y"),
    ("policy", "policy-unknown"): policy(tools={"create_task": "bogus"}, defaultForAi="propose"),
    ("iteration", "same-iteration"): APPEND | {"existing": [ITERATION | {"userFeedback": "gut"}]},
    ("iteration", "bounded-history"): APPEND
    | {"existing": [ITERATION | {"id": str(number)} for number in range(250)]},
    ("planner_loop", "all-usage"): loop(entry(content="x", usage=[10, 5, 999])),
    ("planner_loop", "bounded-answer"): wire(SPEC),
    ("planner_loop", "measured-context"): loop(
        *(entry(task(f"c{number}", i=number)) for number in range(4)), END, compactor=SMALL
    ),
    ("planner_loop", "no-doubles"): loop(entry(task("c1"), task("c2")), entry(task("c3")), END),
    ("planner_loop", "no-empty-tools"): wire(),
    ("planner_loop", "plan-size"): loop(
        entry(*(task(f"c{number}", i=number) for number in range(60))), END
    ),
    ("planner_loop", "stop-reasons"): loop(entry(content="cut", finish="length")),
    ("planner_loop", "whole-exchanges"): loop(entry(*SIX, usage=[100, 0]), END, compactor=SMALL),
}
ORIGINALS: dict[str, Callable[[Any, frozenset[str]], Any]] = {
    "lww": reference.lww,
    "due": reference.due,
    "planner_loop": planner_loop,
}
# These cannot change which missions are due, or meet no reader of the suite.
WITHOUT_EFFECT = {("due", "normal-stamps"), ("due", "object-stamps"), ("due", "late-rows")}


@pytest.mark.parametrize("suite", PURE)
def test_every_golden_case_passes_or_is_overridden_by_a_rule(suite: str):
    results = run(suite, FOLDER / f"{suite}.json")
    assert results
    assert [(name, out.difference) for name, out in results if out.status == "failed"] == []


@pytest.mark.parametrize(("suite", "answer"), ORIGINALS.items())
def test_the_reference_without_rules_is_the_original(
    suite: str, answer: Callable[[Any, frozenset[str]], Any]
):
    for case in load(FOLDER / f"{suite}.json"):
        assert comparable(answer(case["input"], NONE)) == comparable(case["expected"]), case["name"]


def test_the_reference_without_rules_is_the_original_gateway():
    for case in load(FOLDER / "llm_alias.json"):
        answer, expected = reference_llm.llm(case["input"], NONE), case["expected"]
        assert view_llm(answer, case) == view_llm(expected, case), case["name"]


def comparable(expected: Any) -> Any:
    """Without the original's counters, and a list of missions by id."""
    if "after" in expected:
        return [sorted(map(str, step["snapshots"])) for step in sorted_keys(expected["after"])]
    return expected


def sorted_keys(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, order="sorted"))


def test_the_reference_without_rules_counts_days_as_the_original():
    for case in load(FOLDER / "cadence.json"):
        given = case["input"]
        if not reference.cadence_fault(given["cadence"]):
            found = reference.next_run(given, shifted=True)
            assert found == case["expected"]["nextRunAt"], case["name"]


@pytest.mark.parametrize(("key", "given"), EXAMPLES.items(), ids=map("/".join, EXAMPLES))
def test_each_override_fits_its_example_and_we_give_its_value(
    key: tuple[str, str], given: dict[str, Any]
):
    suite, name = key
    override = next(one for one in OVERRIDES[suite] if one.name == name)
    assert override.applies(given)
    outcome = SUITES[suite]({"name": name, "input": given, "expected": override.value(given)})
    assert outcome == Outcome("passed"), outcome.difference
    if suite in ORIGINALS:  # here the reference also says what the original gave
        answer = ORIGINALS[suite]
        original = {"name": name, "input": given, "expected": answer(given, NONE)}
        assert SUITES[suite](original).status == "overridden"


def test_every_override_is_used():
    known = {(suite, one.name) for suite in PURE for one in OVERRIDES[suite]}  # tick: integration
    assert known - set(EXAMPLES) == WITHOUT_EFFECT


def test_no_override_covers_a_plain_case():
    plain = lww(FIRST, row("update", {"title": "B"}, {"title": at(6)}, 1))
    assert [one.name for one in OVERRIDES["lww"] if one.applies(plain)] == []
    wrong: Case = {"name": "wrong", "input": plain, "expected": {"record": None}}
    assert SUITES["lww"](wrong).status == "failed"


def test_a_case_that_breaks_us_is_a_failed_case():
    broken: Case = {"name": "x", "input": {"fn": "no such", "args": []}, "expected": {"value": 1}}
    assert SUITES["actor"](broken).status == "failed"


def test_the_runner_skips_what_is_missing_and_fails_on_a_wrong_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    case = {
        "name": "manual",
        "input": {"tz": "UTC", "from": at(0), "cadence": {"kind": "manual"}},
        "expected": {"nextRunAt": None},
    }
    file = tmp_path / "cadence.json"
    file.write_bytes(msgspec.json.encode({"suite": "cadence", "cases": [case]}))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "cadence: passed 1, overridden 0, failed 0" in out
    assert "lww: skipped, no lww.json in this folder" in out
    wrong = case | {"expected": {"nextRunAt": at(0)}}
    file.write_bytes(msgspec.json.encode({"suite": "cadence", "cases": [wrong]}))
    assert main([str(tmp_path)]) == 1
    assert "FAILED manual" in capsys.readouterr().out


def test_a_file_that_no_suite_reads_is_named_and_fails_when_all_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "lww.json").write_bytes(msgspec.json.encode({"suite": "lww", "cases": []}))
    assert main(["--all", str(tmp_path)]) == 0
    (tmp_path / "unheard.json").write_text("{}")
    capsys.readouterr()
    assert main([str(tmp_path)]) == 0
    assert "unheard.json: no suite" in capsys.readouterr().out
    assert main([str(tmp_path), "--all"]) == 1
    assert "unheard.json: no suite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "goes_on"), [("read_timeout", True), ("connect", True), ("key_error", False)]
)
def test_an_error_that_is_not_known_is_none_of_the_networks(name: str, goes_on: bool):
    given = {"fn": "retryable", "error": name}
    expected = {"retryable": goes_on}
    case: Case = {"name": name, "input": given, "expected": expected}
    assert SUITES["llm_alias"](case).status == "passed"


def test_the_runner_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    assert main([str(tmp_path)]) == 2
    (tmp_path / "lww.json").write_text("[")
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 4
