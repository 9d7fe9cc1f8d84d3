"""The gateway's app: routes, and around them authentication, metrics and one place for errors."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from msgspec import structs
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.bodies import NO_STORE, BadRequest, answer
from mana_actors.http.door import vouch_for
from mana_actors.http.edge import Edge
from state.store.connect import Unavailable
from state.store.people.operators import SessionStore
from state.store.people.store import PeopleRefused
from supervisor.gateway.answers import failure, query
from supervisor.gateway.auth import Sessions, is_service
from supervisor.gateway.deps import Deps
from supervisor.gateway.metrics import CONTENT_TYPE, gauge_health, render
from supervisor.gateway.operators import api, control, limits, models, openings, people, ticks
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.operators.sessions import OperatorSessions, session_routes
from supervisor.gateway.pages.forms import FormSeals
from supervisor.gateway.pages.operator import agent as agent_page
from supervisor.gateway.pages.operator.fleet import OperatorPages
from supervisor.gateway.pages.owner.gate import OwnerGate
from supervisor.gateway.pages.owner.routes import owner_routes
from supervisor.gateway.pages.page import asset_routes
from supervisor.gateway.pages.preferences import preference_routes
from supervisor.gateway.pages.problems import ToldAsRead
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.routes import people_routes
from supervisor.gateway.sign_in.office import NotOurs, refused
from supervisor.gateway.sign_in.routes import sign_in_routes
from supervisor.gateway.supervisor import SupervisorSilent, asked
from supervisor.gateway.sync import routes as sync
from supervisor.gateway.sync.sockets import SyncSockets

Handler = Callable[[Request, Deps], Awaitable[Response]]
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
    ("GET", "/internal/triage", api.get_triage),
    ("POST", "/internal/runs/{run}/cancel", control.post_cancel_run),
    ("GET", "/internal/agents/{user}/{agent}", agent_page.get_agent),
    ("POST", "/internal/agents/{user}/{agent}/pause", control.post_agent),
    ("POST", "/internal/agents/{user}/{agent}/resume", control.post_agent),
    ("POST", "/internal/agents/{user}/{agent}/texts", openings.post_texts),
    ("GET", "/internal/openings", openings.get_openings),
    ("PUT", "/internal/users/{user}/settings", api.put_user_settings),
    ("GET", "/internal/ai-runner-pubkey", api.get_public_keys),
    ("GET", "/internal/people", people.get_people),
    ("POST", "/internal/people", people.post_person),
    ("DELETE", "/internal/people/{user}", people.delete_person),
    ("POST", "/internal/people/{user}/link", people.post_link),
    ("POST", "/internal/people/{user}/token", people.post_operators_token),
    ("GET", "/internal/people/{user}/trail", people.get_trail),
    ("GET", "/internal/people/{user}/tokens", people.get_tokens),
    ("POST", "/internal/people/{user}/tokens", people.post_token),
    ("DELETE", "/internal/people/{user}/tokens/{token}", people.delete_token),
    ("GET", "/internal/spaces", people.get_spaces),
    ("POST", "/internal/spaces", people.post_space),
    ("PUT", "/internal/spaces/{space}/members/{user}", people.put_member),
    ("DELETE", "/internal/spaces/{space}/members/{user}", people.delete_member),
)


def create_app(deps: Deps, sessions: Sessions | None = None) -> ASGIApp:
    """The app that serves one node; `sessions` are those that another copy of it knows as well."""
    of, seals = deps.settings, FormSeals(deps.service_key)
    shared = sessions or Sessions(deps.service_key)
    own = OperatorSessions(shared, SessionStore(deps.fleet.database))

    async def get_health(request: Request) -> Response:
        query(request, ())
        judged = await deps.watch.health()
        is_operator = is_service(request.headers, deps.service_key)
        content = judged.content if is_operator else judged.public
        return answer(content, 200 if judged.is_ok else 503)

    async def get_live(request: Request) -> Response:
        query(request, ())
        return answer({"ok": True})

    async def get_ready(request: Request) -> Response:
        query(request, ())
        serves = (await deps.watch.health()).serves
        return answer({"ok": serves}, 200 if serves else 503)

    async def get_metrics(request: Request) -> Response:
        if not (deps.settings.metrics_open or is_service(request.headers, deps.service_key)):
            return _unauthorized()
        gauge_health(deps.metrics, await deps.watch.facts(), await deps.watch.health())
        snapshots = [deps.metrics.snapshot()]
        with suppress(SupervisorSilent):  # ours are better than none
            snapshots.append(await asked(deps.supervisor.metrics()))
        text = render(snapshots) + await models.router_metrics(deps)
        return Response(text, media_type=CONTENT_TYPE, headers=NO_STORE)

    async def get_sync_health(request: Request) -> Response:
        return await sync.get_health(request, deps.owners)

    async def post_login(request: Request) -> Response:
        return await api.post_login(request, shared)

    def guard(scope: Scope) -> Response | None:
        path = scope["path"]
        is_internal = path == "/internal" or path.startswith("/internal/")
        headers = Headers(scope=scope)
        has_key = is_service(headers, deps.service_key)
        if has_key:
            vouch_for(scope)
        return _unauthorized() if is_internal and not has_key else None

    def count(method: str, path: str, status: int, seconds: float) -> None:
        labels = {"method": method, "path": path, "status": str(status)}
        deps.metrics.inc("http_requests_total", labels)
        deps.metrics.observe("http_request_duration_seconds", seconds, labels)

    def refusal(status: int, error: str) -> ASGIApp:
        return ToldAsRead(failure(status, error), status, of.agent.language, of.agent.time_zone)

    def known(exc: Exception) -> ASGIApp | None:
        told = _known(exc)
        if told is None:
            return None
        return ToldAsRead(told, told.status_code, of.agent.language, of.agent.time_zone)

    owners = deps.owners
    if owners is not None:
        owners = structs.replace(owners, end_run=partial(control.cancel_own_live, deps))
    routes = [
        Route("/health", get_health),
        Route("/health/live", get_live),
        Route("/health/ready", get_ready),
        Route("/metrics", get_metrics),
        Route("/sync/health", get_sync_health),
        Route("/internal/login", post_login, methods=["POST"]),
        *session_routes(own),
        *(Route(path, _bound(handler, deps), methods=[verb]) for verb, path, handler in INTERNAL),
        *people_routes(owners, deps.settings.cors_origins),
        *sign_in_routes(deps.owners, deps.service_key),
        *OperatorPages(deps, own, seals).routes(),
        *owner_routes(OwnerGate(deps, seals)),
        *asset_routes(),
        *preference_routes(of.names, of.agent.language, of.agent.time_zone),
    ]
    edge = Edge(
        Router(routes=routes, redirect_slashes=False),
        guard=guard,
        known=known,
        refusal=refusal,
        log=log,
        count=count,
    )
    sockets = SyncSockets(deps.owners)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (sockets if scope["type"] == "websocket" else edge)(scope, receive, send)

    return app


def _bound(handler: Handler, deps: Deps) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(request, deps)

    return endpoint


def _known(exc: Exception) -> Response | None:
    match exc:
        case BadRequest():
            return failure(exc.status, str(exc), exc.field)
        case Missing():
            return failure(404, exc.problem, exc.field)
        case PeopleRefused() | NotOurs():
            return refused(exc)
        case TooOften():
            told = {"error": "too many requests just now"}
            return answer(told, 429, {"Retry-After": str(exc.wait_s)})
        case SupervisorSilent():
            return failure(503, "the supervisor does not answer")
        case Unavailable():
            return failure(503, "the database does not answer")
        case _:
            return None


def _unauthorized() -> Response:
    return failure(401, "invalid or missing service key")
