"""`POST /internal/tick`: ask for a scan, and wait for it a bounded while or come back later."""

import asyncio
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from supervisor.gateway.answers import failure, path_part, query, whole_number
from supervisor.gateway.deps import Deps
from supervisor.gateway.supervisor import Supervisor, asked
from supervisor.supervision.ticks import TickReport

MAX_WAIT_S = 8
POLL_S = 0.05


async def post_tick(request: Request, deps: Deps) -> Response:
    """202 with an id, or with `?wait=S` the stats once the scan is over."""
    given = query(request, ("wait",))
    wait_s = whole_number("wait", given["wait"], 0, MAX_WAIT_S) if "wait" in given else 0
    tick_id = await asked(deps.supervisor.tick())
    give_up = time.monotonic() + wait_s
    report: TickReport | None = None
    while wait_s and time.monotonic() < give_up:
        report = await _report(deps.supervisor, tick_id)
        if report is None or report.state != "running":
            break
        await asyncio.sleep(POLL_S)
    if report is None or report.state == "running":
        return answer({"id": tick_id}, 202, {"Location": f"/internal/tick/{tick_id}"})
    return answer(report.stats, 200 if report.state == "done" else 503)


async def get_tick(request: Request, deps: Deps) -> Response:
    """How a tick that was asked for is doing."""
    report = await _report(deps.supervisor, path_part(request, "id"))
    return failure(404, "no such tick", "id") if report is None else answer(report)


async def _report(supervisor: Supervisor, tick_id: str) -> TickReport | None:
    raw = await asked(supervisor.tick_status(tick_id))
    if raw is None:
        return None
    try:
        return msgspec.convert(raw, TickReport)
    except msgspec.ValidationError as exc:
        raise BadRequest("tick", "the supervisor's report is malformed", 502) from exc
