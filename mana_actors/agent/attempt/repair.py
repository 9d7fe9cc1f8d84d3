"""Putting back what a client's write erased from a mission's iterations, at most once for each."""

from __future__ import annotations

from typing import Any

import msgspec

from mana_actors.agent.retries import retried
from state.log.healing import Repair, repair
from state.log.iterations import Author, row_actor
from state.log.principals import DEFAULT_AGENT_NAME
from state.log.records import agent_from_record, mission_from_record
from state.log.stamps import instant_of, winning_stamp
from state.store.agent import AgentStore, MissionView


class Mender:
    """Mends missions of one agent."""

    def __init__(self, store: AgentStore, user_id: str, agent_id: str) -> None:
        self._store, self._user_id, self._agent_id = store, user_id, agent_id

    async def mend(self, mission_id: str) -> str:
        """Write what is missing; `healed`, `whole`, or `unwanted`."""
        view = await retried(lambda: self._store.mission(mission_id))
        if view is None or view.hidden:
            return "unwanted"
        return "healed" if await retried(lambda: self._heal(view)) else "whole"

    async def _heal(self, view: MissionView) -> bool:
        record: dict[str, Any] = msgspec.json.decode(view.record)
        current = record.get("iterations")
        versions = await self._store.logged_iterations(view.mission_id)
        healable = await self._store.healable_iterations(view.mission_id)
        repaired = repair(current, versions, healable) or Repair([], [])
        ids = repaired.ids
        mission = mission_from_record(self._user_id, view.mission_id, record)
        stamp = winning_stamp(instant_of(view.now), record.get("__fieldMeta", {}).get("iterations"))
        agent = await self._store.agent()
        name = (
            agent_from_record(self._user_id, self._agent_id, msgspec.json.decode(agent.record)).name
            if agent
            else DEFAULT_AGENT_NAME
        )
        actor = row_actor(
            mission.id, ids[0] if ids else "heal", Author(self._agent_id, name), mission.objective
        )
        return await self._store.heal(
            mission.id,
            view.version,
            msgspec.json.encode(repaired.iterations).decode(),
            stamp,
            msgspec.json.encode(actor).decode(),
            ids,
        )
