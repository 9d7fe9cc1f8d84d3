"""The router's HTTP API (§6): chat completions for agents and everybody else, and what it knows."""

import logging
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.bodies import NO_STORE, BadRequest, answer, json_object
from mana_actors.http.edge import Edge, has_bearer
from mana_actors.json_values import JsonObject
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import Registry, UnknownAlias
from mana_actors.llm.router.calls import CallFailed, Calls, Routing
from mana_actors.llm.router.chain.health import ProviderHealth
from mana_actors.llm.router.contract import Target
from mana_actors.llm.router.metrics import CONTENT_TYPE, Metrics
from mana_actors.llm.router.reload import Loaded
from mana_actors.llm.router.settings import RouterSettings
from mana_actors.llm.router.stream import EventStream, until_gone
from mana_actors.llm.router.wire.answers import Problem
from mana_actors.llm.router.wire.requests import (
    InvalidRequest,
    chat_request,
    embeddings_request,
)
from state.rules.exposure import ORDER, lower_of

log = logging.getLogger("mana.llm")

EXPOSURE_HEADER = "x-mana-llm-exposure"
DEADLINE_HEADER = "x-mana-llm-deadline"
MAX_REQUEST_BYTES = 16 * 1024 * 1024
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
    settings, metrics = service.settings, service.metrics
    open_paths = {"/health"} | ({"/metrics"} if settings.metrics_open else set[str]())

    def guard(scope: Scope) -> ASGIApp | None:
        if scope["path"] in open_paths or has_bearer(scope, service.token):
            return None
        return _refused(401, "missing or wrong token", "invalid_api_key")

    return Edge(
        Router(routes=routes, redirect_slashes=False),
        guard=guard,
        known=_known,
        refusal=_refused,
        log=log,
        count=metrics.served,
    )


def _endpoint(handler: Handler) -> Any:
    """A handler as an ASGI app of its own, so that it may answer with a stream."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            answered = await handler(Request(scope, receive))
            await answered(scope, receive, send)

    return Endpoint()


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> ASGIApp:
        """An answer, or a stream of its pieces."""
        exposure, deadline_s = self._limits(request)
        body = chat_request(await json_object(request, MAX_REQUEST_BYTES))
        calls = self._service.calls
        if body.get("stream") is True:
            begun = calls.stream(body, exposure, deadline_s)
            events, headers = await until_gone(request.receive, begun)
            return EventStream(events, headers)
        answered = calls.complete(body, exposure, deadline_s)
        content, headers = await until_gone(request.receive, answered)
        return answer(content, headers=headers)

    async def embeddings(self, request: Request) -> ASGIApp:
        """Vectors for texts."""
        exposure, deadline_s = self._limits(request)
        body = embeddings_request(await json_object(request, MAX_REQUEST_BYTES))
        embedded = self._service.calls.embed(body, exposure, deadline_s)
        content, headers = await until_gone(request.receive, embedded)
        return answer(content, headers=headers)

    async def models(self, request: Request) -> ASGIApp:  # noqa: ARG002
        """What the aliases stand for and what providers say they have."""
        names = await self._model_names()
        return answer({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> ASGIApp:
        """One of them."""
        wanted: str = request.path_params["id"]
        if wanted not in self._known_names() and wanted not in await self._model_names():
            return _refused(404, f"Model '{wanted[:200]}' not found", "model_not_found")
        return answer(_model(wanted))

    async def aliases(self, request: Request) -> ASGIApp:
        """The chains, and what each name costs at most within the exposure asked for."""
        exposure, _ = self._limits(request)
        registry, loaded = self._service.router.registry, self._service.loaded()
        return answer(
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
        return answer({"status": status, **(more if is_open else {}), "providers": providers})

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


def _known(exc: Exception) -> ASGIApp | None:
    match exc:
        case CallFailed():
            return _failure(exc.problem)
        case InvalidRequest() | BadRequest():
            status = exc.status if isinstance(exc, BadRequest) else 422
            kind = "invalid_request"
            return _failure(Problem(status, kind, str(exc), kind, exc.field))
        case UnknownAlias():
            return _refused(404, str(exc), "model_not_found")
        case _:
            return None


def _failure(problem: Problem) -> Response:
    """An error before the first byte, with its real status."""
    wait = problem.retry_after_s
    headers = {} if wait is None else {"retry-after": str(ceil(wait))}
    return answer(problem.body, problem.status, headers)


def _refused(status: int, words: str, code: str = "") -> Response:
    """An error of HTTP itself: no such path, no such method, no token."""
    return _failure(Problem(status, "auth" if status == 401 else "invalid_request", words, code))


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
