"""One run as operators see it: when and why it woke, what it cost, what was decided. No texts."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from state.store.gateway.fleet import Filter
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing, run_id_of

DECISIONS = 50


async def run_values(deps: Deps, request: Request) -> dict[str, Any]:
    """`/runs/{run}`; raises Missing."""
    query(request, ())
    run = await deps.fleet.run(run_id_of(path_part(request, "run")))
    if run is None:
        raise Missing("run", "no such run")
    about = Filter(user=run.user_id, mission=run.mission_id, limit=DECISIONS)
    decisions = [one for one in await deps.fleet.decisions(about) if one.due_at == run.due_at]
    return {"run": run, "decisions": decisions}
