"""`/api/v1/me/*`: what people's own browsers ask for, by the auth service's tokens.

Around each handler: the origin, the token, and one place that turns errors into answers. Nothing of
a token, a body or a key reaches a log.
"""

import logging
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from mana_actors.http.bodies import NO_STORE, BadRequest, answer
from mana_actors.logs import without_text
from state.grants.mint import MintRefused
from state.grants.vault import VaultRefused
from state.store.connect import Unavailable
from supervisor.custody.vaults import Caller, status_of
from supervisor.gateway.people import audit, budgets, derived_key, grants, missions, vault
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.reading import data, plans, stream
from supervisor.gateway.people.requests import caller_of
from supervisor.gateway.people.tokens import TokenRefused

Handler = Callable[[Request, Caller, Owners], Awaitable[Response]]
Teller = Callable[[int, str], Response]
log = logging.getLogger("mana.gateway")

NO_AUTH = "MANA_AUTH_URL is not set: this server cannot tell who you are"
DERIVED_KEY = "/api/v1/me/ai-derived-key"
VAULT = "/api/v1/me/encryption-vault"
MISSION = "/api/v1/me/missions/{mission}"
DATA = "/api/v1/me/data"
ALLOWED_METHODS = "GET, POST, PUT, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type"
PREFLIGHT_S = 600


def _told_as_text(status: int, message: str) -> Response:
    """The way of the runner, whose clients read the audit."""
    return PlainTextResponse(message, status, headers=NO_STORE)


def _told_as_json(status: int, message: str) -> Response:
    """The way of the auth service, which once answered the rest."""
    return answer({"statusCode": status, "message": message}, status)


ROUTES: tuple[tuple[str, str, Handler, Teller], ...] = (
    ("GET", "/api/v1/me/ai-audit", audit.get_audit, _told_as_text),
    ("GET", "/api/v1/me/ai-budget", budgets.get_budget, _told_as_json),
    ("POST", "/api/v1/me/ai-mission-grant", grants.post_grant, _told_as_json),
    ("POST", "/api/v1/me/ai-mission-grant/consent", grants.post_consent, _told_as_json),
    ("GET", "/api/v1/me/ai-missions", missions.get_missions, _told_as_json),
    ("GET", DERIVED_KEY, derived_key.get_key, _told_as_json),
    ("PUT", DERIVED_KEY, derived_key.put_key, _told_as_json),
    ("DELETE", DERIVED_KEY, derived_key.delete_key, _told_as_json),
    ("GET", f"{MISSION}/iterations", plans.get_iterations, _told_as_json),
    ("GET", f"{MISSION}/runs", plans.get_runs, _told_as_json),
    ("GET", f"{MISSION}/stream", stream.get_mission_stream, _told_as_json),
    ("GET", "/api/v1/me/runs/{run}", plans.get_run, _told_as_json),
    ("GET", "/api/v1/me/runs/{run}/stream", stream.get_run_stream, _told_as_json),
    ("GET", DATA, data.get_modules, _told_as_json),
    ("GET", f"{DATA}/{{module}}", data.get_records, _told_as_json),
    ("GET", f"{DATA}/{{module}}/{{table}}/{{record}}", data.get_record, _told_as_json),
    ("PUT", "/api/v1/me/ai-sealed-copies", grants.put_copies, _told_as_json),
    ("GET", f"{VAULT}/status", vault.get_status, _told_as_json),
    ("POST", f"{VAULT}/init", vault.post_init, _told_as_json),
    ("GET", f"{VAULT}/key", vault.get_key, _told_as_json),
    ("POST", f"{VAULT}/rotate", vault.post_rotate, _told_as_json),
    ("POST", f"{VAULT}/recovery-wrap", vault.post_recovery_wrap, _told_as_json),
    ("DELETE", f"{VAULT}/recovery-wrap", vault.delete_recovery_wrap, _told_as_json),
    ("POST", f"{VAULT}/zero-knowledge", vault.post_zero_knowledge, _told_as_json),
)


def people_routes(owners: Owners | None, origins: tuple[str, ...]) -> list[Route]:
    """All of it; without owners every request but a preflight is answered 503."""
    return [
        Route(path, _endpoint(handler, owners, origins, tell), methods=[verb, "OPTIONS"])
        for verb, path, handler, tell in ROUTES
    ]


def app_of(owners: Owners, origins: tuple[str, ...]) -> Router:
    """These routes alone, for a process outside Ray."""

    async def get_health(_: Request) -> Response:
        return answer({"ok": True, "service": "mana-issuer"})

    own = [Route("/health", get_health), *people_routes(owners, origins)]
    return Router(routes=own, redirect_slashes=False)


def _endpoint(
    handler: Handler, owners: Owners | None, origins: tuple[str, ...], tell: Teller
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":  # a preflight, which browsers send without any token
            return Response(status_code=204, headers=_allowed(request.headers, origins, asks=True))
        if owners is None:
            response = tell(503, NO_AUTH)
        else:
            try:
                user = await owners.verifier.user(request.headers)
                response = await handler(request, caller_of(request, user), owners)
            except ClientDisconnect:
                raise
            except Exception as exc:  # noqa: BLE001 - here, so that a page may read the error too
                response = _failed(exc, tell)
        response.headers.update(_allowed(request.headers, origins))
        return response

    return endpoint


def _allowed(headers: Headers, origins: tuple[str, ...], *, asks: bool = False) -> dict[str, str]:
    """What a page is told it may read and send: exact origins only, and no cookies ever."""
    if not origins:
        return {}
    told = {"Vary": "Origin"}
    origin = headers.get("origin")
    if not origin or origin not in origins:
        return told
    told["Access-Control-Allow-Origin"] = origin
    if asks:
        told["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        told["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        told["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    return told


def _failed(exc: Exception, tell: Teller) -> Response:
    match exc:
        case TokenRefused():
            refused = tell(401, exc.reason)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        case MintRefused() | VaultRefused():
            return answer({"error": exc.message, "code": exc.code}, status_of(exc.code))
        case TooOften():
            told = {"error": "too many requests just now", "code": "RATE_LIMITED"}
            return answer(told, 429, {"Retry-After": str(exc.wait_s)})
        case BadRequest():
            told = {"error": f"{exc.field} {exc.problem}", "code": "BAD_REQUEST"}
            return answer(told, exc.status)
        case Unavailable():
            return tell(503, "the database does not answer")
        case _:
            log.error("request_failed error=%s", type(exc).__name__, exc_info=without_text(exc))
            return tell(500, "internal error")
