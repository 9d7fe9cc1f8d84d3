"""Cron against another library and a walk over every minute: 24 zones, clocks both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from state.log.cadence import Cron, next_run, next_runs, parse_cadence
from supervisor.gateway.people.made.cadence_words import cadence_record, cadence_words

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
YEARS = range(2026, 2027)
CHANGING = (
    "Europe/Berlin", "Europe/London", "Europe/Lisbon", "Europe/Athens", "Europe/Moscow",
    "Africa/Casablanca", "Africa/Cairo", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Santiago",
    "America/Asuncion", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kolkata", "Asia/Kathmandu",
    "Asia/Tokyo", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Chatham",
    "Antarctica/Troll",
)  # fmt: skip
ONCE = {
    "Pacific/Apia": datetime(2011, 12, 30, 10, tzinfo=UTC),  # a whole day was left out
    "America/Caracas": datetime(2016, 5, 1, 7, tzinfo=UTC),  # half an hour, for good
    "Asia/Pyongyang": datetime(2015, 8, 14, 15, tzinfo=UTC),  # back by half an hour
}
EXPRESSIONS = (
    "30 2 * * *", "0 7 * * 1", "*/20 * * * *", "15,45 0-3 * * *", "0 0 1 * *", "0 3 29 3 0",
    "59 23 * * 6", "30 1,2 * * sun",
)  # fmt: skip


@cache
def changes(name: str) -> tuple[datetime, ...]:
    """The UTC hours in which a zone's clocks change, of these years."""
    zone = ZoneInfo(name)
    hour = datetime(YEARS.start, 1, 1, tzinfo=UTC)
    found: list[datetime] = []
    while hour.year in YEARS:
        if hour.astimezone(zone).utcoffset() != (hour + HOUR).astimezone(zone).utcoffset():
            found.append(hour)
        hour += HOUR
    return tuple(found)


@cache
def minutes(zone: ZoneInfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Each minute of a window with each time on the wall clock that falls due then."""
    due: list[tuple[datetime, datetime]] = []
    now, before = start, (start - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
    while now < end:
        shown = now.astimezone(zone)
        wall = shown.replace(tzinfo=None, fold=0)
        if shown.fold == 0:
            due.append((now, wall))
        skipped = int((wall - before) / MINUTE)
        # As long after the gap as it was to be after the gap's beginning.
        due += [(now + (n - 1) * MINUTE, before + n * MINUTE) for n in range(1, skipped)]
        now, before = now + MINUTE, wall
    return due


def walked(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """All due times of a window, by what the clock on the wall shows at every minute of it."""
    first = start.astimezone(zone).replace(tzinfo=None) - timedelta(days=3)
    last = end.astimezone(zone).replace(tzinfo=None) + timedelta(days=3)
    listed = croniter(expression, first).all_next(datetime)
    matches = set(takewhile(lambda wall: wall < last, listed))
    due = {now for now, wall in minutes(zone, start, end) if wall in matches}
    return sorted(moment for moment in due if start < moment < end)


def assert_agrees(expression: str, zone: ZoneInfo, around: datetime) -> None:
    start, end = around - timedelta(hours=27), around + timedelta(hours=30)
    expected = walked(expression, zone, start, end)
    found = next_runs(Cron(expression), start, zone, len(expected) + 1)
    assert [moment for moment in found if moment < end] == expected


@pytest.mark.parametrize("name", CHANGING)
def test_cron_agrees_with_a_walk_over_every_minute(name: str):
    zone = ZoneInfo(name)
    for around in changes(name) or (datetime(2026, 3, 29, 1, tzinfo=UTC),):
        for expression in EXPRESSIONS:
            assert_agrees(expression, zone, around)


@pytest.mark.parametrize("name", ONCE)
def test_cron_agrees_with_the_walk_over_odd_changes(name: str):
    for expression in EXPRESSIONS:
        assert_agrees(expression, ZoneInfo(name), ONCE[name])


def test_the_table_has_24_zones_and_clocks_that_go_both_ways():
    assert len(set(CHANGING)) == 24
    moved = [
        (at + HOUR).astimezone(ZoneInfo(name)).replace(tzinfo=None)
        - at.astimezone(ZoneInfo(name)).replace(tzinfo=None)
        for name in CHANGING
        for at in changes(name)
    ]
    assert min(moved) < HOUR < max(moved)


@settings(max_examples=30)
@given(
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(0, 59),
    st.integers(0, 4),
    st.integers(0, 59),
)
def test_from_any_moment_the_next_is_the_first_after_it(
    start: datetime, minute: int, hour: int, other: int
):
    zone = ZoneInfo("Europe/Berlin")
    expression = f"{minute},{other} {hour},3 * * *"
    found = next_run(Cron(expression), start, zone)
    end = start.replace(second=0, microsecond=0) + timedelta(hours=30)
    later = walked(expression, zone, start.replace(second=0, microsecond=0) - HOUR, end)
    assert found == next(moment for moment in later if moment > start)


def test_what_is_far_away_or_never_is_answered_at_once():
    leap = datetime(2096, 3, 1, tzinfo=UTC)
    found = next_run(Cron("0 0 29 2 *"), leap, ZoneInfo("UTC"))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)
    assert (
        next_run(Cron("0 0 29 2 1#5"), datetime(9999, 12, 1, tzinfo=UTC), ZoneInfo("UTC")) is None
    )
    assert isinstance(parse_cadence({"kind": "cron", "expression": "0 0 31 4,6,9,11 *"}), str)


@given(st.text(st.sampled_from("0123456789*/,-#LW SUNMOnjan\t²"), max_size=40))
def test_any_expression_is_read_or_named_and_never_raises(text: str):
    cadence = parse_cadence({"kind": "cron", "expression": text})
    if isinstance(cadence, str):
        assert cadence.startswith("cadence.expression: ")
    else:
        next_run(cadence, datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("words", "record"),
    [
        ("manual", {"kind": "manual"}),
        ("30 minutes", {"kind": "interval", "everyMinutes": 30}),
        ("every 2 hours", {"kind": "interval", "everyMinutes": 120}),
        ("daily 07:00", {"kind": "daily", "atHour": 7, "atMinute": 0}),
        ("Mon 07:00", {"kind": "weekly", "dayOfWeek": 1, "atHour": 7}),
        ("sundays at 7:00", {"kind": "weekly", "dayOfWeek": 0, "atHour": 7}),
        ("mon 07:30", {"kind": "cron", "expression": "30 7 * * 1"}),
        ("wed,mon 07:15", {"kind": "cron", "expression": "15 7 * * 1,3"}),
        ("weekdays 08:00", {"kind": "cron", "expression": "0 8 * * 1-5"}),
        ("0 7 * * 1", {"kind": "cron", "expression": "0 7 * * 1"}),
    ],
)
def test_words_are_a_cadence_and_are_read_back(words: str, record: dict[str, object]):
    assert cadence_record(words) == record
    cadence = parse_cadence(record)
    assert not isinstance(cadence, str)
    assert cadence_record(cadence_words(cadence)) == record


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "must be manual"),
        ("now and then", "must be manual"),
        ("t 07:00", "must be manual"),
        ("mon,foo 07:00", "must be manual"),
        ("daily 25:00", "atHour"),
        ("0 minutes", "everyMinutes"),
        ("0 25 * * *", "the hour field is wrong"),
        ("0 7 30 2 *", "matches no day"),
        ("daily 07:00" * 50, "must be manual"),
    ],
)
def test_other_words_are_refused_with_what_is_known(words: str, says: str):
    problem = cadence_record(words)
    assert isinstance(problem, str)
    assert says in problem
