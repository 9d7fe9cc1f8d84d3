"""Which awake agents hear of a fold: one message per agent with the new versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType

from mana_actors.messages import Changed
from state.store.snapshots import Folded
from supervisor.supervision.dispatch import Pair

NOBODY: Mapping[Pair, Iterable[str]] = MappingProxyType({})


def changes_by_agent(
    folded: Folded,
    awake: Container[Pair],
    epoch: int,
    in_flight: Mapping[Pair, Iterable[str]] = NOBODY,
) -> dict[Pair, Changed]:
    """What to tell each awake agent; calls are batched per agent, never made per change.

    An agent whose run of a mission is under way hears of it also when it became another's.
    """
    missions: dict[Pair, set[tuple[str, int]]] = defaultdict(set)
    agents: dict[Pair, int] = {}
    running = {(pair[0], mission): pair for pair, some in in_flight.items() for mission in some}
    for mission in folded.missions:
        delta = (mission.mission_id, mission.version)
        missions[(mission.user_id, mission.agent_id)].add(delta)
        runner = running.get((mission.user_id, mission.mission_id))
        if runner is not None:
            missions[runner].add(delta)
    for agent in folded.agents:
        agents[(agent.user_id, agent.agent_id)] = agent.version
    return {
        pair: Changed(epoch, tuple(sorted(missions.get(pair, ()))), agents.get(pair))
        for pair in missions.keys() | agents.keys()
        if pair in awake
    }
