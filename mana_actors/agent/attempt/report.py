"""What the supervisor hears of an order: ids, decisions, numbers, never a text of the owner's."""

from __future__ import annotations

from typing import Any

from mana_actors.agent.model.calls import Tally
from mana_actors.messages import Order, Report
from state.store.agent import MissionView


class Reporter:
    """Makes the reports of one agent's process."""

    def __init__(self, user_id: str, agent_id: str, holder: str) -> None:
        self._user_id, self._agent_id, self._holder = user_id, agent_id, holder

    def __call__(
        self,
        order: Order,
        outcome: str,
        *,
        view: MissionView | None = None,
        tally: Tally | None = None,
        **fields: Any,
    ) -> Report:
        """The report of an order; `fields` are those of Report."""
        known = tally or Tally()
        return Report(
            holder=self._holder,
            user_id=self._user_id,
            agent_id=self._agent_id,
            mission_id=order.mission_id,
            version=view.version if view else order.version,
            outcome=outcome,
            tokens=known.tokens,
            model_calls=known.model_calls,
            counts=tuple(known.counts),
            **fields,
        )
