"""Which awake agents hear of a fold: one message per agent with the new versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

from mana_actors.messages import Changed
from state.store.snapshots import Folded
from supervisor.dispatch import Pair


def changes_by_agent(folded: Folded, awake: Container[Pair], epoch: int) -> dict[Pair, Changed]:
    """What to tell each awake agent; calls are batched per agent, never made per change."""
    missions: dict[Pair, list[tuple[str, int]]] = defaultdict(list)
    agents: dict[Pair, int] = {}
    for mission in folded.missions:
        pair = (mission.user_id, mission.agent_id)
        missions[pair].append((mission.mission_id, mission.version))
    for agent in folded.agents:
        agents[(agent.user_id, agent.agent_id)] = agent.version
    return {
        pair: Changed(epoch, tuple(missions.get(pair, ())), agents.get(pair))
        for pair in missions.keys() | agents.keys()
        if pair in awake
    }
