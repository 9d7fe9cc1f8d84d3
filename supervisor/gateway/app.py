"""The gateway's app: routes, and around them authentication, metrics and one place for errors."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mana_actors.logs import without_text
from state.errors import TransientError
from supervisor.gateway.answers import NO_STORE, BadRequest, answer, failure, query
from supervisor.gateway.auth import Sessions, is_service
from supervisor.gateway.contract import Deps
from supervisor.gateway.health import health
from supervisor.gateway.metrics import CONTENT_TYPE, render
from supervisor.gateway.operators import api, control, limits, models, ticks
from supervisor.gateway.pages import agent_page, fleet_page
from supervisor.gateway.people import setup
from supervisor.gateway.people.routes import people_routes
from supervisor.gateway.questions import SupervisorSilent, asked, facts

Handler = Callable[[Request, Deps], Awaitable[Response]]
UNMATCHED = "unmatched"
log = logging.getLogger("mana.gateway")

INTERNAL: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/internal/tick", ticks.post_tick),
    ("GET", "/internal/tick/{id}", ticks.get_tick),
    ("GET", "/internal/status", api.get_status),
    ("GET", "/internal/agents", api.get_agents),
    ("GET", "/internal/agents/{user}/{agent}/budget", limits.get_budget),
    ("GET", "/internal/limits", limits.get_limits),
    ("PUT", "/internal/limits", limits.put_limit),
    ("GET", "/internal/missions", api.get_missions),
    ("GET", "/internal/runs", api.get_runs),
    ("GET", "/internal/decisions", api.get_decisions),
    ("GET", "/internal/problems", api.get_problems),
    ("GET", "/internal/llm", models.get_llm),
    ("POST", "/internal/llm/test", models.post_llm_test),
    ("POST", "/internal/missions/{user}/{mission}/run", api.post_run),
    ("POST", "/internal/missions/{user}/{mission}/pause", control.post_mission),
    ("POST", "/internal/missions/{user}/{mission}/resume", control.post_mission),
    ("POST", "/internal/missions/{user}/{mission}/cancel", control.post_cancel_mission),
    ("POST", "/internal/runs/{run}/cancel", control.post_cancel_run),
    ("GET", "/internal/agents/{user}/{agent}", agent_page.get_agent),
    ("POST", "/internal/agents/{user}/{agent}/pause", control.post_agent),
    ("POST", "/internal/agents/{user}/{agent}/resume", control.post_agent),
    ("PUT", "/internal/users/{user}/settings", api.put_user_settings),
    ("GET", "/internal/ai-runner-pubkey", setup.get_public_keys),
)


def create_app(deps: Deps) -> ASGIApp:
    """The app that serves one node."""
    sessions = Sessions(deps.service_key)

    async def get_health(request: Request) -> Response:
        query(request, ())
        judged = health(await facts(deps), deps.settings, deps.version)
        return answer(judged.content, 200 if judged.is_ok else 503)

    async def get_metrics(request: Request) -> Response:
        if not (deps.settings.metrics_open or is_service(request.headers, deps.service_key)):
            return _unauthorized()
        snapshots = [deps.metrics.snapshot()]
        with suppress(SupervisorSilent):  # ours are better than none
            snapshots.append(await asked(deps.supervisor.metrics()))
        text = render(snapshots) + await models.router_metrics(deps)
        return Response(text, media_type=CONTENT_TYPE, headers=NO_STORE)

    async def post_login(request: Request) -> Response:
        return await api.post_login(request, sessions)

    routes = [
        Route("/health", get_health),
        Route("/metrics", get_metrics),
        Route("/internal/login", post_login, methods=["POST"]),
        *(Route(path, _bound(handler, deps), methods=[verb]) for verb, path, handler in INTERNAL),
        *people_routes(deps.owners, deps.settings.cors_origins),
        *fleet_page.routes(deps, sessions),
    ]
    return Edge(Router(routes=routes, redirect_slashes=False), deps)


def _bound(handler: Handler, deps: Deps) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(request, deps)

    return endpoint


class Edge:
    """What every request passes: the guard before `/internal`, counting, and the net for errors."""

    def __init__(self, inner: ASGIApp, deps: Deps) -> None:
        self._inner = inner
        self._deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of traffic are refused."""
        if scope["type"] != "http":
            return
        began = time.monotonic()
        # Routed as sent: an id may hold "/", and no other spelling gets past the guard.
        raw = scope.get("raw_path") or scope["path"].encode()
        scope = dict(scope) | {"path": raw.decode("latin-1"), "app": self}
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answered(scope, receive, sending)
        finally:
            self._count(scope, status, time.monotonic() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        if self._is_locked(scope):
            await _unauthorized()(scope, receive, sending)
            return
        try:
            await self._inner(scope, receive, sending)
        except Exception as exc:  # the one place that turns errors into answers
            if has_begun:
                raise
            await _failed(exc)(scope, receive, sending)

    def _is_locked(self, scope: Scope) -> bool:
        path = scope["path"]
        is_internal = path == "/internal" or path.startswith("/internal/")
        return is_internal and not is_service(Headers(scope=scope), self._deps.service_key)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = route.path if isinstance(route, Route) else UNMATCHED
        verb = scope["method"] if scope["method"] in _VERBS else "other"
        labels = {"method": verb, "path": path, "status": str(status)}
        self._deps.metrics.inc("http_requests_total", labels)
        self._deps.metrics.observe("http_request_duration_seconds", seconds, labels)


_WORDS = {404: "not found", 405: "method not allowed"}
_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


def _failed(exc: Exception) -> Response:
    match exc:
        case BadRequest():
            return failure(exc.status, f"{exc.field}: {exc.problem}", exc.field)
        case SupervisorSilent():
            return failure(503, "the supervisor does not answer")
        case HTTPException():
            return failure(exc.status_code, _WORDS.get(exc.status_code, "request refused"))
        case ClientDisconnect():
            return failure(499, "the caller went away")
        case TransientError():
            return failure(503, "the database does not answer")
        case _:
            # Its text may hold what the caller sent; its type and place are enough to look for it.
            log.error("request_failed error=%s", type(exc).__name__, exc_info=without_text(exc))
            return failure(500, "internal error")


def _unauthorized() -> Response:
    return failure(401, "invalid or missing service key")
