"""What an agent's process remembers equals the rows, whatever becomes of what it was told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_actors.agent.memory import Memory, Reading
from mana_actors.messages import Changed, decode_for_agent, encode
from state.log.deltas import (
    MAX_DELTA_BYTES,
    AgentColumns,
    HeldRecord,
    MissionColumns,
    RecordDelta,
    delta_of,
)
from state.rules.budgets import Charge, OpenHold
from state.runs.found import Found
from state.runs.gate import gate
from state.runs.versions import Versions

NOW = datetime(2026, 4, 27, 5, 0, tzinfo=UTC)
OURS, OTHER = "a1", "a2"
MISSIONS = ("m1", "m2")
Missions = dict[str, HeldRecord[MissionColumns]]


class Rows:
    """The user's snapshots, and what folds of them told our agent's process."""

    def __init__(self) -> None:
        self.sequence = 0
        self.missions: Missions = {}
        self.agent: HeldRecord[AgentColumns] | None = None
        self.zone: str | None = None
        self.told: list[Changed] = []
        self.history: list[tuple[Missions, HeldRecord[AgentColumns] | None]] = []

    def next_version(self) -> int:
        self.history.append((dict(self.missions), self.agent))
        self.sequence += 1
        return self.sequence

    def put_mission(self, id_: str, *, tell: bool = True, **changes: Any) -> None:
        """Write a mission anew; who had it and who has it hear of that."""
        before = self.missions.get(id_)
        columns = before.columns if before else MissionColumns(OURS, "active")
        own = {k: v for k, v in changes.items() if k in MissionColumns.__struct_fields__}
        fields, stamps = (before.fields, before.stamps) if before else ({}, {})
        after = HeldRecord(
            self.next_version(),
            msgspec.structs.replace(columns, **own),
            {k: v for k, v in (fields | changes.get("fields", {})).items() if v is not None},
            stamps | changes.get("stamps", {}),
        )
        self.missions[id_] = after
        touched = {after.columns.agent_id, *([before.columns.agent_id] if before else [])}
        if tell and OURS in touched:
            self.told.append(Changed(1, deltas=(delta_of(id_, before, after),)))

    def drop_mission(self, id_: str) -> None:
        before = self.missions.pop(id_, None)
        if before is not None and before.columns.agent_id == OURS:
            gone = RecordDelta[MissionColumns](id_, before.version, self.next_version(), gone=True)
            self.told.append(Changed(1, deltas=(gone,)))

    def put_agent(self, **changes: Any) -> None:
        before = self.agent
        columns = before.columns if before else AgentColumns("active")
        columns = msgspec.structs.replace(columns, **changes)
        after = HeldRecord(self.next_version(), columns, {"name": "Ada"}, {})
        self.agent = after
        self.told.append(Changed(1, agent=delta_of(OURS, before, after)))

    def drop_agent(self) -> None:
        before, self.agent = self.agent, None
        if before is not None:
            gone = RecordDelta[AgentColumns](OURS, before.version, self.next_version(), gone=True)
            self.told.append(Changed(1, agent=gone))

    @property
    def cap(self) -> int | None:
        return self.agent.columns.max_tokens_per_day if self.agent else None

    def ours(self) -> Missions:
        return {id_: m for id_, m in self.missions.items() if m.columns.agent_id == OURS}

    def found(self, missions: frozenset[str] | None) -> Found:
        """What a read finds now: all of the agent's, or these, whoever has them."""
        if missions is None:  # what is deleted comes only when it is asked for
            shown = {k: v for k, v in self.ours().items() if not v.columns.hidden}
            forgotten = [v.version for v in self.ours().values() if v.columns.hidden]
        else:
            shown = {k: v for k, v in self.missions.items() if k in missions}
            forgotten = []
        return Found(
            now=NOW,
            agent=self.agent,
            missions=shown,
            time_zone=self.zone,
            cap=self.cap,
            forgotten=max(forgotten, default=0),
        )


