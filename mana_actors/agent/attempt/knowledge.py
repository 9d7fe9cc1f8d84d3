"""What an attempt decides by before it claims anything, and who tells it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mana_actors.messages import Order
from state.log.records import InputRef, mission_from_record
from state.runs.gate import GateFacts, facts
from state.runs.versions import Versions
from state.runs.withdrawal import browser_since
from state.store.agent import AgentStore, AgentView, Basis


class Known(msgspec.Struct, frozen=True):
    """A mission with its agent, as far as the agent's process knows them.

    `inputs` are those that the mission lists; `agent` is None where no record of it came in.
    `versions` are what a refusal is decided by, None where nobody compares it.
    """

    facts: GateFacts
    mission_version: int
    time_zone: str | None
    inputs: tuple[InputRef, ...]
    agent: AgentView | None
    versions: Versions | None = None

    @property
    def basis(self) -> Basis:
        """What a decision on this is made by."""
        agent_version = 0 if self.agent is None else self.agent.version
        return Basis(self.mission_version, agent_version, self.time_zone or "")


class Knowledge(Protocol):
    """What an agent's process knows about its missions, and keeps of what it does."""

    async def about(self, order: Order, *, anew: bool = False) -> Known | None:
        """What the gate decides by, None if the mission is not this owner's.

        `anew`: a decision made by what was known turned out to be old, so it is read again.
        """
        ...

    def begins(self, mission_id: str) -> None:
        """A run of this mission takes a place of the agent's, until it `ends`."""
        ...

    def ends(self, mission_id: str) -> None:
        """It is over, or it was none."""
        ...

    async def place_free(self, mission_id: str) -> bool:
        """Wait until one of this process's runs is over; False at once where none is under way."""
        ...

    def holds(self, call_id: str, tokens: int, for_s: float) -> None:
        """A model call reserves so much, for so long at most."""
        ...

    def charged(self, call_id: str, tokens: int) -> None:
        """A model call came to so much."""
        ...


class StoredKnowledge:
    """Knows nothing by itself, reads everything each time, and keeps nothing."""

    def __init__(self, store: AgentStore, user_id: str) -> None:
        self._store, self._user_id = store, user_id

    async def about(self, order: Order, *, anew: bool = False) -> Known | None:
        """What the database says now."""
        del anew  # it always is
        mission_id = order.mission_id
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

    def begins(self, mission_id: str) -> None:
        pass

    def ends(self, mission_id: str) -> None:
        pass

    async def place_free(self, mission_id: str) -> bool:
        del mission_id
        return False

    def holds(self, call_id: str, tokens: int, for_s: float) -> None:
        pass

    def charged(self, call_id: str, tokens: int) -> None:
        pass
