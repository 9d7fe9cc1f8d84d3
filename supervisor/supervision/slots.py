"""Moving a slot on without a plan: the next run from the current cadence, as a write that wins."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from state.log.cadence import next_run
from state.log.principals import SYSTEM_MISSION_RUNNER, system_actor
from state.log.records import mission_from_record
from state.log.stamps import format_instant, instant_of, winning_stamp


def next_slot(
    user_id: str, mission_id: str, record: str, zone: ZoneInfo, now: datetime
) -> tuple[str | None, str, str]:
    """`nextRunAt`, its stamp and the actor (JSON) of the row that moves a mission's slot on."""
    fields: dict[str, Any] = msgspec.json.decode(record)
    mission = mission_from_record(user_id, mission_id, fields)
    following = next_run(mission.cadence, now, zone) if mission.cadence else None
    stamp = winning_stamp(instant_of(now), fields.get("__fieldMeta", {}).get("nextRunAt"))
    actor = msgspec.json.encode(system_actor(SYSTEM_MISSION_RUNNER)).decode()
    return (None if following is None else format_instant(instant_of(following))), stamp, actor
