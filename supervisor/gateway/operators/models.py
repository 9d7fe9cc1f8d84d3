"""The model router as operators ask for it: its state, one tiny call, its metrics.

The gateway shows the router's token, which stays in its file; callers show the service key.
"""

import logging
from collections import defaultdict
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from supervisor.gateway.answers import failure, query
from supervisor.gateway.deps import Deps
from supervisor.node.models import router_url
from supervisor.node.trial import RouterSilent, ask_router, decoded, model_warnings, tried

log = logging.getLogger("mana.gateway")

SILENT = "the model router does not answer"
MAX_MODEL_CHARS = 200


async def get_llm(request: Request, deps: Deps) -> Response:
    """Where the registry came from, its aliases and chains, and how its providers are."""
    query(request, ())
    try:
        return answer(await models_told(deps))
    except RouterSilent as exc:
        return _silent(exc)


async def models_told(deps: Deps) -> dict[str, Any]:
    """Aliases, models, providers' health and what is to be warned of; raises RouterSilent."""
    aliases = await ask_router(deps.settings, "GET", "/v1/aliases")
    health = await ask_router(deps.settings, "GET", "/v1/health")
    told = decoded(aliases) | decoded(health)
    has_money = any(each.micros is not None for each in await deps.fleet.limits())
    warnings = model_warnings(told, deps.settings, has_money_limit=has_money)
    return told | {"url": router_url(deps.settings), "warnings": warnings}


async def post_llm_test(request: Request, deps: Deps) -> Response:
    """One tiny call to an alias or a model: who answered, or why nobody did."""
    query(request, ())
    model = (await json_object(request)).get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARS:
        raise BadRequest("model", f"must be text of 1 to {MAX_MODEL_CHARS} characters")
    try:
        trial = await tried(deps.settings, model)
        told = decoded(await ask_router(deps.settings, "GET", "/v1/aliases"))
    except RouterSilent as exc:
        return _silent(exc)
    warnings = model_warnings(told, deps.settings, has_money_limit=False)
    return answer({"asked": model, "warnings": warnings} | msgspec.structs.asdict(trial))


async def router_metrics(deps: Deps) -> bytes:
    """What the router counts, as Prometheus text; nothing while it is silent."""
    try:
        return (await ask_router(deps.settings, "GET", "/metrics")).content
    except RouterSilent:
        return b""


class CallsByName(msgspec.Struct):
    """Calls by one name since the router began, and those of them that failed."""

    calls: int = 0
    failed: int = 0


def call_counts(metrics: str) -> dict[str, CallsByName]:
    """By `PROVIDER/MODEL`, out of what the router counts; a failure counts under the name asked."""
    found: defaultdict[str, CallsByName] = defaultdict(CallsByName)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            name = f"{sample.labels.get('provider', '')}/{sample.labels.get('model', '')}"
            if sample.name == "mana_llm_llm_requests_total":
                found[name].calls += int(sample.value)
            elif sample.name == "mana_llm_llm_errors_total":
                found[name].failed += int(sample.value)
    return dict(sorted(found.items()))


def _silent(exc: RouterSilent) -> Response:
    log.warning("router_silent error=%s", exc)
    return failure(503, SILENT)
