"""What reports and decisions add to the metrics."""

from __future__ import annotations

from collections.abc import Iterable

from mana_actors.messages import Report
from state.runs.decision import Decision
from state.runs.outcome import after
from supervisor.supervision.metrics import INSTRUMENTS, Metrics, NodeMetric

STIRS: tuple[NodeMetric, ...] = (
    "agent_decisions_total",
    "agents_woken_total",
    "changes_quarantined_total",
    "mission_errors_total",
    "plans_produced_total",
    "records_held_total",
    "records_replayed_total",
    "snapshot_rows_applied_total",
    "snapshots_new_total",
    "snapshots_updated_total",
    "tokens_used_total",
)
"""What a page of the fleet may show differently once it is counted; a tick alone changes none."""


def stirs(metrics: Metrics) -> float:
    """A number that grows whenever something happened that operators' pages show."""
    return sum(metrics.total(name) for name in STIRS)


def totals(metrics: Metrics) -> dict[str, float]:
    """What this process counted since it began, of what operators see a minute at a time."""
    name: NodeMetric = "agent_decisions_total"
    failed = metrics.total(name, {"decision": "failed"})  # once a run, unlike errors of attempts
    return {
        "ran": metrics.total(name, {"decision": "ran"}) + failed,
        "failed": failed,
        "woken": metrics.total("agents_woken_total"),
        "tokens": metrics.total("tokens_used_total"),
    }


def count_report(metrics: Metrics, report: Report) -> None:
    """Tokens, plans, errors, what was decided with the run's end, and what the run counted."""
    for count in report.counts:
        instrument = INSTRUMENTS.get(count.name)
        if instrument is None:  # a newer agent's
            continue
        labels = dict(zip(instrument.labels, count.labels, strict=True))
        if count.observe:
            metrics.observe(count.name, count.value, labels)
        else:
            metrics.inc(count.name, labels, count.value)
    if report.tokens:
        metrics.inc("tokens_used_total", {"agent_id": report.agent_id}, report.tokens)
    follow_up = after(report.ended)
    if "plan" in follow_up.counts:
        metrics.inc("plans_produced_total")
        metrics.inc("plans_written_back_total")
    if "error" in follow_up.counts:
        metrics.inc("mission_errors_total")
    if follow_up.is_news and follow_up.decision is not None:
        count_decisions(metrics, [follow_up.decision])


def count_decisions(metrics: Metrics, decisions: Iterable[Decision]) -> None:
    """Decisions that changed what a mission's owner is told."""
    for decision in decisions:
        metrics.inc("agent_decisions_total", {"decision": decision})


def count_withdrawn(metrics: Metrics, runs: int) -> None:
    """So many runs that only waited were withdrawn, and that was noted."""
    if runs:
        metrics.inc("agent_decisions_total", {"decision": "withdrawn"}, runs)
