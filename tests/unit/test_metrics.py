import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mana_actors.agent.attempt.plan import make_plan
from mana_actors.agent.planner.compaction import CompactionSettings
from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest, ToolCall
from mana_actors.agent.planner.loop import COMPACTION_ROUND
from mana_actors.agent.planner.prompt import PlanInput
from mana_actors.agent.tools.executor import Executor
from mana_actors.messages import Count, Report, RunMetric, decode_report, encode
from state.log.records import default_agent, mission_from_record
from state.rules.policy import AiPolicy
from state.runs.outcome import Whole
from supervisor.gateway.metrics import render
from supervisor.supervision.counts import count_report, stirs, totals
from supervisor.supervision.metrics import INSTRUMENTS, MAX_SERIES, OTHER, Metrics, NodeMetric

ROOT = Path(__file__).parents[2]

# Dashboards and alerts of the original service use these names.
NAMES = [
    "http_requests_total",
    "http_request_duration_seconds",
    "ticks_total",
    "tick_duration_seconds",
    "plans_produced_total",
    "plans_written_back_total",
    "parse_failures_total",
    "mission_errors_total",
    "research_jobs_submitted_total",
    "research_jobs_completed_total",
    "research_jobs_failed_total",
    "research_jobs_pending_skips_total",
    "planner_request_duration_seconds",
    "snapshots_new_total",
    "snapshots_updated_total",
    "snapshot_rows_applied_total",
    "decrypts_total",
    "grant_scope_violations_total",
    "grant_skips_total",
    "agent_decisions_total",
    "tokens_used_total",
    "tool_calls_total",
    "planner_rounds",
    "provider_errors_total",
    "reminders_emitted_total",
    "compactions_triggered_total",
    "compacted_turns",
]


