from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.log.cadence import Cadence, Daily, Interval, Manual, Weekly, next_run, parse_cadence
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
