"""A mission: what became of each due time, what comes next, and each run with why and how much."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from uuid import UUID, uuid4

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.records import mission_from_record
from state.rules.exposure import exposure_allowed
from state.runs.reasons import written_as
from state.store.gateway.own_log import NoSuchRecord, OwnRecord
from state.store.gateway.proposals import ProposalFilter, proposals_in
from state.store.own.runs import OwnCall, OwnIteration, OwnRun, OwnRunDetail
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.operators.control import cancel_own_run
from supervisor.gateway.pages.owner.consent.grants import grant_of
from supervisor.gateway.pages.owner.consent.outcomes import reason_said
from supervisor.gateway.pages.owner.consent.records import record_names
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.inbox import MOST, ProposalShown, proposals_shown
from supervisor.gateway.pages.owner.overview import cadence_of, overview_of, reading, staged
from supervisor.gateway.pages.owner.parts.context import ContextShown, context_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.made.missions import (
    NEXT_RUNS,
    mission_deleted,
    mission_paused,
    mission_resumed,
    run_asked_for,
    upcoming,
)
from supervisor.gateway.people.made.schedule import schedule_of
from supervisor.gateway.people.made.wire import MissionShown, mission_shown
from supervisor.node.models import is_rehearsing

MOST_TIMES, MOST_RUNS, MOST_WHOLE, MOST_READ = 8, 20, 3, 12


class ReadShown(msgspec.Struct, frozen=True):
    """A sealed record that a run asked for, by name, and why it was not opened."""

    name: str
    record: str
    why: str


class ReceiptShown(msgspec.Struct, frozen=True):
    """What one model did for a run, and how far its prompts travelled; no price is None."""

    model: str
    exposure: str
    calls: int
    tokens: int
    cost_micros: int | None


class RunShown(msgspec.Struct, frozen=True, kw_only=True):
    """One run as a page draws it; `whole` is None where only its line is shown."""

    run: OwnRun
    whole: OwnRunDetail | None = None
    iteration: str = ""
    summary: str = ""
    gave_up: bool = False
    feedback: str = ""
    context: list[ContextShown] = []
    proposals: list[ProposalShown] = []
    cost_micros: int = 0
    receipt: list[ReceiptShown] = []


async def get_mission(visit: Visit) -> Response:
    """`/me/missions/{mission}`; `run` opens one of its runs, `times` shows all due times."""
    given = query(visit.request, ("run", "times"))
    return await mission_page(visit, given.get("run"), has_all_times="times" in given)


async def mission_page(
    visit: Visit, wanted: str | None = None, *, has_all_times: bool = False
) -> Response:
    """The page; `wanted` is a run that is shown whole."""
    id_, caller, reader = path_part(visit.request, "mission"), visit.caller, visit.reader
    await staged(visit)
    async with reading(visit) as look:
        owners = look.owners
        record, _, times = await schedule_of(caller, owners, id_)
        runs = await owners.runs.runs(caller.user, id_, MOST_RUNS)
        kept = await owners.runs.iterations(caller.user, id_, MOST_RUNS)
        overview = await overview_of(look)
        whole = dict.fromkeys(run.run_id for run in runs[:MOST_WHOLE])
        if wanted is not None:
            whole[_run_id(wanted)] = None
        async with owners.own_log.acting(caller.user) as own:
            proposals = await proposals_in(own, MOST, ProposalFilter(mission=id_))
        shown = await proposals_shown(look, proposals)
        details = [await owners.runs.run(caller.user, run_id) for run_id in whole]
        reads = await _reads(look, [one for one in details if one is not None])
    by_run = {
        one.run.run_id: one for one in details if one is not None and one.run.mission_id == id_
    }
    if wanted is not None and _run_id(wanted) not in by_run:
        raise NoSuchRecord
    shown_runs = {run.run_id: run for run in [*runs, *(one.run for one in by_run.values())]}
    listed = [] if kept is None else kept[0]
    zone = visit.reader.zone
    mission = mission_shown(record, zone.key, upcoming(record, zone, NEXT_RUNS), [])
    agent = overview.agents.get(mission.agent_id)
    return page(
        reader,
        "owner/mission.html",
        mission=mission,
        agent=overview.agent_name(mission.agent_id),
        has_agent=agent is not None,
        is_still=agent is not None and agent.state != "active",
        cadence=cadence_of(mission),
        times=times if has_all_times else times[:MOST_TIMES],
        all_times=len(times),
        runs=[
            _run(run, by_run.get(run.run_id), listed, shown, mission, record=record, reader=reader)
            for run in shown_runs.values()
        ],
        reads=reads,
        goes_to=exposure_allowed(record.fields, visit.owners.exposure),
        wanted=wanted,
        without_run=_without_run(listed, shown),
        here=f"/me/missions/{segment(id_)}",
        now=reader.now,
        grants=await grant_of(visit, id_),
        rehearses=is_rehearsing(visit.deps.settings),
    )


async def post_mission(visit: Visit) -> Response:
    """What a button of the page says."""
    query(visit.request, ())
    id_, verb = path_part(visit.request, "mission"), path_part(visit.request, "verb")
    form = visit.form
    if verb == "run":
        await run_asked_for(visit.caller, visit.owners, id_, form.get("key") or str(uuid4()))
    elif verb == "cancel":
        await cancel_own_run(visit.deps, visit.caller.user, _run_id(form.get("run", "")))
    elif verb == "feedback":
        words = form.get("words", "").replace("\r\n", "\n").strip()
        if not words:
            raise BadRequest("words", "are missing")
        store, asked_ = await inbox_of(visit.caller, visit.owners)
        if not await store.comment(asked_, id_, form.get("iteration", ""), words):
            raise NoSuchRecord
    else:
        log, owners = visit.owners.own_log, visit.owners
        async with log.acting(visit.caller.user, visit.caller.spaces) as own:
            match verb:
                case "pause":
                    await mission_paused(own, owners, id_)
                case "resume":
                    await mission_resumed(own, owners, id_)
                case "delete":
                    await mission_deleted(own, id_)
                    return seen("/me/agents")
                case _:
                    raise BadRequest("verb", "is not known here")
    return seen(f"/me/missions/{segment(id_)}")


async def _reads(visit: Visit, runs: list[OwnRunDetail]) -> dict[UUID, list[ReadShown]]:
    """By run, the first records that it asked for."""
    asked = {one.run.run_id: one.readings[:MOST_READ] for one in runs}
    wanted = [(each.table_name, each.record_id) for some in asked.values() for each in some]
    names = await record_names(visit, wanted)
    return {
        run: [
            ReadShown(
                names[each.table_name, each.record_id],
                f"{each.table_name}:{each.record_id}",
                reason_said(each.reason, visit.reader),
            )
            for each in some
        ]
        for run, some in asked.items()
    }


def _run_id(text: str) -> UUID:
    """A run's id; of what is none there is no run."""
    try:
        return UUID(text)
    except ValueError:
        raise NoSuchRecord from None


