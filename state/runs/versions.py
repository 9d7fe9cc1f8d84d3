"""What a decision about a mission was made by: one that a change overtook is noticed. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Versions(msgspec.Struct, frozen=True):
    """Of the mission's and the agent's snapshots, with the zone and cap in force.

    `agent` None: no record of it came in. `cap` is the agent's own, None without one.
    `requested_at` is the first request to run the mission now that was open.
    """

    mission: int
    agent: int | None = None
    time_zone: str | None = None
    cap: int | None = None
    requested_at: datetime | None = None
