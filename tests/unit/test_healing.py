"""Two whole-array writes that met are put together by id, once."""

from typing import Any

import pytest

from state.log.healing import Version, needs_healing, repair

Entry = dict[str, Any]


def entry(id_: str, day: int, **more: Any) -> Entry:
    return {"id": id_, "startedAt": f"2026-04-{day:02}T00:00:00.000Z", **more}


def server(id_: str, day: int, **more: Any) -> Entry:
    return entry(id_, day, source="server", **more)


A, B, S, T = entry("a", 1), entry("b", 2), server("s", 3), server("t", 4)


def test_a_dropped_server_iteration_needs_healing():
    assert needs_healing([A, S], [[A]], [A])


def test_an_edit_that_lost_to_a_server_iteration_needs_healing():
    assert needs_healing([A, S], [[{**A, "userFeedback": "x"}]], [A, S])
    assert needs_healing([A, S], [[A, B]], [A, S])


@pytest.mark.parametrize(
    ("before", "writes", "after"),
    [
        ([A], [[A, S]], [A, S]),
        ([A, S], [[S]], [S]),
        ([A, S], [[{**A, "userFeedback": "x"}, S]], [{**A, "userFeedback": "x"}, S]),
        ([S, A], [], [A, S]),
        ([A], [[B]], [B]),
        (None, ["text", 7, [None, "x"]], None),
        ([A, S], [[A]], [S, A]),
    ],
)
def test_ordinary_writes_need_none(before: object, writes: list[object], after: object):
    assert not needs_healing(before, writes, after)


def test_what_was_dropped_comes_back_as_last_logged():
    executed = {**S, "overallStatus": "approved"}
    versions = [Version([A, S], is_ours=True), Version([A, executed]), Version([A])]
    found = repair([A], versions, {"s"})
    assert found is not None
    assert (found.iterations, found.ids) == ([A, executed], ["s"])


def test_what_was_healed_before_stays_away():
    versions = [Version([A, S], is_ours=True), Version([A])]
    assert repair([A], versions, set()) is None


def test_one_healing_does_not_bring_back_what_is_gone_for_good():
    versions = [Version([A, S], is_ours=True), Version([]), Version([T], is_ours=True), Version([])]
    found = repair([], versions, {"t"})
    assert found is not None
    assert found.iterations == [T]


def test_an_edit_that_lost_is_kept_and_counted_as_the_winners_healing():
    edited = {**A, "userFeedback": "x"}
    versions = [Version([A, S], is_ours=True), Version([edited, B])]
    found = repair([A, S], versions, {"s"})
    assert found is not None
    assert (found.iterations, found.ids) == ([edited, B, S], ["s"])
    assert repair([A, S], versions, set()) is None


def test_iterations_cut_off_for_their_age_stay_cut_off():
    versions = [Version([S], is_ours=True), Version([T], is_ours=True), Version([T])]
    assert repair([T], versions, {"s", "t"}) is None


def test_arrays_that_are_none_are_survived():
    found = repair("nonsense", [Version([S], is_ours=True), Version(7)], {"s"})
    assert found is not None
    assert found.iterations == [S]
