from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.log.cadence import Cadence, Daily, Interval, Manual, Weekly, next_run, parse_cadence
from state.zones import is_time_zone, zone_of
from tests.vectors import reference

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("cadence", "start", "expected"),
    [
        (Interval(60), "2026-04-14T10:00:00Z", "2026-04-14T11:00:00Z"),
        (Daily(18, 30), "2026-04-14T10:00:00Z", "2026-04-14T16:30:00Z"),
        (Daily(6, 0), "2026-04-14T10:00:00Z", "2026-04-15T04:00:00Z"),
        (Daily(12, 0), "2026-04-14T10:00:00Z", "2026-04-15T10:00:00Z"),
        (Daily(2, 30), "2026-03-28T23:30:00Z", "2026-03-29T01:30:00Z"),
        (Daily(2, 30), "2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z"),
        (Daily(2, 30), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        (Daily(9, 0), "2026-10-24T08:00:00Z", "2026-10-25T08:00:00Z"),
        (Daily(2, 30), "2026-03-29T03:00:00Z", "2026-03-30T00:30:00Z"),
        (Weekly(5, 9), "2026-04-14T10:00:00Z", "2026-04-17T07:00:00Z"),
        (Weekly(2, 9), "2026-04-14T10:00:00Z", "2026-04-21T07:00:00Z"),
        (Weekly(2, 18), "2026-04-14T10:00:00Z", "2026-04-14T16:00:00Z"),
        (Weekly(0, 0), "2026-04-18T22:30:00Z", "2026-04-25T22:00:00Z"),
        (Weekly(0, 2), "2026-03-27T12:00:00Z", "2026-03-29T01:00:00Z"),
        (Weekly(3, 2), "2026-03-29T00:30:00Z", "2026-04-01T00:00:00Z"),
    ],
)
def test_the_next_run_is_a_wall_clock_time_of_the_owner(
    cadence: Cadence, start: str, expected: str
):
    assert next_run(cadence, at(start), BERLIN) == at(expected)


def test_manual_missions_are_never_scheduled():
    assert next_run(Manual(), at("2026-04-14T10:00:00Z"), BERLIN) is None


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, "cadence"),
        ([], "cadence"),
        ({}, "cadence.kind"),
        ({"kind": "yearly"}, "cadence.kind"),
        ({"kind": "cron"}, "cadence.expression"),
        ({"kind": "cron", "expression": 5}, "cadence.expression"),
        ({"kind": "cron", "expression": " "}, "cadence.expression"),
        ({"kind": "cron", "expression": "0 9 * *"}, "cadence.expression"),
        ({"kind": "cron", "expression": "0 0 9 * * *"}, "cadence.expression"),
        ({"kind": "cron", "expression": "@daily"}, "cadence.expression"),
        ({"kind": "cron", "expression": "60 9 * * *"}, "cadence.expression"),
        ({"kind": "cron", "expression": "0 9 * * 8"}, "cadence.expression"),
        ({"kind": "cron", "expression": "0 9 30 2 *"}, "cadence.expression"),
        ({"kind": "cron", "expression": "0,".ljust(201, "0") + " 9 * * *"}, "cadence.expression"),
        ({"kind": "interval"}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": 0}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": -30}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": 0.5}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": float("nan")}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": 10**400}, "cadence.everyMinutes"),
        ({"kind": "interval", "everyMinutes": True}, "cadence.everyMinutes"),
        ({"kind": "daily", "atHour": 24, "atMinute": 0}, "cadence.atHour"),
        ({"kind": "daily", "atHour": -1, "atMinute": 0}, "cadence.atHour"),
        ({"kind": "daily", "atHour": 9, "atMinute": 75}, "cadence.atMinute"),
        ({"kind": "daily", "atHour": 9.5, "atMinute": 0}, "cadence.atHour"),
        ({"kind": "daily", "atHour": "9", "atMinute": 0}, "cadence.atHour"),
        ({"kind": "weekly", "dayOfWeek": 9, "atHour": 9}, "cadence.dayOfWeek"),
        ({"kind": "weekly", "dayOfWeek": 2}, "cadence.atHour"),
    ],
)
def test_a_cadence_out_of_range_is_refused_by_field(raw: Any, field: str):
    problem = parse_cadence(raw)
    assert isinstance(problem, str)
    assert problem.split(": ")[0] == field


def test_whole_floats_are_hours():
    assert parse_cadence({"kind": "daily", "atHour": 9.0, "atMinute": 0}) == Daily(9, 0)


def test_an_interval_beyond_the_calendar_is_not_scheduled():
    assert next_run(Interval(1e300), at("2026-04-14T10:00:00Z"), BERLIN) is None