def _run(
    run: OwnRun,
    whole: OwnRunDetail | None,
    iterations: list[OwnIteration],
    shown: dict[str, ProposalShown],
    mission: MissionShown,
    record: OwnRecord,
    reader: Reader,
) -> RunShown:
    """A run with what its iteration says and what became of its steps."""
    found = next((one.iteration for one in iterations if one.run_id == run.run_id), None)
    if found is None and run.iteration_id is not None:
        listed = (one.iteration for one in iterations)
        found = next((one for one in listed if one.get("id") == run.iteration_id), None)
    id_ = None if found is None else found.get("id")
    summary, gave_up = ("", False) if found is None else summary_of(found, run.reason)
    now = mission_from_record(record.owner, record.at.id, record.fields).iterations
    feedback = next((one.get("userFeedback") for one in now if id_ and one.get("id") == id_), "")
    return RunShown(
        run=run,
        whole=whole,
        iteration=id_ if isinstance(id_, str) else "",
        feedback=feedback if isinstance(feedback, str) else "",
        context=[] if whole is None else context_of(whole, mission, record, reader),
        summary=summary,
        gave_up=gave_up,
        proposals=sorted(
            (one for one in shown.values() if id_ and one.proposal.iteration_id == id_),
            key=_step,
        ),
        cost_micros=0 if whole is None else sum(one.cost_micros or 0 for one in whole.calls),
        receipt=[] if whole is None else receipt_of(whole.calls),
    )


def receipt_of(calls: list[OwnCall]) -> list[ReceiptShown]:
    """By model that answered, in the order of their first answers."""
    by_model: defaultdict[tuple[str, str], list[OwnCall]] = defaultdict(list)
    for one in calls:
        if one.ended_at is not None and one.model:
            by_model[f"{one.provider}/{one.model}", one.exposure or ""].append(one)
    lines: list[ReceiptShown] = []
    for (model, exposure), each in by_model.items():
        prices = [one.cost_micros for one in each if one.cost_micros is not None]
        cost = sum(prices) if len(prices) == len(each) else None
        lines.append(
            ReceiptShown(model, exposure, len(each), sum(one.tokens for one in each), cost)
        )
    return lines


def summary_of(iteration: dict[str, Any], reason: str | None) -> tuple[str, bool]:
    """What an iteration says, and whether it is what the model said as our run gave up.

    Ours begin with the run's reason in the server's language: the page says it in the reader's.
    """
    summary = iteration.get("summary")
    if not isinstance(summary, str):
        return "", False
    if (
        reason
        and iteration.get("source") == "server"
        and iteration.get("overallStatus") == "failed"
    ):
        return summary.partition("\n\n")[2], True
    return summary, False


def _without_run(
    iterations: list[OwnIteration], shown: dict[str, ProposalShown]
) -> list[dict[str, Any]]:
    """Plans whose run is not kept: of devices, or of before.

    Of one that failed here, the reason was written in the server's language.
    """
    by_plan: defaultdict[str, list[ProposalShown]] = defaultdict(list)
    for one in shown.values():
        by_plan[one.proposal.iteration_id].append(one)
    return [
        {
            "id": str(one.iteration.get("id") or ""),
            "at": str(one.iteration.get("startedAt") or ""),
            "reason": reason,
            "summary": words if reason else str(one.iteration.get("summary") or ""),
            "proposals": sorted(by_plan.get(str(one.iteration.get("id")), []), key=_step),
        }
        for one, (reason, words) in ((each, _failure_of(each.iteration)) for each in iterations)
        if one.run_id is None
    ]


def _failure_of(iteration: dict[str, Any]) -> tuple[str | None, str]:
    """Why a plan of ours failed, as rows keep it, and what the model said then."""
    said, _, words = str(iteration.get("summary") or "").partition("\n\n")
    is_ours = iteration.get("source") == "server" and iteration.get("overallStatus") == "failed"
    return (written_as(said) if is_ours else None), words


def _step(one: ProposalShown) -> str:
    return one.proposal.step_id
