"""The router's HTTP API (§6): chat completions for agents and everybody else, and what it knows."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mana_actors.json_values import JsonObject
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import Registry, UnknownAlias
from mana_actors.llm.router.calls import CallFailed, Calls, Routing
from mana_actors.llm.router.chain.health import ProviderHealth
from mana_actors.llm.router.contract import Target
from mana_actors.llm.router.metrics import CONTENT_TYPE, Metrics
from mana_actors.llm.router.reload import Loaded
from mana_actors.llm.router.settings import RouterSettings
from mana_actors.llm.router.stream import CallerGone, EventStream, until_gone
from mana_actors.llm.router.wire.answers import (
    NO_STORE,
    failure,
    json_answer,
    problem_of_request,
    refused,
)
from mana_actors.llm.router.wire.requests import (
    InvalidRequest,
    chat_request,
    embeddings_request,
)
from mana_actors.logs import without_text
from state.rules.exposure import ORDER, lower_of

log = logging.getLogger("mana.llm")

EXPOSURE_HEADER = "x-mana-llm-exposure"
DEADLINE_HEADER = "x-mana-llm-deadline"
MAX_REQUEST_BYTES = 16 * 1024 * 1024
UNMATCHED = "unmatched"
SERVICE = "mana-llm"
Handler = Callable[[Request], Awaitable[ASGIApp]]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the app is made of; `token` comes from its file."""

    settings: RouterSettings
    token: str
    router: Routing
    loaded: Callable[[], Loaded]
    calls: Calls
    metrics: Metrics


def create_app(service: Service) -> ASGIApp:
    """The app that serves one router."""
    api = _Api(service)
    routes = [
        Route("/health", _endpoint(api.health), methods=["GET"]),
        Route("/metrics", _endpoint(api.metrics), methods=["GET"]),
        Route("/v1/health", _endpoint(api.health), methods=["GET"]),
        Route("/v1/aliases", _endpoint(api.aliases), methods=["GET"]),
        Route("/v1/models", _endpoint(api.models), methods=["GET"]),
        Route("/v1/models/{id:path}", _endpoint(api.model), methods=["GET"]),
        Route("/v1/chat/completions", _endpoint(api.chat), methods=["POST"]),
        Route("/v1/embeddings", _endpoint(api.embeddings), methods=["POST"]),
    ]
    return Edge(Router(routes=routes, redirect_slashes=False), service)