class Scene:
    """Rows, a memory of them, and what is between the two."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.memory = Memory(OURS)
        self.reads: list[tuple[Memory, Reading, Found | None]] = []
        self.is_lossy = self.is_silent = False

    def step(self, what: str, which: int, how: int) -> None:
        rows, id_ = self.rows, MISSIONS[which % 2]
        match what:
            case "edit":
                rows.put_mission(id_, fields={"title": f"t{how}"}, stamps={"title": f"s{how}"})
            case "unset":
                rows.put_mission(id_, fields={"title": None})
            case "stamp":
                rows.put_mission(id_, stamps={"title": f"s{how}"})
            case "iterations":
                rows.put_mission(id_)
            case "state":
                rows.put_mission(id_, state=("active", "paused")[how % 2])
            case "move":
                rows.put_mission(id_, agent_id=(OURS, OTHER)[how % 2])
            case "delete":
                rows.put_mission(id_, hidden=bool(how % 2))
            case "big":
                rows.put_mission(id_, fields={"objective": chr(97 + how) * (MAX_DELTA_BYTES + 1)})
            case "copies":  # other writers give a mission a new version, and tell nobody
                self.is_silent |= id_ in rows.missions
                rows.put_mission(id_, tell=id_ not in rows.missions)
            case "drop":
                rows.drop_mission(id_)
            case "agent":
                rows.put_agent(max_tokens_per_day=how, state=("active", "paused")[which % 2])
            case "drop-agent":
                rows.drop_agent()
            case "zone":
                self.is_silent, rows.zone = True, f"zone-{how}"
            case "lose":
                if rows.told:
                    self.is_lossy = True
                    rows.told.pop(which % len(rows.told))
            case "restore":
                if rows.history:
                    rows.missions, rows.agent = rows.history[which * 5 % len(rows.history)]
                rows.told = []  # of an epoch that is over
                self.memory = Memory(OURS)
            case _:
                self.receive(what, which, how)

    def receive(self, what: str, which: int, how: int) -> None:
        """What reaches the process: messages in any order, and what its reads find."""
        rows, memory = self.rows, self.memory
        match what:
            case "deliver" | "double":
                if rows.told:
                    at = which % len(rows.told)
                    message = rows.told[at] if what == "double" else rows.told.pop(at)
                    self.hear(message)
            case "read":
                wanted = None if how % 3 == 0 else frozenset({MISSIONS[which % 2]})
                self.reads.append((memory, memory.read_begins(wanted), None))
            case "look":  # the moment as of which a read that began finds what it finds
                self.reads = [
                    (of, reading, found or rows.found(reading.missions))
                    for of, reading, found in self.reads
                ]
            case "end":
                if self.reads:
                    of, reading, found = self.reads.pop(which % len(self.reads))
                    is_lost = how % 4 == 0
                    of.read_ended(
                        reading, None if is_lost else found or rows.found(reading.missions)
                    )
            case _:
                raise AssertionError(what)

    def hear(self, message: Changed) -> None:
        heard = decode_for_agent(encode(message))
        assert isinstance(heard, Changed)
        self.memory.hear(heard.deltas, heard.agent)

    def settle(self) -> None:
        """Everything that is under way arrives, and the process reads what it knows it must."""
        for message in self.rows.told:
            self.hear(message)
        for of, reading, found in self.reads:
            of.read_ended(reading, found or self.rows.found(reading.missions))
        self.reads = []
        if self.is_lossy:  # then a supervisor of a new epoch says hello
            self.memory = Memory(OURS)
        self.catch_up()
        if self.is_silent:
            for id_, mission in self.rows.ours().items():
                agent = self.rows.agent.version if self.rows.agent else None
                order = Versions(mission.version, agent, self.rows.zone, self.rows.cap)
                if self.memory.differs(id_, order):
                    self.read(frozenset({id_}))
        self.catch_up()

    def catch_up(self) -> None:
        for _ in range(10):
            if self.memory.is_behind:
                self.read(self.memory.behind)

    def read(self, missions: frozenset[str] | None) -> None:
        reading = self.memory.read_begins(missions)
        self.memory.read_ended(reading, self.rows.found(missions))


WRITES = (
    "edit",
    "unset",
    "stamp",
    "iterations",
    "state",
    "move",
    "move",
    "delete",
    "drop",
    "agent",
)
ARRIVALS = (*("deliver",) * 4, "double", "read", "read", "look", "look", "end", "end", "end")
NUMBERS = st.integers(0, 7), st.integers(0, 5)
HEARD_OF = st.tuples(st.sampled_from([*WRITES, "big", "drop-agent", *ARRIVALS]), *NUMBERS)
ANYTHING = st.tuples(
    st.sampled_from([*WRITES, "big", "drop-agent", "copies", "zone", "lose", "restore", *ARRIVALS]),
    *NUMBERS,
)


def as_the_rows(scene: Scene) -> None:
    known, ours = scene.memory.missions, scene.rows.ours()
    deleted = {id_ for id_, mission in ours.items() if mission.columns.hidden}
    assert known == {id_: m for id_, m in ours.items() if id_ in known or id_ not in deleted}
    assert scene.memory.agent.held == scene.rows.agent
    if scene.memory.missions:
        assert (scene.memory.time_zone, scene.memory.cap) == (scene.rows.zone, scene.rows.cap)


@given(st.lists(HEARD_OF, max_size=30))
@settings(max_examples=600)
def test_memory_equals_the_rows_once_every_message_arrived(steps: list[tuple[str, int, int]]):
    scene = Scene()
    scene.read(None)
    for step in steps:
        scene.step(*step)
    scene.settle()
    as_the_rows(scene)


@given(st.lists(ANYTHING, max_size=30))
@settings(max_examples=300)
def test_memory_equals_the_rows_once_an_order_or_a_new_epoch_comes(
    steps: list[tuple[str, int, int]],
):
    scene = Scene()
    scene.read(None)
    for step in steps:
        scene.step(*step)
    scene.settle()
    as_the_rows(scene)


TOLD = st.tuples(
    st.sampled_from(
        ["edit", "stamp", "state", "move", "delete", "big", "drop", "deliver", "deliver"]
    ),
    st.integers(0, 7),
    st.integers(0, 5),
)


@given(st.lists(TOLD, max_size=40))
@settings(max_examples=200)
def test_a_memory_that_hears_everything_in_order_reads_only_what_comes_back_or_is_too_long(
    steps: list[tuple[str, int, int]],
):
    scene = Scene()
    scene.read(None)
    for what, which, how in steps:
        scene.step(what, 0 if what == "deliver" else which, how)
    for message in scene.rows.told:
        scene.hear(message)
    came_back = {
        id_ for what, which, _ in steps if what in ("move", "big") for id_ in [MISSIONS[which % 2]]
    }
    assert scene.memory.behind is not None
    assert scene.memory.behind <= came_back


def mission(version: int = 1, **columns: Any) -> HeldRecord[MissionColumns]:
    known: dict[str, Any] = {"agent_id": OURS, "state": "active", "next_run_at": NOW}
    return HeldRecord(version, MissionColumns(**known | columns), {}, {})


def agent(version: int = 1, **columns: Any) -> HeldRecord[AgentColumns]:
    known: dict[str, Any] = {"state": "active"}
    return HeldRecord(version, AgentColumns(**known | columns), {}, {})


def read(memory: Memory, found: Found, missions: frozenset[str] | None = None) -> None:
    memory.read_ended(memory.read_begins(missions), found)


def remembering(**facts: Any) -> Memory:
    known: dict[str, Any] = {"now": NOW, "agent": agent(), "missions": {"m1": mission()}}
    memory = Memory(OURS)
    read(memory, Found(**known | facts))
    return memory


def test_what_models_and_owners_write_at_length_is_in_no_delta():
    before = mission(1)
    after = HeldRecord(2, before.columns, {}, {})
    delta = delta_of("m1", before, after)
    assert (delta.before, delta.after, delta.changed) == (1, 2, b"{}")


def test_one_and_true_are_not_the_same_in_a_delta():
    before = HeldRecord(1, MissionColumns(OURS, "active"), {"cadence": {"every": 1}}, {})
    after = HeldRecord(2, before.columns, {"cadence": {"every": True}}, {})
    assert delta_of("m1", before, after).changed == b'{"cadence":{"every":true}}'


def test_the_versions_of_an_older_supervisor_make_a_record_be_read_again():
    memory = remembering()
    memory.hear([RecordDelta("m1", None, 2)])
    assert memory.behind == {"m1"}


@pytest.mark.parametrize(
    ("columns", "own", "said"),
    [
        ({"state": "paused"}, {}, "the mission is paused"),
        ({"hidden": True}, {}, "the mission was deleted"),
        ({"agent_id": OTHER}, {}, "the mission belongs to another agent now"),
        ({}, {"state": "paused"}, "the agent is paused"),
        ({}, {"hidden": True}, "the agent is deleted"),
        ({}, {}, None),
    ],
)
def test_a_delta_says_whether_a_run_under_way_is_wanted_still(
    columns: dict[str, Any], own: dict[str, Any], said: str | None
):
    memory = remembering()
    memory.hear(
        [delta_of("m1", mission(1), mission(2, **columns))],
        delta_of(OURS, agent(1), agent(2, **own)),
    )
    assert memory.why_unwanted("m1") == said


@pytest.mark.parametrize("was_away", [False, True])
def test_a_run_whose_mission_is_gone_hears_that_it_was_deleted(was_away: bool):
    """A sweep found no row of it. It was with another agent before, and came back."""
    memory = remembering()
    if was_away:
        memory.hear([delta_of("m1", mission(1), mission(2, agent_id=OTHER))])
        read(memory, Found(NOW, agent(), {"m1": mission(3)}), frozenset({"m1"}))
    version = 3 if was_away else 1
    memory.hear([RecordDelta("m1", version, 4, gone=True)])
    assert memory.why_unwanted("m1") == "the mission was deleted"


@pytest.mark.parametrize(
    "change",
    [{"mission": 2}, {"agent": 2}, {"agent": None}, {"time_zone": "Asia/Tokyo"}, {"cap": 7}],
)
def test_an_order_that_was_decided_by_something_else_is_noticed(change: dict[str, Any]):
    memory = remembering(time_zone="Europe/Berlin", cap=100)
    same = Versions(1, 1, "Europe/Berlin", 100)
    assert not memory.differs("m1", same)
    assert memory.differs("m1", msgspec.structs.replace(same, **change))


def test_a_full_agent_refuses_by_what_it_knows_alone():
    memory = remembering(agent=agent(max_concurrent=1))
    memory.under_way.add("m2")
    facts = memory.facts("m1", NOW)
    assert facts is not None
    assert gate(facts).decision == "skipped-concurrency"
    memory.under_way = {"m1"}  # a mission is not in its own way
    facts = memory.facts("m1", NOW)
    assert facts is not None
    assert gate(facts).action == "run"


def test_a_used_up_cap_refuses_until_the_first_charge_leaves_the_window():
    spent = (Charge(NOW - timedelta(hours=3), 60), Charge(NOW - timedelta(hours=1), 60))
    memory = remembering(cap=100, charges=spent)
    facts = memory.facts("m1", NOW)
    assert facts is not None
    answer = gate(facts)
    assert answer.decision == "skipped-budget"
    assert answer.look_at == NOW + timedelta(hours=21)


def test_what_is_spent_while_the_window_is_read_counts_once():
    memory = remembering(cap=100)
    reading = memory.read_begins(None)
    hold = OpenHold("c1", 50, NOW, NOW + timedelta(minutes=2))
    memory.note(hold)
    memory.note(Charge(NOW, 30, "c1"))
    memory.note(OpenHold("c2", 40, NOW, NOW + timedelta(minutes=2)))
    known = Found(NOW, agent(), {}, cap=100, charges=(Charge(NOW, 30, "c1"),), holds=(hold,))
    memory.read_ended(reading, msgspec.structs.replace(known, holds=()))
    assert (memory.window.used(NOW), memory.window.held(NOW)) == (30, 40)
    later = NOW + timedelta(minutes=3)  # nobody settled the second call: it counts whole
    assert (memory.window.used(later), memory.window.held(later)) == (70, 0)


def test_a_changed_cap_of_the_owner_is_read_with_the_operators():
    memory = remembering()
    memory.hear([], delta_of(OURS, agent(1), agent(2, max_tokens_per_day=5)))
    assert memory.is_behind
    read(memory, Found(NOW, agent(2, max_tokens_per_day=5), {}, cap=5), frozenset())
    assert not memory.is_behind
    assert memory.cap == 5


@pytest.mark.parametrize("slow", [{"m1", "m2", "m3"}, None])
def test_an_older_read_replaces_nothing(slow: set[str] | None):
    memory = remembering()
    begun, quick = memory.read_begins(slow), memory.read_begins(None)
    now = Found(NOW, agent(7), {"m1": mission(5), "m2": mission(6)}, "Asia/Tokyo", 9)
    memory.read_ended(quick, now)
    then = Found(NOW, agent(2), {"m1": mission(3), "m3": mission(4)}, "Europe/Berlin", 8)
    memory.read_ended(begun, then)
    assert {id_: held.version for id_, held in memory.missions.items()} == {"m1": 5, "m2": 6}
    assert memory.agent.held == agent(7)
    assert (memory.time_zone, memory.cap) == ("Asia/Tokyo", 9)


def test_a_read_that_failed_leaves_its_record_to_be_read_again():
    memory = remembering()
    memory.hear([RecordDelta("m1", 0, 2)])
    memory.read_ended(memory.read_begins({"m1"}), None)
    assert memory.behind == {"m1"}


def test_news_of_what_a_read_did_not_find_is_old():
    memory = remembering()
    memory.hear([RecordDelta("m1", 0, 4)])  # it is gone by the time it is read
    read(memory, Found(NOW, agent(), {}), frozenset({"m1"}))
    memory.hear([delta_of("m1", None, mission(3))])
    assert memory.missions == {}
    assert not memory.is_behind


def test_news_from_before_a_mission_was_deleted_is_old_though_the_read_left_it_out():
    memory = Memory(OURS)
    reading = memory.read_begins(None)
    memory.hear([delta_of("m2", None, mission(3))])  # waits for the read
    memory.read_ended(reading, Found(NOW, agent(), {"m1": mission()}, forgotten=9))
    memory.hear([delta_of("m3", None, mission(4)), delta_of("m4", None, mission(10))])
    assert set(memory.missions) == {"m1", "m4"}
    assert memory.behind == frozenset()


def test_a_mission_that_comes_back_is_read():
    memory = Memory(OURS)
    read(memory, Found(NOW, agent(), {}, forgotten=9))
    memory.hear([delta_of("m3", mission(9, hidden=True), mission(12))])
    assert memory.behind == {"m3"}
