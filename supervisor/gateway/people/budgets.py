"""`GET /api/v1/me/ai-budget`: what my agents used, hold and have left of 24 hours."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.rules.budgets import room
from state.store.gateway.limits import LimitState
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, query, whole_number
from supervisor.gateway.people.owners import Owners

DEFAULT_LIMIT, MAX_LIMIT = 100, 200


async def get_budget(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own agents by id; `after`, given back, continues the list."""
    given = query(request, ("after", "limit"))
    limit = whole_number("limit", given.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
    found, together = await owners.view.budgets(caller.user, limit, given.get("after"))
    agents: list[dict[str, Any]] = []
    for one in found:
        rooms = [_left(one.own), *([] if together is None else [_left(together)])]
        back_at = instant_text(one.full_back_at)
        full = {"scope": one.full_scope, "unit": one.full_unit, "backAt": back_at}
        agents.append(
            {
                "agentId": one.agent_id,
                "capSource": one.own.source,
                **_window(one.own),
                "left": min((left for left in rooms if left is not None), default=None),
                "full": full if one.full_scope else None,
            }
        )
    return answer(
        {
            "agents": agents,
            "together": None if together is None else _window(together),
            "after": found[-1].agent_id if len(found) == limit else None,
        }
    )


def _window(of: LimitState) -> dict[str, Any]:
    """One limit's last 24 hours: tokens, and money in millionths."""
    return {
        "cap": of.cap,
        "used": of.used,
        "held": of.held,
        "left": _left(of),
        "backAt": instant_text(of.back_at),
        "microsCap": of.micros_cap,
        "microsUsed": of.micros_used,
        "microsHeld": of.micros_held,
    }


def _left(of: LimitState) -> int | None:
    return room(of.cap, of.used, of.held)
