"""`/api/v1/me/missions/{mission}/schedule`: what became of each due time, and the next ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.log.cadence import Interval, Manual, next_run
from state.log.records import Mission, is_due, mission_from_record
from state.log.stamps import datetime_of, parse_instant
from state.runs.reasons import codes_of, in_words, language_of
from state.store.gateway.own_log import OwnRecord
from state.store.own.runs import OwnRun
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, path_part, query, whole_number
from supervisor.gateway.people.made.missions import mission_of, upcoming, zone_of
from supervisor.gateway.people.owners import Owners

WINDOWS = (timedelta(days=30), timedelta(days=2), timedelta(hours=3))
MOST = 200
DEFAULT_LIMIT = 20
CANCELLED_BY = frozenset({"cancelled", "cancelled-by-owner"})

Outcome = Literal[
    "planned", "failed", "cancelled", "withdrawn", "running", "waiting", "skipped", "missed", "due"
]
_OF_RUN: Mapping[str, Outcome] = {
    "committed": "planned",
    "failed": "failed",
    "withdrawn": "withdrawn",
    "open": "running",
    "waiting": "waiting",
}


class TimeDecided(msgspec.Struct, frozen=True):
    """What was decided last about a due time that no run was made for."""

    due_at: datetime
    decision: str
    reason: str | None


class DueTime(msgspec.Struct, frozen=True):
    """A time at which the mission was due, and the one thing that became of it.

    `served_by` is the due time of the run that a missed one was made up for by.
    """

    due_at: datetime
    outcome: Outcome
    requested: bool = False
    reason: str | None = None
    run_id: str | None = None
    served_by: datetime | None = None


class TimeShown(msgspec.Struct, frozen=True, rename="camel"):
    """A due time and what became of it, on the wire."""

    due_at: str
    local: str
    outcome: Outcome
    requested: bool
    reason: str | None
    run_id: str | None
    served_by: str | None


class MissionSchedule(msgspec.Struct, frozen=True, rename="camel"):
    """The past due times, the latest first, and the next."""

    time_zone: str
    past: list[TimeShown]
    next_runs: list[dict[str, str]]


async def get_schedule(request: Request, caller: Caller, owners: Owners) -> Response:
    """What became of each due time of the last 30 days, the latest first, and the next ones."""
    given = query(request, ("limit",))
    limit = whole_number("limit", given.get("limit", str(DEFAULT_LIMIT)), 1, MOST)
    id_ = path_part(request, "mission")
    record, zone, times = await schedule_of(caller, owners, id_)
    language = language_of(request.headers.get("accept-language"), owners.language)
    past = [
        TimeShown(
            due_at=instant_text(one.due_at) or "",
            local=one.due_at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M"),
            outcome=one.outcome,
            requested=one.requested,
            reason=in_words(one.reason, language) or None,
            run_id=one.run_id,
            served_by=instant_text(one.served_by),
        )
        for one in times
    ]
    told = MissionSchedule(zone.key, past[:limit], upcoming(record, zone, 5))
    return answer(msgspec.to_builtins(told))


async def schedule_of(
    caller: Caller, owners: Owners, id_: str
) -> tuple[OwnRecord, ZoneInfo, list[DueTime]]:
    """The mission, its owner's zone, and each due time that is past; raises NoSuchRecord."""
    async with owners.own_log.acting(caller.user, caller.spaces) as own:
        record = await mission_of(own, id_, hold=False)
        zone = await zone_of(own, owners)
        decided = [TimeDecided(*row) for row in await own.decisions(id_, record.now - WINDOWS[0])]
    runs = await owners.runs.runs(caller.user, id_, MOST)
    mission = mission_from_record(record.owner, record.at.id, record.fields)
    planned = _planned(record, mission, zone)
    return record, zone, due_times(planned, runs, decided, waits=slot_of(mission, record.now))


def due_times(
    planned: Sequence[datetime],
    runs: Sequence[OwnRun],
    decided: Sequence[TimeDecided],
    *,
    waits: datetime | None,
) -> list[DueTime]:
    """Each time that was due with exactly one outcome, the latest first.

    `planned` are the times that the cadence said, `decided` what was last decided about a time,
    `waits` is the slot that is due and has no run yet: it makes up for all after it.
    """
    found: dict[datetime, DueTime] = {}
    for run in runs:
        found[run.due_at] = DueTime(
            due_at=run.due_at,
            outcome="cancelled"
            if CANCELLED_BY.intersection(codes_of(run.reason))
            else _OF_RUN[run.state],
            requested=run.requested,
            reason=run.reason,
            run_id=str(run.run_id),
        )
    for one in decided:
        if one.due_at not in found:
            found[one.due_at] = DueTime(one.due_at, "skipped", reason=one.reason)
    if waits is not None and waits not in found:
        found[waits] = DueTime(waits, "due")
    for at in planned:
        if at not in found:
            served = [
                run.due_at
                for run in runs
                if not run.requested
                and run.due_at < at
                and (run.closed_at is None or at <= run.closed_at)
            ]
            served += [] if waits is None or at < waits else [waits]
            found[at] = DueTime(at, "missed", served_by=max(served, default=None))
    return sorted(found.values(), key=attrgetter("due_at"), reverse=True)


def slot_of(mission: Mission, now: datetime) -> datetime | None:
    """The slot of an active mission, if it is due."""
    return mission.next_run_at if is_due(mission, now) else None


def planned_between(
    record: OwnRecord,
    mission: Mission,
    zone: ZoneInfo,
    since: datetime,
    until: datetime,
    most: int = MOST,
) -> list[datetime] | None:
    """The times that the cadence said since it was set and the record's mission is active.

    None where they are more than `most`. An interval is counted from its last run, so that nobody
    can say which times it would have had.
    """
    cadence = mission.cadence
    if mission.state != "active" or cadence is None or isinstance(cadence, Manual | Interval):
        return []
    stamps, created = record.snapshot.stamps, record.fields.get("createdAt")
    known: list[Any] = [stamps.get("cadence"), stamps.get("state"), created]
    instants = [parse_instant(text) for text in known if isinstance(text, str)]
    begun = [datetime_of(one) for one in instants if one is not None]
    at = next_run(cadence, max([since, *begun]), zone)
    listed: list[datetime] = []
    while at is not None and at <= until:
        if len(listed) == most:
            return None
        listed.append(at)
        at = next_run(cadence, at, zone)
    return listed


def _planned(record: OwnRecord, mission: Mission, zone: ZoneInfo) -> list[datetime]:
    """Of a cadence that says many, only the latest: no more than are shown at once."""
    for window in WINDOWS:
        listed = planned_between(record, mission, zone, record.now - window, record.now)
        if listed is not None:
            return listed
    return []
