"""What a mission's runs brought: its iterations, and each run with why, what and how much."""

from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.runs.reasons import Language, codes_of, in_short, in_words, label, language_of
from state.store.own.runs import OlderPlace, OwnRun
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, path_part, query, whole_number
from supervisor.gateway.api.problems import ApiProblem
from supervisor.gateway.cursors import Moment, cursor, read_cursor
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.reading.wire import (
    CallTold,
    DecisionTold,
    IterationList,
    IterationTold,
    ReadingTold,
    RunDetail,
    RunList,
    RunTold,
)
from supervisor.gateway.people.requests import once_folded


class RunPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a list of runs goes on: when the last one told was due."""

    due_at: Moment


NO_MISSION = ApiProblem(404, "you have no such mission")
NO_RUN = ApiProblem(404, "you have no such run")


async def get_iterations(request: Request, caller: Caller, owners: Owners) -> Response:
    """A mission's iterations, the newest first."""
    mission = path_part(request, "mission")
    given = query(request, ("after", "limit"))
    limit = whole_number("limit", given.get("limit", "20"), 1, 200)
    before = read_cursor(given["after"], OlderPlace, "after") if "after" in given else None
    found = await owners.runs.iterations(caller.user, mission, limit, before)
    if found is None:
        raise NO_MISSION
    told, more = found
    items = [
        IterationTold(
            iteration=each.iteration, run_id=None if each.run_id is None else str(each.run_id)
        )
        for each in told
    ]
    return answer(IterationList(items=items, after=None if more is None else cursor(more)))


async def get_runs(request: Request, caller: Caller, owners: Owners) -> Response:
    """A mission's runs, the latest occurrence first."""
    mission = path_part(request, "mission")
    given = query(request, ("after", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    before = read_cursor(given["after"], RunPlace, "after") if "after" in given else None
    found = await owners.runs.runs(caller.user, mission, limit, before and before.due_at)
    language = language_of(request.headers.get("accept-language"), owners.language)
    return answer(
        RunList(
            items=[_run(each, language) for each in found],
            after=cursor(RunPlace(found[-1].due_at)) if len(found) == limit else None,
        )
    )


async def get_run(request: Request, caller: Caller, owners: Owners) -> Response:
    """One run: why it woke, what was decided, each call to a model, what it read and what it cost.

    Reasons are in the language that the request accepts, else in the deployment's.
    """
    query(request, ())
    found = await owners.runs.run(caller.user, run_id(request))
    if found is None:
        raise NO_RUN
    language = language_of(request.headers.get("accept-language"), owners.language)
    return answer(
        RunDetail(
            **msgspec.structs.asdict(_run(found.run, language)),
            cost_micros=sum(call.cost_micros or 0 for call in found.calls if call.ended_at),
            calls=[
                CallTold(
                    number=each.number,
                    state="under-way" if each.ended_at is None else "ended",
                    began_at=instant_text(each.began_at),
                    ended_at=instant_text(each.ended_at),
                    tokens=each.tokens,
                    cost_micros=each.cost_micros,
                    provider=each.provider,
                    model=each.model,
                    exposure=each.exposure,
                    cached_tokens=each.cached_tokens,
                    wasted_tokens=each.wasted_tokens,
                    completion_tokens=each.completion_tokens,
                    took_ms=each.took_ms,
                    tools=list(each.tools),
                    refused=list(each.refused),
                    parts=each.parts,
                    inputs=list(each.inputs),
                )
                for each in found.calls
            ],
            decisions=[
                DecisionTold(
                    decision=each.decision,
                    decision_text=label(each.decision, language),
                    reason=in_short(each.reason, language) or None,
                    reason_text=in_words(each.reason, language) or None,
                    reason_codes=codes_of(each.reason),
                    at=_at(each.at),
                )
                for each in found.decisions
            ],
            read=[
                ReadingTold(
                    table=each.table_name,
                    record=each.record_id,
                    status=each.status,
                    reason=each.reason,
                    at=_at(each.ts),
                )
                for each in found.readings
            ],
        )
    )


async def require_mission(owners: Owners, caller: Caller, mission: str) -> None:
    """Raises ApiProblem (404) where the person has no such mission, also not in a moment."""
    if not await once_folded(partial(owners.view.has_mission, caller.user, mission)):
        raise NO_MISSION


def run_id(request: Request) -> UUID:
    """The run in the path; one that is no id is nobody's."""
    try:
        return UUID(path_part(request, "run"))
    except ValueError:
        raise NO_RUN from None


def _run(of: OwnRun, language: Language) -> RunTold:
    return RunTold(
        run_id=str(of.run_id),
        mission_id=of.mission_id,
        agent_id=of.agent_id,
        due_at=_at(of.due_at),
        woken_by="request" if of.requested else "schedule",
        state=of.state,
        state_text=label(of.state, language),
        reason=in_short(of.reason, language) or None,
        reason_text=in_words(of.reason, language) or None,
        reason_codes=codes_of(of.reason),
        attempt=of.attempt,
        failures=of.failures,
        lost=of.lost,
        waiting_for=of.waiting_for,
        not_before=instant_text(of.not_before),
        stop_reason=of.stop_reason,
        iteration_id=of.iteration_id,
        steps=of.steps,
        tokens=of.tokens,
        opened_at=_at(of.opened_at),
        claimed_at=_at(of.claimed_at),
        closed_at=instant_text(of.closed_at),
    )


def _at(moment: datetime) -> str:
    return instant_text(moment) or ""
