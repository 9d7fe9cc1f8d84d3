"""Counters, gauges and histograms as plain data, without a library."""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mana_actors.messages import RunMetric

MAX_SERIES = 1000
"""Label sets kept per metric; more are counted under `other`, so ids cannot eat the memory."""
OTHER = "other"

Kind = Literal["counter", "gauge", "histogram"]


NodeMetric = Literal[
    "agent_decisions_total",
    "agent_idle_cpu_ratio",
    "agent_idle_seconds",
    "agent_start_cpu_seconds",
    "agents_awake",
    "agents_memory_bytes",
    "agents_warm",
    "agents_woken_total",
    "changes_quarantined_total",
    "disk_free_bytes",
    "disk_free_inodes",
    "health_failing",
    "health_warning",
    "http_connections_ended_total",
    "http_request_duration_seconds",
    "http_requests_total",
    "mission_errors_total",
    "missions_overdue",
    "plans_produced_total",
    "plans_written_back_total",
    "records_held",
    "records_held_total",
    "records_replayed_total",
    "research_jobs_completed_total",
    "research_jobs_failed_total",
    "research_jobs_pending_skips_total",
    "research_jobs_submitted_total",
    "rows_pruned_total",
    "runs_failed_last_hour",
    "runs_open",
    "sessions_ended_total",
    "snapshot_rows_applied_total",
    "snapshots_new_total",
    "snapshots_updated_total",
    "tick_duration_seconds",
    "sync_changes_pushed_total",
    "sync_changes_sent_total",
    "sync_checkpoint_age_seconds",
    "sync_conflicts_total",
    "sync_connections",
    "sync_queue_age_seconds",
    "sync_users_connected",
    "ticks_total",
    "tokens_used_total",
    "wake_seconds",
]
"""What supervisors and gateways count themselves."""

MetricName = RunMetric | NodeMetric


class Instrument(msgspec.Struct, frozen=True):
    """One metric: its name without `mana_ai_`, what it says, its labels and bucket bounds."""

    name: MetricName
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TICK_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
_CALL_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_WAKE_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
_ROUNDS = (1.0, 2.0, 3.0, 4.0, 5.0)
_TURNS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_REQUEST = ("method", "path", "status")

INSTRUMENTS: dict[str, Instrument] = {
    one.name: one
    for one in (
        Instrument("http_requests_total", "counter", "HTTP requests answered", _REQUEST),
        Instrument(
            "http_request_duration_seconds", "histogram", "Time to answer", _REQUEST, _HTTP_SECONDS
        ),
        Instrument(
            "http_connections_ended_total",
            "counter",
            "Connections ended or refused by us",
            ("door", "reason"),
        ),
        Instrument("ticks_total", "counter", "Scans for due missions"),
        Instrument("tick_duration_seconds", "histogram", "Time of a scan", (), _TICK_SECONDS),
        Instrument("plans_produced_total", "counter", "Plans that came from the model"),
        Instrument("plans_written_back_total", "counter", "Plans committed to the log"),
        Instrument("parse_failures_total", "counter", "Planner failures"),
        Instrument("mission_errors_total", "counter", "Runs that ended in an error"),
        Instrument("research_jobs_submitted_total", "counter", "Research begun", ("provider",)),
        Instrument("research_jobs_completed_total", "counter", "Research done", ("provider",)),
        Instrument("research_jobs_failed_total", "counter", "Research failed", ("provider",)),
        Instrument("research_jobs_pending_skips_total", "counter", "Runs waiting for research"),
        Instrument(
            "planner_request_duration_seconds",
            "histogram",
            "Time of a model call",
            (),
            _CALL_SECONDS,
        ),
        Instrument("snapshots_new_total", "counter", "Missions seen for the first time"),
        Instrument("snapshots_updated_total", "counter", "Missions changed"),
        Instrument("snapshot_rows_applied_total", "counter", "Log rows folded into missions"),
        Instrument("decrypts_total", "counter", "Fields decrypted", ("table",)),
        Instrument("grant_scope_violations_total", "counter", "Reads outside a grant", ("table",)),
        Instrument("grant_skips_total", "counter", "Grants not used", ("reason",)),
        Instrument("agent_decisions_total", "counter", "What the gate said", ("decision",)),
        Instrument("tokens_used_total", "counter", "Tokens charged", ("agent_id",)),
        Instrument("tool_calls_total", "counter", "Tool calls", ("tool", "policy", "outcome")),
        Instrument("planner_rounds", "histogram", "Model calls of a run", (), _ROUNDS),
        Instrument("provider_errors_total", "counter", "Model failures", ("provider", "kind")),
        Instrument(
            "reminders_emitted_total", "counter", "Reminders to the model", ("producer", "severity")
        ),
        Instrument("compactions_triggered_total", "counter", "Conversations compacted"),
        Instrument("compacted_turns", "histogram", "Messages replaced", (), _TURNS),
        # Ours.
        Instrument("calls_above_hold_total", "counter", "Model calls that cost more than was held"),
        Instrument("journal_unreadable_total", "counter", "Kept answers that were asked anew"),
        Instrument("rows_pruned_total", "counter", "Old rows deleted", ("table",)),
        Instrument(
            "injection_markers_total", "counter", "Text like an instruction", ("place", "marker")
        ),
        Instrument("changes_quarantined_total", "counter", "Log rows set aside"),
        Instrument("records_replayed_total", "counter", "Records read from the log again"),
        Instrument("records_held_total", "counter", "Records set aside while they were held"),
        Instrument("records_held", "gauge", "Records that wait until a transaction ends"),
        Instrument("sessions_ended_total", "counter", "Agents' sessions ended for their age"),
        Instrument("agents_woken_total", "counter", "Processes bound", ("source",)),
        Instrument("wake_seconds", "histogram", "Due time to start of a run", (), _WAKE_SECONDS),
        Instrument("agents_awake", "gauge", "Processes bound to an agent"),
        Instrument("agents_warm", "gauge", "Processes ready to be bound"),
        Instrument("agents_memory_bytes", "gauge", "Memory of awake agents, shared pages in parts"),
        Instrument("agent_idle_seconds", "gauge", "Idle time after which an agent sleeps"),
        Instrument("agent_start_cpu_seconds", "gauge", "CPU of a start; 0: not measured"),
        Instrument("agent_idle_cpu_ratio", "gauge", "CPU of an idle agent, in cores; 0: the same"),
        Instrument("runs_open", "gauge", "Runs under way"),
        Instrument("health_failing", "gauge", "1: this part is not as it should be", ("part",)),
        Instrument("health_warning", "gauge", "1: this part is worth a look", ("part",)),
        Instrument("missions_overdue", "gauge", "Missions due for half a minute and more"),
        Instrument("runs_failed_last_hour", "gauge", "Runs that failed in the last hour"),
        Instrument("disk_free_bytes", "gauge", "Free for us where a node writes", ("folder",)),
        Instrument("disk_free_inodes", "gauge", "Files that can be made there", ("folder",)),
        Instrument("sync_changes_pushed_total", "counter", "Changes that devices brought"),
        Instrument("sync_changes_sent_total", "counter", "Changes that devices were sent"),
        Instrument("sync_conflicts_total", "counter", "Fields of them that somebody else has won"),
        Instrument("sync_connections", "gauge", "Devices that listen", ("door",)),
        Instrument("sync_users_connected", "gauge", "People whose devices listen", ("door",)),
        Instrument("sync_queue_age_seconds", "gauge", "The longest that a new row waits unread"),
        Instrument(
            "sync_checkpoint_age_seconds", "gauge", "Since new rows were looked for last", ("door",)
        ),
    )
}

