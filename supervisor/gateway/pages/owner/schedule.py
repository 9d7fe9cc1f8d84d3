"""A day or a week of all missions: what became of each due time, and what comes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from state.log.cadence import next_run
from state.log.records import Mission, mission_from_record
from state.store.gateway.own_log import OwnRecord
from state.store.own.runs import OwnDecided, OwnRun
from supervisor.gateway.answers import query
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import MOST, Overview, overview_from, reading
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.people.made.schedule import (
    DueTime,
    TimeDecided,
    due_times,
    planned_between,
    slot_of,
)

MOST_ROWS = 2000
MOST_TIMES = 100
"""Due times of one mission that are told one by one; of more, only what there are rows of."""
MOST_LINES = 140
FOLDED_FROM = 4
"""So many times of a mission on one day become a line with counts."""
BEFORE = timedelta(days=2)
FARTHEST = timedelta(days=366)


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One due time; `outcome` None: it is still to come."""

    at: datetime
    mission: str
    title: str
    outcome: str | None
    reason: str | None = None
    requested: bool = False
    run_id: str | None = None
    served_by: datetime | None = None


class FoldedLine(msgspec.Struct, frozen=True):
    """Many times of one mission on a day: the first and last, and how many came to what."""

    first: datetime
    last: datetime
    mission: str
    title: str
    counts: list[tuple[str | None, int]]


class DayShown(msgspec.Struct, frozen=True):
    """A day with its lines by time, and how many more there are."""

    at: datetime
    is_today: bool
    lines: list[TimeLine | FoldedLine]
    more: int


async def get_schedule(visit: Visit) -> Response:
    """`/me/schedule`: this week, the week of `week`, or the day `day`."""
    given = query(visit.request, ("week", "day"))
    reader = visit.reader
    today = reader.now.astimezone(reader.zone).date()
    if "day" in given:
        view, first, days, most = "day", _date("day", given["day"], today), 1, MOST_LINES
    else:
        wanted = _date("week", given["week"], today) if "week" in given else today
        first = wanted - timedelta(days=wanted.weekday())
        view, days, most = "week", 7, MOST_LINES // 7
    since, until = midnight(first, reader), midnight(first + timedelta(days=days), reader)
    async with reading(visit) as look:
        user = visit.caller.user
        async with look.owners.own_log.acting(user) as own:
            agents = await own.records("agents", MOST)
            missions = await own.records("aiMissions", MOST)
        runs, decided = await look.owners.runs.between(user, since - BEFORE, until, MOST_ROWS)
    overview = overview_from(agents, missions, reader)
    by_day: defaultdict[date, list[TimeLine]] = defaultdict(list)
    for line in lines_between(missions, runs, decided, overview, reader, since=since, until=until):
        by_day[line.at.astimezone(reader.zone).date()].append(line)
    shown = [first + timedelta(days=at) for at in range(days)]
    step = timedelta(days=days)
    return page(
        reader,
        "owner/schedule.html",
        view=view,
        days=[_day(day, by_day[day], reader, most) for day in shown],
        first=since,
        last=until - timedelta(hours=12),
        today=today.isoformat(),
        of_day=(today if first <= today < first + step else first).isoformat(),
        of_week=first.isoformat(),
        before=(first - step).isoformat(),
        after=(first + step).isoformat(),
        is_now=first <= today < first + step,
        still=_still(overview),
        overview=overview,
    )


def lines_between(
    missions: Sequence[OwnRecord],
    runs: Sequence[OwnRun],
    decided: Sequence[OwnDecided],
    overview: Overview,
    reader: Reader,
    since: datetime,
    until: datetime,
) -> list[TimeLine]:
    """Each due time of a span with exactly one outcome, and those to come, by time."""
    runs_of: defaultdict[str, list[OwnRun]] = defaultdict(list)
    decided_of: defaultdict[str, list[TimeDecided]] = defaultdict(list)
    for run in runs:
        runs_of[run.mission_id].append(run)
    for one in decided:
        decided_of[one.mission_id].append(TimeDecided(one.due_at, one.decision, one.reason))
    lines: list[TimeLine] = []
    for record in missions:
        shown = overview.missions.get(record.at.id)
        if shown is None:
            continue
        title, id_ = overview.title(record.at.id, reader), record.at.id
        until_now = min(until, record.now)
        mission = mission_from_record(record.owner, id_, record.fields)
        planned = planned_between(record, mission, reader.zone, since, until_now, MOST_TIMES) or []
        waits = slot_of(mission, record.now)
        past = due_times(planned, runs_of[id_], decided_of[id_], waits=waits)
        lines += [_past(one, id_, title) for one in past if since <= one.due_at < until]
        if shown.state == "active" and overview.is_at_work(shown.agent_id):
            lines += [
                TimeLine(at=at, mission=id_, title=title, outcome=None)
                for at in _coming(mission, record.now, reader.zone, since, until)
            ]
    return sorted(lines, key=_at)


def midnight(day: date, reader: Reader) -> datetime:
    """When a day begins on the reader's clock."""
    return datetime.combine(day, time(), reader.zone)


def _coming(
    mission: Mission, now: datetime, zone: ZoneInfo, since: datetime, until: datetime
) -> list[datetime]:
    """The times of an active mission that are still to come, as far as they are told."""
    at = mission.next_run_at
    found: list[datetime] = []
    while at is not None and at < until and len(found) < MOST_TIMES:
        if at >= since and at > now:
            found.append(at)
        at = (
            None
            if mission.cadence is None
            else next_run(mission.cadence, max(at, now, since - BEFORE), zone)
        )
    return found


def _past(one: DueTime, mission: str, title: str) -> TimeLine:
    return TimeLine(
        at=one.due_at,
        mission=mission,
        title=title,
        outcome=one.outcome,
        reason=one.reason,
        requested=one.requested,
        run_id=one.run_id,
        served_by=one.served_by,
    )


def _day(day: date, lines: Sequence[TimeLine], reader: Reader, most: int) -> DayShown:
    """The lines of a day, at most so many; a mission that is due often is one of them."""
    by_mission: defaultdict[str, list[TimeLine]] = defaultdict(list)
    for one in lines:
        by_mission[one.mission].append(one)
    shown: list[TimeLine | FoldedLine] = []
    for mission, times in by_mission.items():
        if len(times) < FOLDED_FROM:
            shown += times
        else:
            counts = Counter(one.outcome for one in times).most_common()
            shown.append(FoldedLine(times[0].at, times[-1].at, mission, times[0].title, counts))
    is_today = day == reader.now.astimezone(reader.zone).date()
    return DayShown(
        midnight(day, reader), is_today, sorted(shown, key=_at)[:most], max(0, len(shown) - most)
    )


def _at(one: TimeLine | FoldedLine) -> datetime:
    return one.at if isinstance(one, TimeLine) else one.first


def _still(overview: Overview) -> list[str]:
    """Missions that are planned at no time, because they or their agents are paused."""
    return [
        one.id
        for one in overview.missions.values()
        if one.state == "paused"
        or (one.state == "active" and not overview.is_at_work(one.agent_id))
    ]


def _date(field: str, text: str, today: date) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise BadRequest(field, "is not a date like 2026-11-28") from None
    if abs(found - today) > FARTHEST:
        raise BadRequest(field, "is more than a year away")
    return found
