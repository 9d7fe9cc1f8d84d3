"""The model router as operators ask for it: its state, one tiny call, its metrics.

The gateway shows the router's token, which stays in its file; callers show the service key.
"""

import logging
import time
from typing import Any

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from mana_actors.json_values import as_object
from mana_actors.trust import trust_for
from supervisor.gateway.answers import failure, query
from supervisor.gateway.deps import Deps
from supervisor.node.models import router_url, token_file

log = logging.getLogger("mana.gateway")

ASK_S = 3.0
TEST_S = 60.0
SILENT = "the model router does not answer"
UNTOLD = "no reason given"
MAX_MODEL_CHARS = 200
_HELLO = "Answer with the word: ready"


class RouterSilent(Exception):
    """The router did not answer in time, or is not there."""


async def get_llm(request: Request, deps: Deps) -> Response:
    """Where the registry came from, its aliases and chains, and how its providers are."""
    query(request, ())
    try:
        aliases = await _asked(deps, "GET", "/v1/aliases", ASK_S)
        health = await _asked(deps, "GET", "/v1/health", ASK_S)
    except RouterSilent:
        return failure(503, SILENT)
    return answer(_decoded(aliases) | _decoded(health) | {"url": router_url(deps.settings)})


async def post_llm_test(request: Request, deps: Deps) -> Response:
    """One tiny call to an alias or a model: who answered, or why nobody did."""
    query(request, ())
    model = (await json_object(request)).get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARS:
        raise BadRequest("model", f"must be text of 1 to {MAX_MODEL_CHARS} characters")
    asked = {
        "model": model,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": _HELLO}],
    }
    began = time.monotonic()
    try:
        told = await _asked(deps, "POST", "/v1/chat/completions", TEST_S, asked)
    except RouterSilent:
        return failure(503, SILENT)
    took = {"asked": model, "latency_ms": round((time.monotonic() - began) * 1000, 1)}
    if not told.is_success:
        known = as_object(_decoded(told).get("detail")) or {}
        why = {"kind": known.get("kind", "unknown"), "error": known.get("message", UNTOLD)}
        return answer(took | {"ok": False, "status": told.status_code, **why})
    usage: dict[str, Any] = _decoded(told).get("usage") or {}
    cost = told.headers.get("x-mana-llm-cost-micros")
    return answer(
        took
        | {
            "ok": True,
            "resolved": told.headers.get("x-mana-llm-resolved"),
            "exposure": told.headers.get("x-mana-llm-exposure"),
            "prompt_tokens": usage.get("prompt_tokens"),
            "completion_tokens": usage.get("completion_tokens"),
            "cost_micros": None if cost is None else int(cost),
        }
    )


async def router_metrics(deps: Deps) -> bytes:
    """What the router counts, as Prometheus text; nothing while it is silent."""
    try:
        return (await _asked(deps, "GET", "/metrics", ASK_S)).content
    except RouterSilent:
        return b""


async def _asked(
    deps: Deps, verb: str, path: str, seconds: float, content: object = None
) -> httpx.Response:
    """The router's answer, good or bad; raises RouterSilent."""
    try:
        token = token_file(deps.settings).read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        raw = None if content is None else msgspec.json.encode(content)
        url = router_url(deps.settings) + path
        async with httpx.AsyncClient(
            verify=trust_for(url), timeout=seconds, trust_env=False
        ) as http:
            return await http.request(verb, url, headers=headers, content=raw)
    except (httpx.HTTPError, OSError, ValueError) as exc:
        log.warning("router_silent error=%s", type(exc).__name__)
        raise RouterSilent from exc


def _decoded(told: httpx.Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(told.content, type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise RouterSilent from exc
