from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.log.stamps import (
    MAX_INSTANT,
    MIN_INSTANT,
    datetime_of,
    format_instant,
    instant_of,
    parse_instant,
    read_stamp,
    stamp_text,
    text_of,
    whole_ms,
    winning_stamp,
)

TEN = instant_of(datetime(2026, 4, 15, 10, tzinfo=UTC))
instants = st.integers(MIN_INSTANT, MAX_INSTANT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-04-15T10:00:00.000Z", TEN),
        ("2026-04-15T10:00:00Z", TEN),
        ("2026-04-15 10:00:00.5Z", TEN + 500_000_000),
        ("2026-04-15T10:00:00.123456789Z", TEN + 123_456_789),
        ("2026-04-15T12:00:00+02:00", TEN),
        ("2026-04-15T05:30-04:30", TEN),
        ("2026-04-15T10:00:00", TEN),
        ("2026-04-15", TEN - 10 * 3600 * 10**9),
    ],
)
def test_every_client_form_of_an_instant_is_read(text: str, expected: int):
    assert parse_instant(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zzz",
        "2026-W16-3T10:00:00.000Z",
        "2026-04-15T24:00:00.000Z",
        "2026-02-30T10:00:00.000Z",
        "2026-04-15T10:00:00.0000000001Z",
        "2026-04-15T10:00:00,000Z",
        "2026-04-15x10:00:00.000Z",
        "2026-04-15T10:00:00.000Z\n",
        "٢٠٢٦-04-15T10:00:00.000Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "2026-04-15T10:00:00+25:00",
        "2" * 1_000_000,
        "\ud800",
    ],
)
def test_anything_else_is_no_instant(text: str):
    assert parse_instant(text) is None


@given(instants)
def test_formatting_loses_nothing(instant: int):
    assert parse_instant(format_instant(instant)) == instant


@given(st.integers())
def test_formatting_is_total(instant: int):
    assert parse_instant(format_instant(instant)) == min(max(instant, MIN_INSTANT), MAX_INSTANT)


def test_whole_milliseconds_have_three_digits():
    assert format_instant(TEN + 7_000_000) == "2026-04-15T10:00:00.007Z"
    assert format_instant(TEN + 7_000) == "2026-04-15T10:00:00.000007Z"
    assert format_instant(TEN + 7) == "2026-04-15T10:00:00.000000007Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_we_write_has_three_digits_and_is_read_back_whole(moment: datetime):
    text = text_of(moment)
    assert re.fullmatch(r".{19}\.[0-9]{3}Z", text)
    assert parse_instant(text) == instant_of(whole_ms(moment))
    assert timedelta(0) <= moment - whole_ms(moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize("raw", [None, "", 5, [], ["x"], {}, {"at": ""}, {"at": 5}, {"at": None}])
def test_a_slot_without_text_is_no_stamp(raw: object):
    assert stamp_text(raw) is None
    assert read_stamp(raw) is None


def test_object_and_text_stamps_are_the_same_stamp():
    text = "2026-04-15T10:00:00Z"
    assert read_stamp({"at": text, "origin": "user"}) == read_stamp(text)
    assert read_stamp(text) == (TEN, "2026-04-15T10:00:00.000Z")


@given(instants, st.none() | instants)
def test_our_stamp_is_never_beaten_by_the_one_it_replaces(now: int, held: int | None):
    current = None if held is None else format_instant(held)
    won = parse_instant(winning_stamp(now, current))
    assert won is not None
    assert won >= min(now, MAX_INSTANT // 10**6 * 10**6)
    assert held is None or won >= held


def test_our_stamp_passes_a_clock_that_runs_ahead_by_a_millisecond():
    assert winning_stamp(TEN, "2026-04-15T11:00:00.000Z") == "2026-04-15T11:00:00.001Z"
    assert winning_stamp(TEN, "2026-04-15T11:00:00.0001Z") == "2026-04-15T11:00:00.002Z"
    assert winning_stamp(TEN + 1, None) == "2026-04-15T10:00:00.001Z"


def test_nothing_becomes_due_early_by_rounding():
    assert datetime_of(TEN + 1) == datetime(2026, 4, 15, 10, 0, 0, 1, tzinfo=UTC)
    assert datetime_of(MAX_INSTANT).year == 9999
