"""The ring of an hour: what is counted to which minute, and what a page says of it."""

import itertools
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from supervisor.gateway.pages.last_hour import hour_shown
from supervisor.gateway.pages.reader import Reader
from supervisor.health.last_hour import MINUTES, LastHour

NOON = datetime(2026, 11, 27, 12, 3, tzinfo=UTC)
START = int(NOON.timestamp())


def totals(ran: float, failed: float = 0, woken: float = 0, tokens: float = 0) -> dict[str, float]:
    return {"ran": ran, "failed": failed, "woken": woken, "tokens": tokens}


def reader() -> Reader:
    return Reader(language="en", theme="auto", zone=ZoneInfo("UTC"), now=NOON, path="/fleet")


def test_what_was_counted_before_the_first_look_was_not_in_this_hour():
    hour = LastHour()
    hour.note(START, totals(500), 0.4)
    hour.note(START + 59, totals(503, failed=1, woken=2, tokens=900), 7.0)
    assert hour.told().minutes == (), "the minute is not over"
    hour.note(START + 60, totals(504), 0.1)
    (minute,) = hour.told().minutes
    found = (minute.at, minute.ran, minute.failed, minute.woken, minute.tokens, minute.lag_s)
    assert found == (START, 3, 1, 2, 900, 7.0)
    assert hour.told().since == NOON


def test_a_supervisor_that_starts_again_counts_from_nothing():
    hour = LastHour()
    for second, told in ((0, totals(500)), (1, None), (2, totals(4)), (3, totals(5)), (60, None)):
        hour.note(START + second, told, None)
    (minute,) = hour.told().minutes
    assert (minute.ran, minute.lag_s) == (5, None)


def test_no_more_than_an_hour_is_kept_and_minutes_that_nobody_saw_are_there():
    hour = LastHour()
    hour.note(START, totals(0), None)
    hour.note(START + 180, totals(9), None)
    assert [one.ran for one in hour.told().minutes] == [0, 0, 0]
    for second in range(240, 3 * 3600, 30):
        hour.note(START + second, totals(second), None)
    minutes = hour.told().minutes
    assert len(minutes) == MINUTES
    assert {later.at - one.at for one, later in itertools.pairwise(minutes)} == {60}
    hour.note(START + 900_000, totals(0), None)
    assert len(hour.told().minutes) == MINUTES


@pytest.mark.parametrize("minutes", [1, MINUTES])
def test_a_page_draws_each_measure_and_says_it_as_a_table(minutes: int):
    hour = LastHour()
    for minute in range(minutes + 1):
        hour.note(START + 60 * minute, totals(1200 * minute, tokens=5 * minute), 0.3)
    shown = hour_shown(hour.told(), reader())
    assert [one.latest for one in shown.facts][1:] == [
        "0",
        "0",
        "5" if minutes > 1 else "0",
        "< 5 s",
    ]
    bars = [re.findall(r"M[\d.]+ 18v-[\d.]+h([\d.]+)", one.spark.path) for one in shown.facts]
    assert all(len(widths) == minutes for widths in bars)
    assert all(float(width) > 0 for widths in bars for width in widths)
    assert len(shown.rows) == minutes
    assert shown.rows[0].at.minute == (3 + minutes - 1) % 60, "the newest first"


def test_a_page_says_since_when_nobody_has_counted_yet():
    hour = LastHour()
    assert hour_shown(hour.told(), reader()).since is None
    hour.note(START, totals(1), None)
    shown = hour_shown(hour.told(), reader())
    assert (shown.since, shown.facts, shown.rows) == (NOON, [], [])
