"""What the fields of the cadence builder say."""

import pytest

from state.log.cadence import Cron, Daily, Interval, Manual, Weekly, parse_cadence
from supervisor.gateway.pages.owner.make.mission import every_of
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
