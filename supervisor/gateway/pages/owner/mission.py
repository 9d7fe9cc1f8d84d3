"""A mission: what became of each due time, what comes next, and each run with why and how much."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any
from uuid import uuid4

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.store.gateway.own_log import OwnRecord
from state.store.gateway.proposals import ProposalFilter
from state.store.own.runs import OwnIteration, OwnRun, OwnRunDetail
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.inbox import MOST, ProposalShown, proposals_shown
from supervisor.gateway.pages.owner.overview import cadence_of, overview_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.made.missions import (
    mission_changed,
    mission_paused,
    mission_resumed,
    run_asked_for,
    upcoming,
)
from supervisor.gateway.people.made.schedule import schedule_of
from supervisor.gateway.people.made.wire import MissionFields, mission_shown

MOST_TIMES, MOST_RUNS, MOST_WHOLE = 8, 20, 3
EDITED = ("title", "objective", "every")


class RunShown(msgspec.Struct, frozen=True, kw_only=True):
    """One run as a page draws it; `whole` is None where only its line is shown."""

    run: OwnRun
    whole: OwnRunDetail | None = None
    summary: str = ""
    proposals: list[ProposalShown] = []
    cost_micros: int = 0


async def get_mission(visit: Visit) -> Response:
    """`/me/missions/{mission}`; `run` opens one of its runs."""
    given = query(visit.request, ("run",))
    return await mission_page(visit, given.get("run"))


async def mission_page(visit: Visit, wanted: str | None = None) -> Response:
    """The page; `wanted` is a run that is shown whole."""
    id_, owners, caller = path_part(visit.request, "mission"), visit.owners, visit.caller
    store, asked = await inbox_of(caller, owners)
    await store.stage_all(asked)
    record, _, times = await schedule_of(caller, owners, id_)
    runs, iterations, proposals, overview = await asyncio.gather(
        owners.runs.runs(caller.user, id_, MOST_RUNS),
        owners.runs.iterations(caller.user, id_, MOST_RUNS),
        store.list(caller.user, MOST, ProposalFilter(mission=id_)),
        overview_of(visit),
    )
    whole = [str(run.run_id) for run in runs[:MOST_WHOLE]] + ([wanted] if wanted else [])
    details = await asyncio.gather(
        *(owners.runs.run(caller.user, run.run_id) for run in runs if str(run.run_id) in whole)
    )
    by_run = {one.run.run_id: one for one in details if one is not None}
    listed = [] if iterations is None else iterations[0]
    shown = await proposals_shown(visit, proposals)
    mission = _told(visit, record)
    return page(
        visit.reader,
        "owner/mission.html",
        mission=mission,
        agent=overview.agent_name(mission.agent_id),
        cadence=cadence_of(mission),
        times=times[:MOST_TIMES],
        runs=[_run(run, by_run.get(run.run_id), listed, shown) for run in runs],
        is_live=any(run.state in ("open", "waiting") for run in runs),
        without_run=_without_run(listed, shown),
        here=f"/me/missions/{segment(id_)}",
    )


async def post_mission(visit: Visit) -> Response:
    """What a button of the page says."""
    query(visit.request, ())
    id_, verb = path_part(visit.request, "mission"), path_part(visit.request, "verb")
    if verb == "run":
        await run_asked_for(visit.caller, visit.owners, id_, visit.form.get("key") or str(uuid4()))
    else:
        log, owners = visit.owners.own_log, visit.owners
        async with log.acting(visit.caller.user, visit.caller.spaces) as own:
            match verb:
                case "pause":
                    await mission_paused(own, owners, id_)
                case "resume":
                    await mission_resumed(own, owners, id_)
                case "edit":
                    given = {name: visit.form[name] for name in EDITED if name in visit.form}
                    asked = form_as(given, MissionFields)
                    await mission_changed(own, owners, id_, asked, visit.form.get("version"))
                case _:
                    raise BadRequest("verb", "is not known here")
    return seen(f"/me/missions/{segment(id_)}")


def _told(visit: Visit, record: OwnRecord) -> Any:
    zone = visit.reader.zone
    return mission_shown(record, zone.key, upcoming(record, zone, 5), [])


def _run(
    run: OwnRun,
    whole: OwnRunDetail | None,
    iterations: list[OwnIteration],
    shown: dict[str, ProposalShown],
) -> RunShown:
    """A run with what its iteration says and what became of its steps."""
    found = next((one.iteration for one in iterations if one.run_id == run.run_id), None)
    if found is None and run.iteration_id is not None:
        listed = (one.iteration for one in iterations)
        found = next((one for one in listed if one.get("id") == run.iteration_id), None)
    id_ = None if found is None else found.get("id")
    summary = "" if found is None else found.get("summary")
    return RunShown(
        run=run,
        whole=whole,
        summary=summary if isinstance(summary, str) else "",
        proposals=sorted(
            (one for one in shown.values() if id_ and one.proposal.iteration_id == id_),
            key=_step,
        ),
        cost_micros=0 if whole is None else sum(one.cost_micros or 0 for one in whole.calls),
    )


def _without_run(
    iterations: list[OwnIteration], shown: dict[str, ProposalShown]
) -> list[dict[str, Any]]:
    """Plans that no run of ours made: of devices, or of before."""
    by_plan: defaultdict[str, list[ProposalShown]] = defaultdict(list)
    for one in shown.values():
        by_plan[one.proposal.iteration_id].append(one)
    return [
        {
            "id": str(one.iteration.get("id") or ""),
            "at": str(one.iteration.get("startedAt") or ""),
            "summary": str(one.iteration.get("summary") or ""),
            "proposals": sorted(by_plan.get(str(one.iteration.get("id")), []), key=_step),
        }
        for one in iterations
        if one.run_id is None
    ]


def _step(one: ProposalShown) -> str:
    return one.proposal.step_id
