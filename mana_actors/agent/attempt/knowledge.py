"""What an attempt decides by before it claims anything, and who tells it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from state.log.records import InputRef, mission_from_record
from state.runs.gate import GateFacts, facts
from state.runs.withdrawal import browser_since
from state.store.agent import AgentStore, AgentView, Basis


class Known(msgspec.Struct, frozen=True):
    """A mission with its agent, as far as the agent's process knows them.

    `inputs` are those that the mission lists; `agent` is None where no record of it came in.
    """

    facts: GateFacts
    mission_version: int
    time_zone: str | None
    inputs: tuple[InputRef, ...]
    agent: AgentView | None

    @property
    def basis(self) -> Basis:
        """What a decision on this is made by."""
        agent_version = 0 if self.agent is None else self.agent.version
        return Basis(self.mission_version, agent_version, self.time_zone or "")


class Knowledge(Protocol):
    """What an agent's process knows about its missions."""

    async def about(self, mission_id: str, *, anew: bool = False) -> Known | None:
        """What the gate decides by, None if the mission is not this owner's.

        `anew`: a decision made by what was known turned out to be old, so it is read again.
        """
        ...


class StoredKnowledge:
    """Knows nothing by itself, and reads everything each time."""

    def __init__(self, store: AgentStore, user_id: str) -> None:
        self._store, self._user_id = store, user_id

    async def about(self, mission_id: str, *, anew: bool = False) -> Known | None:
        """What the database says now."""
        del anew  # it always is
        found = await self._store.for_gate(mission_id)
        if found is None:
            return None
        view, agent, usage = found
        record = msgspec.json.decode(view.record)
        mission = mission_from_record(self._user_id, mission_id, record)
        asked = facts(
            view,
            agent_known=agent is not None and agent.complete and not agent.hidden,
            agent_state=agent.state if agent else None,
            max_concurrent=agent.max_concurrent if agent else None,
            cap=usage.cap,
            used=usage.used,
            back_at=usage.back_at,
            browser_since=browser_since(mission.iterations),
        )
        return Known(asked, view.version, view.time_zone, mission.inputs, agent)