@pytest.mark.parametrize("minutes", [1, 1.0000001, 60, 100 / 3])
def test_an_interval_ends_on_a_whole_millisecond_as_its_text_does(minutes: float):
    start = at("2026-04-14T10:00:00.123999Z")
    found = next_run(Interval(minutes), start, BERLIN)
    assert found is not None
    assert found.microsecond % 1000 == 0
    late = start + timedelta(minutes=minutes) - found
    assert timedelta(0) <= late < timedelta(milliseconds=1)


def test_a_skipped_day_does_not_stop_a_mission():
    apia = ZoneInfo("Pacific/Apia")  # had no 30 December 2011
    start = at("2011-12-30T09:30:00Z")
    found = next_run(Daily(0, 0), start, apia)
    assert found is not None
    assert start < found < start + timedelta(days=2)


GAPS = [
    ("America/Nuuk", "2024-03-30"),  # 23:00 on Saturday became 00:00 on Sunday
    ("Pacific/Apia", "2011-12-30"),  # a day that never was
    ("Pacific/Kwajalein", "1993-08-21"),  # likewise
    ("Asia/Beirut", "2024-03-31"),  # 00:00 became 01:00
    ("America/Santiago", "2024-09-08"),
    ("America/Havana", "2024-03-10"),
    ("Africa/Cairo", "2024-04-26"),
    ("America/Havana", "2024-11-03"),  # 00:00 to 00:59 twice
    ("America/Santiago", "2024-04-07"),  # 23:00 to 23:59 twice
    ("Australia/Lord_Howe", "2024-10-06"),  # half an hour
    ("Australia/Lord_Howe", "2024-04-07"),
    ("Antarctica/Troll", "2024-03-31"),  # two hours
]


@pytest.mark.parametrize(("name", "day"), GAPS)
def test_no_day_loses_its_time_where_clocks_jump(name: str, day: str):
    zone, middle = ZoneInfo(name), datetime.fromisoformat(day)
    days = [middle + timedelta(days=ahead) for ahead in range(-9, 17)]
    for minute in range(0, 24 * 60, 15):
        hour, rest = divmod(minute, 60)
        local = [each.replace(hour=hour, minute=rest, tzinfo=zone) for each in days]
        daily = sorted({each.astimezone(UTC) for each in local})
        assert _chain(Daily(hour, rest), daily, zone) == daily
        if rest == 0:
            sundays = sorted({x.astimezone(UTC) for x in local if x.weekday() == middle.weekday()})
            cadence = Weekly(middle.isoweekday() % 7, hour)
            assert _chain(cadence, sundays, zone) == sundays


def _chain(cadence: Cadence, expected: list[datetime], zone: ZoneInfo) -> list[datetime]:
    """What follows when each time is worked out a moment before it, then from the last one."""
    found: list[datetime] = []
    for before, each in zip([expected[0], *expected], expected, strict=False):
        start = before if before < each else each - timedelta(minutes=1)
        at_once = next_run(cadence, start, zone)
        late = next_run(cadence, each - timedelta(minutes=1), zone)
        assert at_once is not None
        assert at_once == late
        found.append(at_once)
    return found


@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "right/Europe/Berlin", "posix/Europe/Berlin", "Factory", "",
     "europe/berlin", "EUROPE/BERLIN", "../UTC", "Europe/../UTC", "/etc/localtime", "Europe",
     "Europe/Berlin ", "Mars/Olympus", "a\0b", "tzdata.zi", "zone.tab", "\ud800", "CEST"],
)  # fmt: skip
def test_what_only_looks_like_a_zone_is_none(name: str):
    assert not is_time_zone(name)
    assert zone_of(name, "Asia/Kolkata").key == "Asia/Kolkata"


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "EST5EDT", "Etc/GMT+5"]
)
def test_zones_are_known_as_the_list_spells_them(name: str):
    assert is_time_zone(name)
    assert zone_of(name, "UTC").key == name


def test_every_zone_that_is_listed_can_be_read():
    assert len([name for name in available_timezones() if is_time_zone(name)]) > 500


@given(moments, st.sampled_from(ZONES), st.integers(0, 23), st.integers(0, 59))
def test_daily_agrees_with_the_slow_reference(start: datetime, zone: str, hour: int, minute: int):
    given_ = {
        "tz": zone,
        "from": start.isoformat(),
        "cadence": {"kind": "daily", "atHour": hour, "atMinute": minute},
    }
    found = next_run(Daily(hour, minute), start, ZoneInfo(zone))
    expected = reference.next_run(given_, shifted=False)
    assert expected is not None
    assert found == at(expected)


@given(moments, st.sampled_from(ZONES), st.integers(0, 6), st.integers(0, 23))
def test_a_weekly_run_is_ahead_within_a_week_and_on_its_day(
    start: datetime, zone: str, day: int, hour: int
):
    found = next_run(Weekly(day, hour), start, ZoneInfo(zone))
    assert found is not None
    assert start < found <= start + timedelta(days=7, hours=2)
    assert found.astimezone(ZoneInfo(zone)).isoweekday() % 7 == day
