"""`/api/v1/me/*`: what people's own clients and browsers ask for.

Around each handler: the origin, who asks, the scope it takes, and one place that turns errors into
answers. Nothing of a token, a body or a key reaches a log.
"""

import logging
from collections.abc import Awaitable, Callable

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from mana_actors.http.bodies import NO_STORE, BadRequest, answer
from mana_actors.http.door import vouch_for
from mana_actors.http.edge import Edge
from mana_actors.logs import without_text
from state.grants.mint import MintRefused
from state.grants.vault import VaultRefused
from state.rules.scopes import Scope
from state.store.connect import Unavailable
from state.store.people.store import PeopleRefused
from supervisor import __version__
from supervisor.custody.vaults import Caller, status_of
from supervisor.gateway.answers import failure
from supervisor.gateway.api.openapi import Operation, description
from supervisor.gateway.api.problems import problem_of, told_as_problem
from supervisor.gateway.people.inbox.requests import INBOX
from supervisor.gateway.people.made.operations import OPERATIONS
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.reading import stream
from supervisor.gateway.people.reading.older import OLDER
from supervisor.gateway.people.reading.operations import MISSION, READING, RUN
from supervisor.gateway.people.tokens import TokenRefused
from supervisor.gateway.sign_in.door import ScopeLacking, must_have
from supervisor.gateway.sign_in.office import NotOurs, refused
from supervisor.gateway.sync import routes as sync
from supervisor.gateway.sync import stream as sync_stream

Handler = Callable[[Request, Caller, Owners], Awaitable[Response]]
Teller = Callable[[int, str], Response]
log = logging.getLogger("mana.gateway")

NO_OWNERS = "this server serves no people"
ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, X-Client-Id"
READ_HEADERS = "ETag, Idempotency-Replayed"
AUDIT = "/api/v1/me/ai-audit"
PREFLIGHT_S = 600


def _told_as_text(status: int, message: str) -> Response:
    """The way of the runner, whose clients read the audit."""
    return PlainTextResponse(message, status, headers=NO_STORE)


def _told_as_json(status: int, message: str) -> Response:
    """The way of the auth service, which once answered the rest."""
    return answer({"statusCode": status, "message": message}, status)


class PersonRoute(msgspec.Struct, frozen=True):
    """One thing that people ask for, the scope that it takes, and how its errors are told."""

    verb: str
    path: str
    scope: Scope
    handler: Handler
    tell: Teller = _told_as_json


def _teller(of: Operation) -> Teller:
    if of.has_problems:
        return told_as_problem
    return _told_as_text if of.path == AUDIT else _told_as_json


DESCRIBED = (*OPERATIONS, *READING, *INBOX, *OLDER)
"""All that the API tells of itself; what streams, and what is synced, it does not."""

ROUTES: tuple[PersonRoute, ...] = (
    PersonRoute("GET", f"{MISSION}/stream", "read", stream.get_mission_stream, told_as_problem),
    PersonRoute("GET", f"{RUN}/stream", "read", stream.get_run_stream, told_as_problem),
    PersonRoute("POST", "/sync/{app}", "read", sync.post_push, sync.told_as_text),
    PersonRoute("GET", "/sync/{app}/pull", "read", sync.get_pull, sync.told_as_text),
    PersonRoute("GET", "/sync/{app}/stream", "read", sync_stream.get_stream, sync.told_as_text),
    *(PersonRoute(one.verb, one.path, one.scope, one.handler, _teller(one)) for one in DESCRIBED),
)


def people_routes(owners: Owners | None, origins: tuple[str, ...]) -> list[Route]:
    """All of it; without owners every request but a preflight is answered 503."""
    described = answer(description(DESCRIBED, __version__))

    async def get_description(_: Request) -> Response:
        return described

    return [Route("/api/v1/openapi.json", get_description)] + [
        Route(each.path, _endpoint(each, owners, origins), methods=[each.verb, "OPTIONS"])
        for each in ROUTES
    ]


def app_of(owners: Owners, origins: tuple[str, ...]) -> ASGIApp:
    """These routes alone, for a process outside Ray."""

    async def get_health(_: Request) -> Response:
        return answer({"ok": True, "service": "mana-issuer"})

    own = [Route("/health", get_health), *people_routes(owners, origins)]
    return Edge(
        Router(routes=own, redirect_slashes=False),
        guard=lambda _: None,
        known=lambda _: None,
        refusal=failure,
        log=log,
    )


def _endpoint(
    of: PersonRoute, owners: Owners | None, origins: tuple[str, ...]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":  # a preflight, which browsers send without any token
            return Response(status_code=204, headers=_allowed(request.headers, origins, asks=True))
        if owners is None:
            response = of.tell(503, NO_OWNERS)
        else:
            try:
                caller = await owners.door.caller(request)
                vouch_for(request.scope)
                must_have(caller, of.scope)
                response = await of.handler(request, caller, owners)
            except ClientDisconnect:
                raise
            except Exception as exc:  # noqa: BLE001 - here, so that a page may read the error too
                known = problem_of(exc) if of.tell is told_as_problem else None
                response = known or _failed(exc, of.tell)
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
    told["Access-Control-Expose-Headers"] = READ_HEADERS
    if asks:
        told["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        told["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        told["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    return told


def _failed(exc: Exception, tell: Teller) -> Response:
    match exc:
        case TokenRefused():
            response = tell(401, exc.reason)
            response.headers["WWW-Authenticate"] = "Bearer"
        case ScopeLacking():
            told = {"error": str(exc), "code": "SCOPE_LACKING", "scope": exc.scope}
            response = answer(told, 403)
        case PeopleRefused() | NotOurs():
            response = refused(exc)
        case MintRefused() | VaultRefused():
            response = answer({"error": exc.message, "code": exc.code}, status_of(exc.code))
        case TooOften():
            told = {"error": "too many requests just now", "code": "RATE_LIMITED"}
            response = answer(told, 429, {"Retry-After": str(exc.wait_s)})
        case BadRequest():
            told = {"error": f"{exc.field} {exc.problem}", "code": "BAD_REQUEST"}
            response = answer(told, exc.status)
        case Unavailable():
            response = tell(503, "the database does not answer")
        case _:
            log.error("request_failed error=%s", type(exc).__name__, exc_info=without_text(exc))
            response = tell(500, "internal error")
    return response
