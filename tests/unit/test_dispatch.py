"""One look at what is due is fair and keeps every cap (P9)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from state.runs.gate import PLACE_PATIENCE
from state.store.supervisor.schedule import DueMission
from supervisor.supervision.dispatch import AHEAD, ORDER_PATIENCE, Caps, Pass, dispatch, next_slot

NOW = datetime(2026, 4, 27, 5, 0, tzinfo=UTC)
MANA = "legacy:ai-default"


def due(user: str = "u1", mission: str = "m1", **more: Any) -> DueMission:
    known: dict[str, Any] = {
        "user_id": user,
        "mission_id": mission,
        "agent_id": MANA,
        "version": 1,
        "next_run_at": NOW,
        "wake_at": NOW,
        "state": "active",
        "hidden": False,
        "complete": True,
        "readable": True,
        "heal": False,
        "decision": None,
        "space_id": None,
        "agent_known": True,
        "agent_state": "active",
        "max_concurrent": 1,
        "max_tokens_per_day": None,
        "agent_version": 1,
        "run_state": None,
        "lease_until": None,
        "not_before": None,
        "run_due_at": None,
        "requested_at": None,
        "slot_state": None,
        "browser_since": None,
        "used": 0,
        "back_at": None,
        "full_scope": None,
        "full_unit": None,
        "full_back_at": None,
        "running": 0,
        "slots_from": None,
        "now": NOW,
    }
    return DueMission(**{**known, **more})


def ordered(result: Pass) -> list[tuple[str, str]]:
    return [(pair[0], o.mission_id) for pair, orders in result.orders.items() for o in orders]


def look(missions: Sequence[DueMission], **caps: Any) -> Pass:
    return dispatch(missions, {}, Caps(**caps))


def test_without_room_nothing_is_ordered_and_owners_are_told_why():
    result = look([due("u1"), due("u2", agent_known=True, agent_state="paused")], has_room=False)
    assert result.orders == {}
    told = {one.user_id: one.decision for one in result.decided}
    assert told == {"u1": "deferred-disk-full", "u2": "skipped-paused"}
    assert len(result.looks) == 2


def test_agents_of_one_id_belong_to_their_users():
    result = look([due("u1"), due("u2")])
    assert set(result.orders) == {("u1", MANA), ("u2", MANA)}


def test_an_agent_gets_some_orders_ahead_of_its_places_and_is_busy_for_the_rest():
    missions = [due(mission=f"m{n:02}", max_concurrent=2) for n in range(AHEAD + 4)]
    result = look(missions)
    assert ordered(result) == [("u1", f"m{n:02}") for n in range(AHEAD + 2)]
    assert result.places == {("u1", MANA): 2}
    assert [d.decision for d in result.decided] == ["skipped-concurrency"] * 2


def test_an_agent_without_a_record_has_one_place():
    missions = [due(mission=f"m{n}", agent_known=False, max_concurrent=9) for n in range(3)]
    assert look(missions).places == {("u1", MANA): 1}


def test_an_order_in_flight_is_followed_by_one_that_waits_for_its_end():
    result = dispatch([due(mission="m2")], {("u1", MANA): {"m1"}}, Caps())
    assert (ordered(result), result.decided) == ([("u1", "m2")], [])


@pytest.mark.parametrize(
    "more", [{"max_tokens_per_day": 0}, {"full_scope": "user", "full_unit": "tokens"}]
)
def test_what_may_not_run_is_not_ordered_to_wait(more: dict[str, Any]):
    result = dispatch([due(mission="m2", **more)], {("u1", MANA): {"m1"}}, Caps())
    assert ordered(result) == []
    assert [d.decision for d in result.decided] == ["skipped-concurrency"]


def test_without_room_nothing_is_ordered_to_wait():
    in_flight = {("u1", MANA): {"m1"}}
    assert ordered(dispatch([due(mission="m2")], in_flight, Caps(has_room=False))) == []


def test_nothing_waits_for_a_run_that_another_process_has():
    result = look([due(mission="m2", running=1)])
    assert ordered(result) == []
    assert [d.decision for d in result.decided] == ["skipped-concurrency"]


def test_orders_that_wait_take_no_place_of_their_users_nor_of_others():
    in_flight = {("u1", MANA): {f"w{n}" for n in range(5)}}
    missions = [due("u1", agent_id="other"), due("u2"), due("u3")]
    caps = Caps(runs=3, runs_per_user=2)
    result = dispatch(missions, in_flight, caps, {("u1", MANA): 1})
    assert ordered(result) == [("u1", "m1"), ("u2", "m1")]
    assert result.left == 1
    assert dispatch(missions, in_flight, caps).left == 3  # of an agent whose places nobody knows


def test_a_mission_under_way_is_not_ordered_twice():
    result = dispatch([due()], {("u1", MANA): {"m1"}}, Caps())
    assert (ordered(result), result.decided) == ([], [])
    assert result.looks[0].at == NOW + ORDER_PATIENCE


def test_one_users_crowd_leaves_places_to_the_others():
    crowd = [due("u1", f"m{n}", agent_id=f"a{n}") for n in range(50)]
    result = look([crowd[0], due("u2"), *crowd[1:]], runs=20, runs_per_user=3)
    assert ordered(result).count(("u2", "m1")) == 1
    assert sum(user == "u1" for user, _ in ordered(result)) == 3
    waits = [again.at for again in result.looks if again.at and again.at > NOW + ORDER_PATIENCE]
    assert all(at <= NOW + timedelta(seconds=60) for at in waits)


def test_what_finds_no_place_stays_due():
    missions = [due(f"u{n}") for n in range(5)]
    result = look(missions, runs=2)
    assert len(ordered(result)) == 2
    assert result.left == 3
    assert len(result.looks) == 2  # of the ordered ones alone


def test_an_order_goes_back_before_it_is_looked_at_again():
    assert PLACE_PATIENCE < ORDER_PATIENCE


def test_an_order_is_looked_at_again_should_its_process_die():
    (again,) = look([due()]).looks
    assert (again.at, again.version) == (NOW + ORDER_PATIENCE, 1)


def test_a_slot_that_is_served_moves_on():
    result = look([due(slot_state="committed"), due("u2", slots_from=NOW + timedelta(days=1))])
    assert [move.due.user_id for move in result.moves] == ["u1", "u2"]
    assert ordered(result) == []


def test_healing_takes_no_place_and_asks_no_gate():
    missions = [due(mission="m1", heal=True, state="paused"), due(mission="m2")]
    result = look(missions)
    kinds = [(o.mission_id, o.kind) for orders in result.orders.values() for o in orders]
    assert kinds == [("m1", "heal"), ("m2", "run")]


def test_nothing_to_do_is_looked_at_when_the_gate_says():
    result = look([due(agent_state="paused"), due("u2", next_run_at=NOW + timedelta(hours=1))])
    assert [(again.user_id, again.at) for again in result.looks] == [
        ("u1", None),
        ("u2", NOW + timedelta(hours=1)),
    ]
    assert [d.decision for d in result.decided] == ["skipped-paused"]


def test_one_minute_is_spread_by_agent_and_a_request_is_not():
    crowd = [due(f"u{i}", f"m{i}") for i in range(40)]
    spread = dispatch(crowd, {}, Caps(runs=100, due_spread_s=600.0))
    turns = {each.at for each in spread.looks if each.at is not None and not spread.orders}
    assert not spread.orders
    assert len(turns) == len(crowd)
    assert all(NOW < turn <= NOW + timedelta(seconds=600) for turn in turns)
    again = dispatch(crowd, {}, Caps(runs=100, due_spread_s=600.0))
    assert {each.at for each in again.looks} == turns
    late = [due(now=NOW + timedelta(seconds=600))]
    assert ordered(dispatch(late, {}, Caps(due_spread_s=600.0))) == [("u1", "m1")]
    asked = [due(requested_at=NOW - timedelta(seconds=1))]
    assert ordered(dispatch(asked, {}, Caps(due_spread_s=600.0))) == [("u1", "m1")]


def test_a_slot_is_moved_to_a_whole_millisecond():
    record = '{"cadence": {"kind": "interval", "everyMinutes": 5}}'
    now = NOW.replace(microsecond=123_456)
    following, stamp, _ = next_slot("u1", "m1", record, ZoneInfo("UTC"), now)
    assert following == "2026-04-27T05:05:00.123Z"
    assert stamp == "2026-04-27T05:00:00.124Z"
