"""`GET /api/v1/me/ai-missions`: why my missions ran or did not."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.grant import grant_status
from state.log.stamps import format_instant, instant_of
from state.runs.reasons import Language, label, language_of
from state.store.owner import OwnMission
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, query, whole_number, why
from supervisor.gateway.people.owners import Owners

DEFAULT_LIMIT, MAX_LIMIT = 100, 200


async def get_missions(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own missions by id, without their texts; `after`, given back, continues the list.

    Reasons are in the language that the request accepts, else in the deployment's.
    """
    given = query(request, ("missionId", "after", "limit"))
    limit = whole_number("limit", given.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
    wanted = given.get("after"), given.get("missionId")
    found = await owners.view.missions(caller.user, limit, *wanted)
    more = found[-1].mission_id if len(found) == limit else None
    language = language_of(request.headers.get("accept-language"), owners.language)
    return answer({"missions": [_mission(one, language) for one in found], "after": more})


def _mission(of: OwnMission, language: Language) -> dict[str, Any]:
    grant, end = grant_status(of.grant, of.mission_id, instant_of(of.now))
    last_run = {
        "runId": of.run_id,
        "state": of.run_state,
        "dueAt": instant_text(of.run_due_at),
        "endedAt": instant_text(of.run_ended_at),
        **why(of.run_reason, language),
        "iterationId": of.iteration_id,
    }
    live_run = {
        "runId": of.live_id,
        "state": of.live_state,
        "dueAt": instant_text(of.live_due_at),
        "attempt": of.live_attempt,
        "waitingFor": of.waiting_for,
        "notBefore": instant_text(of.not_before),
        **why(of.live_reason, language),
    }
    return {
        "missionId": of.mission_id,
        "agentId": of.agent_id,
        "state": of.state,
        "nextRunAt": instant_text(of.next_run_at),
        "decision": of.decision,
        "decisionText": label(of.decision, language) or None,
        **why(of.reason, language),
        "decidedAt": instant_text(of.decided_at),
        "lookAgainAt": instant_text(of.wake_at),
        "lastRun": None if of.run_id is None else last_run,
        "liveRun": None if of.live_id is None else live_run,
        "grant": {
            "state": grant,
            "expiresAt": None if end is None else format_instant(end),
            "recordCount": of.records,
        },
    }
