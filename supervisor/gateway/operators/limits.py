"""What operators allow, and what an agent has left."""

import logging
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.rules.budgets import MOST
from state.store.gateway.fleet import Filter
from state.store.gateway.limits import Limit, LimitChange, LimitKind
from supervisor.gateway.answers import checked_id, failure, path_part, query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing
from supervisor.node.trial import RouterSilent, ask_router, decoded, money_warnings

log = logging.getLogger("mana.gateway")
KINDS: tuple[LimitKind, ...] = get_args(LimitKind)
FIELDS = frozenset({"kind", "user", "agent", "tokens", "micros"})


async def get_limits(request: Request, deps: Deps) -> Response:
    """Every limit over 24 hours, the widest first; `micros` is money in millionths."""
    query(request, ())
    return answer(await _told(deps))


async def put_limit(request: Request, deps: Deps) -> Response:
    """Set or lift (null) a limit; fields left out stay as they are."""
    query(request, ())
    try:
        await set_limit(deps, await json_object(request))
    except Missing as exc:
        return failure(404, exc.problem, exc.field)
    return answer(await _told(deps))


async def set_limit(deps: Deps, given: dict[str, Any]) -> None:
    """Set or lift a limit; raises BadRequest, and Missing for a user or an agent that is not there.

    Missions that it refused are looked at again.
    """
    unknown = sorted(set(given) - FIELDS)
    if unknown:
        raise BadRequest("body", f"knows only {', '.join(sorted(FIELDS))}")
    kind = given.get("kind")
    if kind not in KINDS:
        raise BadRequest("kind", f"must be one of {', '.join(KINDS)}")
    if "tokens" not in given and "micros" not in given:
        raise BadRequest("tokens", "is missing, and so is micros")
    change = LimitChange(
        kind=kind,
        user_id=_name(given, "user", wanted=kind in ("user", "agent")),
        agent_id=_name(given, "agent", wanted=kind == "agent"),
        tokens=_amount(given, "tokens"),
        micros=_amount(given, "micros"),
    )
    named = Filter(user=change.user_id or None, agent=change.agent_id or None)
    lifts = {change.tokens, change.micros} <= {None, msgspec.UNSET}  # of who is gone, too
    missing = None if lifts else await deps.fleet.unknown(named)
    if missing is not None:
        raise Missing(missing, f"no such {missing}")
    await deps.fleet.set_limit(change)
    log.info("limit_set kind=%s", kind)


async def _told(deps: Deps) -> dict[str, Any]:
    """Every limit, and in words which models a limit in money does not bound."""
    items = await deps.fleet.limits()
    warnings = await warnings_of(deps, items)
    return {"items": items} | ({"warnings": warnings} if warnings else {})


async def warnings_of(deps: Deps, limits: Sequence[Limit]) -> list[str]:
    """In words, which models these limits do not bound; nothing while the router is silent."""
    if all(each.micros is None for each in limits):
        return []
    try:
        told = decoded(await ask_router(deps.settings, "GET", "/v1/aliases"))
    except RouterSilent:
        return []
    return money_warnings(told, deps.settings)


async def get_budget(request: Request, deps: Deps) -> Response:
    """What an agent has used, holds and has left in 24 hours, and when room returns."""
    query(request, ())
    found = await deps.fleet.budget(path_part(request, "user"), path_part(request, "agent"))
    return failure(404, "no such agent", "agent") if found is None else answer(found)


def _name(given: dict[str, Any], field: str, *, wanted: bool) -> str:
    name = given.get(field)
    if not wanted:
        if name is not None:
            raise BadRequest(field, "has no place in a limit of this kind")
        return ""
    if not isinstance(name, str):
        raise BadRequest(field, "must be an id")
    return checked_id(field, name)


def _amount(given: dict[str, Any], field: str) -> int | msgspec.UnsetType | None:
    if field not in given:
        return msgspec.UNSET
    amount = given[field]
    is_number = isinstance(amount, int) and not isinstance(amount, bool)
    if amount is not None and not (is_number and 0 <= amount <= MOST):
        raise BadRequest(field, f"must be a whole number from 0 to {MOST}, or null for no limit")
    return amount
