"""What the fields of the cadence builder say."""

import pytest

from state.log.cadence import Cadence, Cron, Daily, Interval, Manual, Weekly, parse_cadence
from supervisor.gateway.pages.owner.make.cadence_form import KEPT, cadence_in, every_of, fields_of
from supervisor.gateway.people.made.cadence_words import cadence_record

ALL = {"time": "07:30", "hours": "4", "date": "31", "cron": "5 4 * * 0", "day.mon": "on"}


@pytest.mark.parametrize(
    ("fields", "cadence"),
    [
        ({"how": "manual"}, Manual()),
        ({"how": "daily"}, Daily(7, 30)),
        ({"how": "weekdays"}, Cron("30 7 * * 1-5")),
        ({"how": "weekly", "time": "07:00"}, Weekly(1, 7)),
        ({"how": "weekly", "day.sun": "on"}, Cron("30 7 * * 0,1")),
        ({"how": "hours"}, Interval(240)),
        ({"how": "monthly"}, Cron("30 7 31 * *")),
        ({"how": "cron"}, Cron("5 4 * * 0")),
    ],
)
def test_each_way_of_the_builder_is_the_cadence_it_says(fields: dict[str, str], cadence: object):
    record = cadence_record(every_of(ALL | fields))
    assert not isinstance(record, str)
    assert parse_cadence(record) == cadence


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"how": "weekly", "time": "07:30"},
        {"how": "hours", "hours": "0"},
        {"how": "hours", "hours": "-1"},
        {"how": "monthly", "time": "7", "date": "1"},
        {"how": "monthly", "time": "07:00", "date": "32"},
        {"how": "monthly", "time": "99:99", "date": "1"},
        {"how": "daily", "time": "25:00"},
        {"how": "cron", "cron": "x" * 5000},
    ],
)
def test_fields_that_say_no_time_are_no_cadence(fields: dict[str, str]):
    record = cadence_record(every_of(fields))
    assert isinstance(record, str) or isinstance(parse_cadence(record), str)


@pytest.mark.parametrize(
    ("cadence", "how"),
    [
        (Manual(), "manual"),
        (Daily(7, 5), "daily"),
        (Weekly(0, 9), "weekly"),
        (Cron("30 7 * * 1-5"), "weekdays"),
        (Cron("15 7 * * 1,4"), "weekly"),
        (Cron("0 7 * * 4,1"), "cron"),  # said otherwise it would be another expression
        (Cron("0 7 31 * *"), "monthly"),
        (Cron("*/5 * 1 * *"), "cron"),
        (Interval(240), "hours"),
        (Interval(45), "hours"),
        (Interval(2880), "hours"),
        (Interval(90.5), KEPT),
    ],
)
def test_a_stored_cadence_fills_the_builder_and_comes_back_as_it_was(cadence: Cadence, how: str):
    fields = fields_of(cadence)
    assert fields["how"] == how
    assert how == KEPT or cadence_in(fields) == cadence


def test_days_of_a_first_form_are_not_added_to_those_of_a_stored_one():
    assert [name for name in fields_of(Cron("15 7 * * 2,4")) if name.startswith("day.")] == [
        "day.tue",
        "day.thu",
    ]
    assert fields_of(None)["how"] == KEPT
