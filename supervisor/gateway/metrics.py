"""Metrics as Prometheus reads them: text format 0.0.4, every series labelled with the service."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from supervisor.health.judgement import PARTS, Facts, FleetHealth
from supervisor.supervision.metrics import INSTRUMENTS, Instrument, Metrics, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "mana_ai_"
SERVICE = {"service": "mana-ai"}
_SERVICE_LABELS = ("service",)
_SERVICE_VALUES = tuple(SERVICE.values())


def gauge_health(metrics: Metrics, facts: Facts, judged: FleetHealth) -> None:
    """Say each part's state and what it was judged from, as gauges."""
    for part in PARTS:
        signs = [sign for sign in judged.signs if sign.part == part]
        metrics.set("health_failing", float(any(sign.is_failing for sign in signs)), (part,))
        metrics.set("health_warning", float(any(not s.is_failing for s in signs)), (part,))
    metrics.set("missions_overdue", facts.overdue)
    metrics.set("runs_failed_last_hour", facts.failed)
    for name, room in facts.rooms.items():
        metrics.set("disk_free_bytes", room.free_bytes, (name,))
        if room.free_inodes is not None:
            metrics.set("disk_free_inodes", room.free_inodes, (name,))


class _Spread(msgspec.Struct, frozen=True):
    counts: list[int]
    sum: float


class _Report(msgspec.Struct, frozen=True):
    """A snapshot as another process sent it, checked."""

    counters: dict[str, dict[str, float]] = {}
    gauges: dict[str, dict[str, float]] = {}
    histograms: dict[str, dict[str, _Spread]] = {}


class _Families:
    """The collector prometheus_client asks for: our snapshots added up, then this process."""

    def __init__(self, reports: list[_Report]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        for instrument in INSTRUMENTS.values():
            yield _family(instrument, self._reports)
        for family in ProcessCollector(namespace=PREFIX.rstrip("_"), registry=None).collect():
            family.samples = [
                sample._replace(labels=SERVICE | sample.labels) for sample in family.samples
            ]
            yield family


def render(snapshots: Iterable[Snapshot]) -> bytes:
    """The text Prometheus reads: snapshots added up, malformed ones left out."""
    registry = CollectorRegistry(auto_describe=False)
    reports: list[_Report] = []
    for snapshot in snapshots:
        with suppress(msgspec.ValidationError):
            reports.append(msgspec.convert(snapshot, _Report))
    registry.register(_Families(reports))
    return generate_latest(registry)


def _family(instrument: Instrument, reports: list[_Report]) -> Metric:
    names = (*_SERVICE_LABELS, *instrument.labels)
    match instrument.kind:
        case "counter":
            family = CounterMetricFamily(PREFIX + instrument.name, instrument.help, labels=names)
            series = _numbers(instrument, [report.counters for report in reports])
        case "gauge":
            family = GaugeMetricFamily(PREFIX + instrument.name, instrument.help, labels=names)
            series = _numbers(instrument, [report.gauges for report in reports])
        case "histogram":
            return _histogram(instrument, names, reports)
    for values, number in series.items():
        family.add_metric((*_SERVICE_VALUES, *values), number)
    return family


def _numbers(
    instrument: Instrument, parts: list[dict[str, dict[str, float]]]
) -> dict[tuple[str, ...], float]:
    total: dict[tuple[str, ...], float] = {} if instrument.labels else {(): 0.0}
    for part in parts:
        for key, number in part.get(instrument.name, {}).items():
            values = _values(instrument, key)
            if values is not None:
                total[values] = total.get(values, 0.0) + number
    return total


def _histogram(
    instrument: Instrument, names: tuple[str, ...], reports: list[_Report]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + instrument.name, instrument.help, labels=names)
    size = len(instrument.buckets) + 1
    total: dict[tuple[str, ...], tuple[list[int], float]] = {}
    if not instrument.labels:
        total[()] = ([0] * size, 0.0)
    for report in reports:
        for key, spread in report.histograms.get(instrument.name, {}).items():
            values = _values(instrument, key)
            if values is None or len(spread.counts) != size:
                continue
            counts, seconds = total.get(values, ([0] * size, 0.0))
            both = [a + b for a, b in zip(counts, spread.counts, strict=True)]
            total[values] = (both, seconds + spread.sum)
    for values, (counts, seconds) in total.items():
        bounds = [*(f"{bound}" for bound in instrument.buckets), "+Inf"]
        cumulated = list(zip(bounds, map(float, accumulate(counts)), strict=True))
        family.add_metric((*_SERVICE_VALUES, *values), cumulated, seconds)
    return family


def _values(instrument: Instrument, key: str) -> tuple[str, ...] | None:
    try:
        values = msgspec.json.decode(key, type=tuple[str, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return values if len(values) == len(instrument.labels) else None
