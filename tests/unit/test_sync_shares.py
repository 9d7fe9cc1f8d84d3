"""One person's share of pushes and of the log; the clock moves by hand."""

import pytest

from state.store.own.records import KeptInLog
from supervisor.gateway.operators.api import devices_of
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.sync.shares import LogFull, PushShares, PushSize, ShareLimits
from supervisor.supervision.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class LogOf:
    """What the log holds, and how often it was measured."""

    def __init__(self, kept: KeptInLog) -> None:
        self.kept, self.measured = kept, 0

    async def measure(self, _user: str) -> KeptInLog:
        self.measured += 1
        return self.kept


EMPTY = KeptInLog(0, 0)


def size(rows: int = 1, bytes_: int = 100, records: int = 0, *, grows: bool = True) -> PushSize:
    return PushSize(rows, bytes_, records, grows)


async def test_a_minutes_rows_and_bytes_are_a_persons_own():
    clock = Clock()
    limits = ShareLimits(rows_a_minute=100, bytes_a_minute=10_000)
    shares = PushShares(limits, LogOf(EMPTY).measure, clock)
    await shares.take("u1", size(rows=60))
    await shares.take("u1", size(rows=40))
    with pytest.raises(TooOften) as refused:
        await shares.take("u1", size(rows=50))
    assert refused.value.wait_s == 30
    await shares.take("u2", size(rows=100))
    clock.now += 30
    await shares.take("u1", size(rows=50))
    clock.now += 60
    await shares.take("u1", size(bytes_=10_000))
    with pytest.raises(TooOften):
        await shares.take("u1", size(bytes_=1_000))


async def test_a_push_larger_than_a_minute_passes_once_and_is_paid_for():
    clock = Clock()
    shares = PushShares(ShareLimits(rows_a_minute=100), LogOf(EMPTY).measure, clock)
    await shares.take("u1", size(rows=250))
    clock.now += 149
    with pytest.raises(TooOften):
        await shares.take("u1", size(rows=100))
    clock.now += 61
    await shares.take("u1", size(rows=100))


@pytest.mark.parametrize(
    ("limits", "push", "what"),
    [
        (ShareLimits(records=10), size(records=3), "records"),
        (ShareLimits(bytes=1_000), size(bytes_=300), "bytes"),
    ],
)
async def test_a_full_log_takes_deletes_only(limits: ShareLimits, push: PushSize, what: str):
    clock, log = Clock(), LogOf(KeptInLog(8, 800))
    shares = PushShares(limits, log.measure, clock)
    with pytest.raises(LogFull) as refused:
        await shares.take("u1", push)
    assert refused.value.what == what
    await shares.take("u1", size(bytes_=300, grows=False))
    log.kept = KeptInLog(1, 100)  # somebody made room
    clock.now += 31
    await shares.take("u1", push)


async def test_what_is_pushed_counts_before_it_is_measured_again():
    clock, log = Clock(), LogOf(EMPTY)
    shares = PushShares(ShareLimits(records=10), log.measure, clock)
    for _ in range(10):
        await shares.take("u1", size(records=1))
    assert log.measured == 1
    with pytest.raises(LogFull):
        await shares.take("u1", size(records=1))
    await shares.take("u1", size(records=0))


async def test_nothing_is_bounded_or_measured_where_no_bound_is_set():
    log = LogOf(KeptInLog(10**9, 10**15))
    shares = PushShares(ShareLimits(), log.measure)
    for _ in range(3):
        await shares.take("u1", size(rows=10**6, bytes_=10**9, records=10**6))
    assert log.measured == 0


def test_operators_see_what_the_devices_of_all_doors_do():
    metrics = Metrics()
    assert set(devices_of(metrics).values()) == {0}
    metrics.inc("sync_changes_pushed_total", n=2)
    metrics.inc("sync_conflicts_total", n=1)
    for door in ("people", "operators"):
        metrics.set("sync_connections", 3, (door,))
    told = devices_of(metrics)
    assert (told["changes_pushed"], told["conflicts"], told["connected"]) == (2, 1, 6)
