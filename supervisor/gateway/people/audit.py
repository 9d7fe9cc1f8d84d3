"""`GET /api/v1/me/ai-audit`: which granted records of mine were looked at."""

import math
from datetime import datetime
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.store.owner import AuditFilter
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, instant_text, query, whole_number
from supervisor.gateway.cursors import Moment, cursor, not_a_cursor, read_cursor
from supervisor.gateway.people.owners import Owners

DEFAULT_LIMIT, MAX_LIMIT = 200, 1000
MAX_KEY_CHARS = 64
AuditPlace = tuple[datetime, str]
OpeningPlace = tuple[Moment, UUID]


async def get_audit(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own rows, the newest first; `before`, given back, continues the list."""
    given = request.query_params
    mission = checked_id("missionId", given["missionId"]) if given.get("missionId") else None
    before = None
    if given.get("before"):
        before = read_cursor(given["before"], AuditPlace)
        if before[0].tzinfo is None or "\0" in before[1] or len(before[1]) > MAX_KEY_CHARS:
            raise not_a_cursor()
    limit = limit_of(given.get("limit"))
    rows = await owners.view.trail(caller.user, AuditFilter(mission=mission), limit, before)
    told = [
        {
            "id": row.id,
            "missionId": row.mission_id,
            "iterationId": row.iteration_id,
            "tableName": row.table_name,
            "recordId": row.record_id,
            "status": row.status,
            "reason": row.reason,
            "ts": instant_text(row.ts),
            "agentId": row.agent_id,
            "runId": row.run_id,
            "attempt": row.attempt,
            "releaseId": row.release_id,
            "releasedAt": instant_text(row.released_at),
            "granted": row.granted,
        }
        for row in rows
    ]
    more = cursor((rows[-1].ts, rows[-1].key)) if len(rows) == limit else None
    return answer({"rows": told, "before": more})


async def get_openings(request: Request, caller: Caller, owners: Owners) -> Response:
    """Operators who opened texts of mine, the newest first; `after` continues the list."""
    given = query(request, ("after", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    after = read_cursor(given["after"], OpeningPlace, "after") if "after" in given else None
    found = await owners.openings.list(caller.user, limit, after)
    told = [
        {
            "id": str(one.opening_id),
            "agentId": one.agent_id,
            "runId": None if one.run_id is None else str(one.run_id),
            "reason": one.reason,
            "by": one.opened_by,
            "address": one.address,
            "at": instant_text(one.at),
            "endsAt": instant_text(one.ends_at),
            "isNew": one.is_new,
        }
        for one in found
    ]
    more = cursor((found[-1].at, found[-1].opening_id)) if len(found) == limit else None
    return answer({"items": told, "after": more})


def limit_of(text: str | None) -> int:
    """How many rows: a number clamped to 1…1000, 200 for anything else."""
    try:
        asked = float(text or "")
    except ValueError:
        return DEFAULT_LIMIT
    return DEFAULT_LIMIT if math.isnan(asked) else int(min(max(asked, 1), MAX_LIMIT))