def samples(*metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = render([one.snapshot() for one in metrics]).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(
    found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float:
    return found[f"mana_ai_{name}", frozenset({"service": "mana-ai", **labels}.items())]


def test_every_metric_of_the_original_is_there():
    assert set(NAMES) <= set(INSTRUMENTS)


def test_each_metric_has_an_instrument_and_each_instrument_a_name_that_is_checked():
    names = [*get_args(RunMetric), *get_args(NodeMetric)]
    assert sorted(names) == sorted(INSTRUMENTS)


def test_every_name_that_the_code_counts_under_is_a_metric():
    """What the type checker says, said again of names that pass it as plain text."""
    counted = [
        (path.name, call.args[0].value)
        for package in ("mana_actors", "supervisor")
        for path in (ROOT / package).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
        if ast.unparse(call.func) == "Count"
        or re.fullmatch(r"(.*\.)?_?metrics\.(inc|set|observe)", ast.unparse(call.func))
    ]
    assert len(counted) > 30
    assert [each for each in counted if each[1] not in INSTRUMENTS] == []


async def test_folded_turns_are_counted_as_prometheus_reads_them():
    async def model(_request: ModelRequest, number: int) -> ModelAnswer:
        if number == COMPACTION_ROUND or number > 4:
            return ModelAnswer("## Goal\nZiel")
        calls = tuple(ToolCall(f"{number}{n}", "list_tasks", {"n": "x" * 900}) for n in range(2))
        return ModelAnswer(None, calls, "tool_calls", context_tokens=1000)

    plan = PlanInput(
        mission=mission_from_record("u1", "m1", {"title": "T"}),
        agent=default_agent("u1"),
        inputs=(),
        policy=AiPolicy(),
        boundary="b",
        model="m",
        now="2026-01-01T00:00:00.000Z",
        compaction=CompactionSettings(),
    )
    outcome, counts = await make_plan(plan, model, Executor({}))
    assert outcome.folded_turns > 0
    metrics = Metrics()
    count_report(metrics, Report("h", "u1", "a1", "m1", 1, Whole(), counts=tuple(counts)))
    found = samples(metrics)
    assert value(found, "compactions_triggered_total") == 1
    assert value(found, "compacted_turns_count") == 1
    assert value(found, "compacted_turns_sum") == outcome.folded_turns


def test_what_a_newer_agent_counts_costs_no_report():
    report = Report("h", "u1", "a1", "m1", 1, Whole(), tokens=3, counts=(Count("planner_rounds"),))
    report = decode_report(encode(report).replace(b"planner_rounds", b"planner_bounds"))
    metrics = Metrics()
    count_report(metrics, report)
    assert value(samples(metrics), "tokens_used_total", agent_id="a1") == 3


def test_processes_add_up():
    one, two = Metrics(), Metrics()
    for metrics in (one, two):
        metrics.inc("agent_decisions_total", {"decision": "ran"}, 2)
        metrics.inc("agent_decisions_total", ("ran",))
        metrics.observe("planner_rounds", 2)
    found = samples(one, two)
    assert value(found, "agent_decisions_total", decision="ran") == 6
    assert value(found, "planner_rounds_bucket", le="1.0") == 0
    assert value(found, "planner_rounds_bucket", le="2.0") == 2
    assert value(found, "planner_rounds_bucket", le="+Inf") == 2
    assert value(found, "planner_rounds_sum") == 4


def test_ids_cannot_eat_the_memory():
    metrics = Metrics()
    for number in range(MAX_SERIES + 50):
        metrics.inc("tokens_used_total", {"agent_id": f"a{number}"})
    found = samples(metrics)
    assert value(found, "tokens_used_total", agent_id=OTHER) == 50


@given(st.text())
def test_any_label_survives_the_text_format(label: str):
    metrics = Metrics()
    metrics.inc("tokens_used_total", {"agent_id": label})
    shown = label.encode("utf-8", "replace").decode()
    # The test's parser, not the format, reads a lone carriage return as the end of a line.
    if not set(shown) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        assert value(samples(metrics), "tokens_used_total", agent_id=shown) == 1


@pytest.mark.parametrize(
    "snapshot",
    [
        {"counters": 3},
        {"counters": {"ticks_total": {"[]": "x"}}},
        {"counters": {"ticks_total": {"nonsense": 1}, "unknown": {"[]": 1}}},
        {"histograms": {"planner_rounds": {"[]": {"counts": [1], "sum": 1}}}},
    ],
)
def test_a_malformed_snapshot_is_left_out(snapshot: dict[str, object]):
    assert b"mana_ai_ticks_total" in render([snapshot])  # pyright: ignore[reportArgumentType]


def test_a_wrong_name_or_label_is_the_callers_mistake():
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.inc("no_such_total")  # pyright: ignore[reportArgumentType] - what it would have said
    with pytest.raises(KeyError):
        metrics.inc("planner_rounds")
    with pytest.raises(KeyError):
        metrics.inc("tokens_used_total")
    with pytest.raises(KeyError):
        metrics.inc("tokens_used_total", {"agent": "a"})


def test_operators_are_told_of_runs_that_ended_not_of_attempts_or_of_ticks():
    metrics = Metrics()
    metrics.inc("ticks_total")
    assert (stirs(metrics), totals(metrics)["ran"]) == (0, 0), "a tick alone changes no page"
    metrics.inc("agent_decisions_total", {"decision": "ran"}, 3)
    metrics.inc("agent_decisions_total", {"decision": "failed"})
    metrics.inc("agent_decisions_total", {"decision": "skipped-budget"}, 5)
    metrics.inc("mission_errors_total", n=2)
    metrics.inc("agents_woken_total", {"source": "fork"}, 2)
    metrics.inc("tokens_used_total", {"agent_id": "a"}, 70)
    metrics.inc("tokens_used_total", {"agent_id": "b"}, 30)
    assert totals(metrics) == {"ran": 4, "failed": 1, "woken": 2, "tokens": 100}
    known = stirs(metrics)
    metrics.inc("snapshot_rows_applied_total")
    assert stirs(metrics) > known
