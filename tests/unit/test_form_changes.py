"""What a form changes of a record that others change meanwhile."""

from typing import Any

import pytest

from state.log.cadence import Daily, Interval
from supervisor.gateway.pages.owner.make.changes import changes_of, marks_of, plain

SHOWN: dict[str, Any] = {"title": "a", "cadence": Daily(7, 0), "inputs": [{"id": "n1"}]}


@pytest.mark.parametrize(
    ("wished", "now", "fields", "contested"),
    [
        ({}, {}, {}, []),
        (SHOWN, {}, {}, []),
        ({"title": "b"}, {}, {"title": "b"}, []),
        ({"title": "b"}, {"cadence": Interval(60)}, {"title": "b"}, []),
        ({"title": "b"}, {"title": "c"}, {"title": "b"}, ["title"]),
        ({"title": "c"}, {"title": "c"}, {}, []),
        ({"title": "a"}, {"title": "c"}, {}, []),
        ({"cadence": Daily(7, 5)}, {}, {"cadence": Daily(7, 5)}, []),
        ({"cadence": Interval(7)}, {}, {"cadence": Interval(7)}, []),
        ({"inputs": []}, {"inputs": [{"id": "n2"}]}, {"inputs": []}, ["inputs"]),
    ],
)
def test_only_changes_are_written_and_none_over_another_unseen(
    wished: dict[str, Any], now: dict[str, Any], fields: dict[str, Any], contested: list[str]
):
    changes = changes_of(wished, SHOWN | now, marks_of(SHOWN))
    assert (changes.fields, changes.contested) == (fields, contested)


def test_a_form_that_brings_no_mark_is_contested():
    assert changes_of({"title": "b"}, SHOWN, {}).contested == ["title"]


def test_cadences_that_look_alike_have_marks_of_their_own():
    assert marks_of({"x": Daily(7, 5)}) != marks_of({"x": {"at_hour": 7, "at_minute": 5}})


def test_a_text_is_compared_without_a_browsers_line_ends():
    assert plain(" a\r\nb\n") == "a\nb"