def _endpoint(handler: Handler) -> Any:
    """A handler as an ASGI app of its own, so that it may answer with a stream."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            answer = await handler(Request(scope, receive))
            await answer(scope, receive, send)

    return Endpoint()


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> ASGIApp:
        """An answer, or a stream of its pieces."""
        exposure, deadline_s = self._limits(request)
        body = chat_request(await _raw_body(request))
        calls = self._service.calls
        if body.get("stream") is True:
            begun = calls.stream(body, exposure, deadline_s)
            events, headers = await until_gone(request.receive, begun)
            return EventStream(events, headers)
        answered = calls.complete(body, exposure, deadline_s)
        return _answer(*await until_gone(request.receive, answered))

    async def embeddings(self, request: Request) -> ASGIApp:
        """Vectors for texts."""
        exposure, deadline_s = self._limits(request)
        body = embeddings_request(await _raw_body(request))
        embedded = self._service.calls.embed(body, exposure, deadline_s)
        return _answer(*await until_gone(request.receive, embedded))

    async def models(self, request: Request) -> ASGIApp:  # noqa: ARG002
        """What the aliases stand for and what providers say they have."""
        names = await self._model_names()
        return json_answer({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> ASGIApp:
        """One of them."""
        wanted: str = request.path_params["id"]
        if wanted not in self._known_names() and wanted not in await self._model_names():
            return refused(404, f"Model '{wanted[:200]}' not found", "model_not_found")
        return json_answer(_model(wanted))

    async def aliases(self, request: Request) -> ASGIApp:
        """The chains, and what each name costs at most within the exposure asked for."""
        exposure, _ = self._limits(request)
        registry, loaded = self._service.router.registry, self._service.loaded()
        return json_answer(
            {
                "default": registry.default,
                "currency": registry.currency,
                "exposure": exposure,
                "source": loaded.source,
                "loaded_at": loaded.loaded_at,
                "problem": loaded.problem or None,
                "aliases": [
                    {
                        "name": alias.name,
                        "description": alias.description,
                        "chain": [target.name for target in alias.chain],
                        "facts": self._service.router.facts(alias.name, exposure),
                    }
                    for alias in registry.aliases.values()
                ],
                "models": [self._entry(target, exposure) for target in known_targets(registry)],
            }
        )

    async def health(self, request: Request) -> ASGIApp:
        """The health of every provider; the status code is 200 in any case."""
        providers = self._providers()
        flags = [each.status == "healthy" for each in providers.values()]
        status = "healthy" if all(flags) else "degraded" if any(flags) else "unhealthy"
        more = {"service": SERVICE, "version": self._service.settings.version}
        is_open = request.url.path == "/health"
        return json_answer({"status": status, **(more if is_open else {}), "providers": providers})

    async def metrics(self, request: Request) -> ASGIApp:  # noqa: ARG002
        """Prometheus text."""
        text = self._service.metrics.render()
        return Response(text, media_type=CONTENT_TYPE, headers=NO_STORE)

    def _limits(self, request: Request) -> tuple[Exposure, float]:
        """The exposure and the seconds a request may use: asked for, but never beyond ours."""
        settings = self._service.settings
        wanted = request.headers.get(EXPOSURE_HEADER)
        if wanted is not None and wanted not in ORDER:
            raise InvalidRequest(EXPOSURE_HEADER, "is not local, eu or any")
        exposure = lower_of(wanted or settings.exposure, settings.exposure)
        return exposure, _deadline_s(request.headers.get(DEADLINE_HEADER), settings.deadline_s)

    def _entry(self, target: Target, exposure: Exposure) -> JsonObject:
        registry = self._service.router.registry
        return {
            "name": target.name,
            "exposure": registry.exposure(target),
            "facts": self._service.router.facts(target.name, exposure),
        }

    async def _model_names(self) -> list[str]:
        named = {target.name for target in await self._service.router.models()}
        return sorted(named | self._known_names())

    def _known_names(self) -> set[str]:
        return set(label_names(self._service.router.registry))

    def _providers(self) -> dict[str, ProviderHealth]:
        found = self._service.router.health().items()
        return dict(sorted(found))


class Edge:
    """What every request passes: the token, counting, and the one net for errors."""

    def __init__(self, inner: ASGIApp, service: Service) -> None:
        self._inner, self._service = inner, service
        self._bearer = f"Bearer {service.token}".encode()
        self._open = {"/health"} | ({"/metrics"} if service.settings.metrics_open else set[str]())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of traffic are refused."""
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0
        scope["app"] = self  # unmatched paths then raise, and end in the net below

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answered(scope, receive, sending)
        except Exception as exc:
            if status:
                raise
            await _failed(exc)(scope, receive, sending)
        finally:
            self._count(scope, status or 499, time.monotonic() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in self._open and not self._is_allowed(scope):
            await refused(401, "missing or wrong token", "invalid_api_key")(scope, receive, send)
            return
        await self._inner(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        given = next((text for name, text in scope["headers"] if name == b"authorization"), b"")
        return secrets.compare_digest(given, self._bearer)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        endpoint = route.path if isinstance(route, Route) else UNMATCHED
        self._service.metrics.served(scope["method"], endpoint, status, seconds)


def _failed(exc: Exception) -> ASGIApp:
    match exc:
        case CallFailed():
            return failure(exc.problem)
        case InvalidRequest():
            return failure(problem_of_request(exc))
        case HTTPException():
            return refused(exc.status_code)
        case UnknownAlias():
            return refused(404, str(exc), "model_not_found")
        case CallerGone() | ClientDisconnect():
            return refused(499, "the caller went away")
        case _:
            # Its text may hold what the caller sent; its type is enough to look for it.
            log.error("request_failed error=%s", type(exc).__name__, exc_info=without_text(exc))
            return refused(500, "internal error")


async def _raw_body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_REQUEST_BYTES:
            raise InvalidRequest("body", f"is larger than {MAX_REQUEST_BYTES} bytes", 413)
    return bytes(raw)


def _answer(body: JsonObject, headers: dict[str, str]) -> Response:
    return json_answer(body, headers=headers)


def _deadline_s(given: str | None, most: float) -> float:
    """The seconds a caller waits, at most ours."""
    if given is None:
        return most
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(DEADLINE_HEADER, "is not a number of seconds")
    return min(seconds, most)


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0]}


def known_targets(registry: Registry) -> list[Target]:
    """Every entry the alias file names, in a chain or with a price."""
    chained = {target for alias in registry.aliases.values() for target in alias.chain}
    return sorted(chained | set(registry.models))


def label_names(registry: Registry) -> list[str]:
    """Every name that may become a metric label: aliases and entries."""
    return [*registry.aliases, *(target.name for target in known_targets(registry))]
