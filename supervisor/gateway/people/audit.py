"""`GET /api/v1/me/ai-audit` (grants-auth §3): which granted records of mine were looked at."""

import base64
import binascii
import math
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from state.store.owner import AuditRow
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, instant_text
from supervisor.gateway.people.owners import Owners

DEFAULT_LIMIT, MAX_LIMIT = 200, 1000
MAX_KEY_CHARS = 64
Key = tuple[datetime, str]


async def get_audit(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own rows, the newest first; `before`, given back, continues the list."""
    given = request.query_params
    mission = checked_id("missionId", given["missionId"]) if given.get("missionId") else None
    before = _read_cursor(given["before"]) if given.get("before") else None
    limit = limit_of(given.get("limit"))
    rows = await owners.view.trail(caller.user, mission, limit, before)
    more = _cursor((rows[-1].ts, rows[-1].key)) if len(rows) == limit else None
    return answer({"rows": [_shown(row) for row in rows], "before": more})


def limit_of(text: str | None) -> int:
    """How many rows: a number clamped to 1…1000, 200 for anything else."""
    try:
        asked = float(text or "")
    except ValueError:
        return DEFAULT_LIMIT
    return DEFAULT_LIMIT if math.isnan(asked) else int(min(max(asked, 1), MAX_LIMIT))


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
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


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode()


def _read_cursor(text: str) -> Key:
    try:
        key = msgspec.json.decode(base64.b64decode(text, b"-_", validate=True), type=Key)
    except (msgspec.MsgspecError, binascii.Error, ValueError) as exc:
        raise BadRequest("before", "is not a cursor of this list") from exc
    if key[0].tzinfo is None or "\0" in key[1] or len(key[1]) > MAX_KEY_CHARS:
        raise BadRequest("before", "is not a cursor of this list")
    return key
