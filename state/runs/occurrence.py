"""What is to be served once, and the states of the run that serves it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from state.log.iterations import iteration_id
from state.log.stamps import instant_of

RunState = Literal["open", "waiting", "committed", "failed", "withdrawn"]
"""`open` under a lease; `waiting` for a time or for room; or over: a plan was written, a failure
was recorded, or nobody wants it any more. A withdrawn run may be opened again."""

Closed = Literal["committed", "failed"]
"""The states of an occurrence that was served."""


class Occurrence(msgspec.Struct, frozen=True):
    """A mission's slot, or a request to run it now; `due_at` tells it from the mission's others."""

    user_id: str
    agent_id: str
    mission_id: str
    due_at: datetime
    requested: bool

    @property
    def iteration_id(self) -> str:
        """The id of its iteration: derived from the occurrence, so that retries collapse."""
        return iteration_id(self.user_id, self.mission_id, instant_of(self.due_at) // 1000)
