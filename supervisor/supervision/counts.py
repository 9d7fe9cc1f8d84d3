"""What reports and decisions add to the metrics."""

from __future__ import annotations

from collections.abc import Iterable

from mana_actors.messages import SKIPPED_GRANT, Count, Report
from supervisor.supervision.metrics import INSTRUMENTS, Metrics

ENDED = frozenset({"ran", "failed", "withdrawn"})
"""Outcomes that end a run: its decision was written with its end, and is counted here."""


def count_report(metrics: Metrics, report: Report) -> None:
    """Tokens, plans, errors, and whatever the run counted itself."""
    for count in report.counts:
        _apply(metrics, count)
    if report.tokens:
        metrics.inc("tokens_used_total", {"agent_id": report.agent_id}, report.tokens)
    if report.outcome == "ran":
        metrics.inc("plans_produced_total")
        metrics.inc("plans_written_back_total")
    elif report.outcome in ("interrupted", "broken", "capability-invalid", "failed"):
        metrics.inc("mission_errors_total")
    if report.decision is not None and report.outcome in ENDED:
        count_decisions(metrics, [report.decision])


def is_to_be_noted(report: Report) -> bool:
    """Whether nobody wrote its decision down yet: the agent's own gate said it."""
    return report.outcome in ("skip", "waiting") and report.decision != SKIPPED_GRANT


def count_decisions(metrics: Metrics, labels: Iterable[str]) -> None:
    """Decisions of the gate that changed something."""
    for label in labels:
        metrics.inc("agent_decisions_total", {"decision": label})


def _apply(metrics: Metrics, count: Count) -> None:
    instrument = INSTRUMENTS.get(count.name)
    if instrument is None:  # a newer agent's
        return
    labels = dict(zip(instrument.labels, count.labels, strict=True))
    if count.observe:
        metrics.observe(count.name, count.value, labels)
    else:
        metrics.inc(count.name, labels, count.value)
