"""Putting back what a client's write erased from a mission's iterations, at most once for each."""

from __future__ import annotations

from typing import Any

import msgspec

from state.log.healing import Repair, repair
from state.log.iterations import Author, row_actor
from state.log.principals import DEFAULT_AGENT_NAME
from state.log.records import agent_from_record, mission_from_record
from state.log.stamps import instant_of, winning_stamp
from state.runs.outcome import Healed, NotWanted, Outcome, Whole
from state.store.agent import AgentStore


async def heal(store: AgentStore, user_id: str, agent_id: str, mission_id: str) -> Outcome:
    """Write what is missing from a mission of this agent; raises StateError."""
    view = await store.mission(mission_id)
    if view is None or view.hidden:
        return NotWanted()
    record: dict[str, Any] = msgspec.json.decode(view.record)
    versions = await store.logged_iterations(mission_id)
    healable = await store.healable_iterations(mission_id)
    repaired = repair(record.get("iterations"), versions, healable) or Repair([], [])
    mission = mission_from_record(user_id, mission_id, record)
    name, agent = DEFAULT_AGENT_NAME, await store.agent()
    if agent is not None:
        name = agent_from_record(user_id, agent_id, msgspec.json.decode(agent.record)).name
    actor = row_actor(
        mission_id,
        repaired.ids[0] if repaired.ids else "heal",
        Author(agent_id, name),
        mission.objective,
    )
    was_healed = await store.heal(
        mission_id,
        view.version,
        msgspec.json.encode(repaired.iterations).decode(),
        winning_stamp(instant_of(view.now), record.get("__fieldMeta", {}).get("iterations")),
        msgspec.json.encode(actor).decode(),
        restored=repaired.ids,
    )
    return Healed() if was_healed else Whole()
