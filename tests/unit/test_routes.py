"""Who hears of what a fold changed."""

from state.log.deltas import AgentColumns, MissionColumns, RecordDelta
from state.store.supervisor.snapshots import AgentDelta, Folded, MissionDelta
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.fold import changes_by_agent

ADA, BOB, EVE = ("u1", "ada"), ("u1", "bob"), ("u1", "eve")


def moved(mission: str, agent: str, left: str | None = None) -> MissionDelta:
    delta = RecordDelta(mission, 1, 2, MissionColumns(agent, "active"))
    return MissionDelta("u1", mission, agent, 2, delta, left)


def test_whoever_a_mission_left_hears_of_it_and_whoever_it_entered():
    told = changes_by_agent(Folded(missions=(moved("m1", "bob", left="ada"),)), {ADA, BOB, EVE}, 7)
    assert set(told) == {ADA, BOB}
    assert told[ADA].deltas == told[BOB].deltas
    assert told[ADA].epoch == 7


def test_whoever_runs_a_mission_hears_of_it_though_it_became_anothers():
    folded = Folded(missions=(moved("m1", "bob"),))
    assert set(changes_by_agent(folded, {BOB, EVE}, 7, {EVE: {"m1"}})) == {BOB, EVE}


def test_who_sleeps_is_told_nothing():
    own = AgentDelta("u1", "ada", 3, RecordDelta("ada", 2, 3, AgentColumns("active")))
    folded = Folded(missions=(moved("m1", "bob", left="ada"),), agents=(own,))
    assert changes_by_agent(folded, frozenset[Pair](), 7, {ADA: {"m1"}}) == {}


def test_an_agent_of_the_same_id_is_anothers():
    assert changes_by_agent(Folded(missions=(moved("m1", "bob"),)), {("u2", "bob")}, 7) == {}


def test_an_older_process_is_told_versions_too():
    own = AgentDelta("u1", "ada", 3, RecordDelta("ada", 2, 3, AgentColumns("active")))
    told = changes_by_agent(Folded(missions=(moved("m1", "ada"),), agents=(own,)), {ADA}, 7)[ADA]
    assert (told.missions, told.agent_version) == ((("m1", 2),), 3)