Labels = Mapping[str, str] | tuple[str, ...]
"""By name, or in the instrument's order."""

Series = dict[str, float]
Snapshot = dict[str, dict[str, Any]]
"""{"counters": {name: {labels: value}}, "gauges": ..., "histograms": {name: {labels: {...}}}}.

`labels` is a JSON array of the label values in the instrument's order.
"""


class Spread(msgspec.Struct):
    """Observations of one histogram series: a count per bucket (the last is +Inf) and their sum."""

    counts: list[int]
    sum: float = 0.0


class Metrics:
    """Counts in memory since this process began; a snapshot is plain data that crosses Ray.

    Any thread may count.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, Series] = {}
        self._spreads: dict[str, dict[str, Spread]] = {}
        self._counting = threading.Lock()

    def inc(self, name: MetricName, labels: Labels = (), n: float = 1) -> None:
        """Add to a counter; a KeyError is a mistake in the caller."""
        instrument = _instrument(name, "counter")
        with self._counting:
            series = self._numbers.setdefault(name, {})
            key = _key(instrument, labels, series)
            series[key] = series.get(key, 0.0) + n

    def set(self, name: MetricName, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        instrument = _instrument(name, "gauge")
        with self._counting:
            series = self._numbers.setdefault(name, {})
            series[_key(instrument, labels, series)] = value

    def observe(self, name: MetricName, value: float, labels: Labels = ()) -> None:
        """Put a value into a histogram."""
        instrument = _instrument(name, "histogram")
        with self._counting:
            series = self._spreads.setdefault(name, {})
            key = _key(instrument, labels, series)
            spread = series.setdefault(key, Spread([0] * (len(instrument.buckets) + 1)))
            spread.counts[bisect_left(instrument.buckets, value)] += 1
            spread.sum += value

    def total(self, name: MetricName, labels: Labels = ()) -> float:
        """What was counted under a name: with these labels, or with all together."""
        with self._counting:
            series = self._numbers.get(name, {})
            if not labels:
                return sum(series.values())
            return series.get(_key(INSTRUMENTS[name], labels, series), 0.0)

    def snapshot(self) -> Snapshot:
        """Everything counted so far."""
        numbers: dict[str, dict[str, Any]] = {"counter": {}, "gauge": {}}
        with self._counting:
            for name, series in self._numbers.items():
                numbers[INSTRUMENTS[name].kind][name] = dict(series)
            histograms = {
                name: {key: {"counts": list(s.counts), "sum": s.sum} for key, s in series.items()}
                for name, series in self._spreads.items()
            }
        return {
            "counters": numbers["counter"],
            "gauges": numbers["gauge"],
            "histograms": histograms,
        }


def _instrument(name: str, kind: Kind) -> Instrument:
    instrument = INSTRUMENTS[name]
    if instrument.kind != kind:
        raise KeyError(name)
    return instrument


def _key(instrument: Instrument, labels: Labels, series: Mapping[str, object]) -> str:
    if len(labels) != len(instrument.labels):
        raise KeyError(instrument.name, *labels)
    if isinstance(labels, Mapping):
        labels = tuple(labels[name] for name in instrument.labels)
    key = _encoded(list(labels))
    if key in series or len(series) < MAX_SERIES:
        return key
    return _encoded([OTHER] * len(instrument.labels))


def _encoded(values: list[str]) -> str:
    return msgspec.json.encode([v.encode("utf-8", "replace").decode() for v in values]).decode()
