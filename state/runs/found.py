"""What a read of an agent's memory found, all as of one moment. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from state.log.deltas import AgentColumns, HeldRecord, MissionColumns
from state.rules.budgets import Charge, OpenHold


class Found(msgspec.Struct, frozen=True):
    """The agent's record and missions by id, with the zone, its own cap and its spending.

    Missions that were asked for by their ids may be other agents'. `requested` says when the first
    open request to run one of these now was made; `agent_record` is the agent's whole, as JSON.
    Of deleted missions a read of all brings those that a run is under way of; `forgotten` is the
    newest version of any of them.
    """

    now: datetime
    agent: HeldRecord[AgentColumns] | None
    missions: dict[str, HeldRecord[MissionColumns]]
    time_zone: str | None = None
    cap: int | None = None
    slots_from: datetime | None = None
    charges: tuple[Charge, ...] = ()
    holds: tuple[OpenHold, ...] = ()
    requested: dict[str, datetime] = {}
    agent_record: str | None = None
    forgotten: int = 0
