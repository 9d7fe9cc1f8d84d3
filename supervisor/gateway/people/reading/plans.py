"""What a mission's runs brought: its iterations, and each run with why, what and how much."""

from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from state.runs.reasons import Language, label, language_of
from state.store.own.runs import OlderPlace, OwnCall, OwnRun, OwnRunDetail
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, path_part, query, whole_number, why
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.people.owners import Owners

NO_MISSION = BadRequest("mission", "is none of yours", 404)
NO_RUN = BadRequest("run", "is none of yours", 404)


async def get_iterations(request: Request, caller: Caller, owners: Owners) -> Response:
    """A mission's iterations as they are stored, the newest first; `before` continues the list.

    What was made of encrypted inputs is sealed in them, for its owner's client to open.
    """
    mission = path_part(request, "mission")
    given = query(request, ("before", "limit"))
    limit = whole_number("limit", given.get("limit", "20"), 1, 100)
    before = read_cursor(given["before"], OlderPlace) if "before" in given else None
    found = await owners.runs.iterations(caller.user, mission, limit, before)
    if found is None:
        raise NO_MISSION
    told, more = found
    return answer(
        {
            "iterations": [
                {**each.iteration, "runId": None if each.run_id is None else str(each.run_id)}
                for each in told
            ],
            "before": None if more is None else cursor(more),
        }
    )


async def get_runs(request: Request, caller: Caller, owners: Owners) -> Response:
    """A mission's runs, the latest occurrence first; `before` continues the list."""
    mission = path_part(request, "mission")
    given = query(request, ("before", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    before = read_cursor(given["before"], OlderPlace) if "before" in given else None
    found = await owners.runs.runs(
        caller.user, mission, limit, None if before is None else before.logged_at
    )
    language = language_of(request.headers.get("accept-language"), owners.language)
    more = OlderPlace("", "", found[-1].due_at) if len(found) == limit else None
    return answer(
        {
            "runs": [_run(each, language) for each in found],
            "before": None if more is None else cursor(more),
        }
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
    return answer(_detail(found, language))


def run_id(request: Request) -> UUID:
    """The run in the path; one that is no id is nobody's."""
    try:
        return UUID(path_part(request, "run"))
    except ValueError:
        raise NO_RUN from None


def _detail(of: OwnRunDetail, language: Language) -> dict[str, Any]:
    costs = [call.cost_micros for call in of.calls if call.ended_at is not None]
    return {
        **_run(of.run, language),
        "costMicros": sum(cost for cost in costs if cost is not None),
        "calls": [_call(each) for each in of.calls],
        "decisions": [
            {
                "decision": each.decision,
                "decisionText": label(each.decision, language),
                **why(each.reason, language),
                "at": instant_text(each.at),
            }
            for each in of.decisions
        ],
        "read": [
            {
                "table": each.table_name,
                "record": each.record_id,
                "status": each.status,
                "reason": each.reason,
                "at": instant_text(each.ts),
            }
            for each in of.readings
        ],
    }


def _run(of: OwnRun, language: Language) -> dict[str, Any]:
    return {
        "runId": str(of.run_id),
        "missionId": of.mission_id,
        "agentId": of.agent_id,
        "dueAt": instant_text(of.due_at),
        "wokenBy": "request" if of.requested else "schedule",
        "state": of.state,
        "stateText": label(of.state, language),
        **why(of.reason, language),
        "attempt": of.attempt,
        "failures": of.failures,
        "lost": of.lost,
        "waitingFor": of.waiting_for,
        "notBefore": instant_text(of.not_before),
        "stopReason": of.stop_reason,
        "iterationId": of.iteration_id,
        "steps": of.steps,
        "tokens": of.tokens,
        "openedAt": instant_text(of.opened_at),
        "claimedAt": instant_text(of.claimed_at),
        "closedAt": instant_text(of.closed_at),
    }


def _call(of: OwnCall) -> dict[str, Any]:
    return {
        "number": of.number,
        "state": "under-way" if of.ended_at is None else "ended",
        "beganAt": instant_text(of.began_at),
        "endedAt": instant_text(of.ended_at),
        "tokens": of.tokens,
        "costMicros": of.cost_micros,
        "provider": of.provider,
        "model": of.model,
        "exposure": of.exposure,
        "cachedTokens": of.cached_tokens,
        "wastedTokens": of.wasted_tokens,
        "tools": list(of.tools),
    }
