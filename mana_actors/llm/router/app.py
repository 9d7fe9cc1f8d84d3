"""The router's HTTP API: chat completions for agents and everybody else, and what it knows."""

import logging
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.routing import Router as Routes
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.bodies import NO_STORE, BadRequest, answer, json_object
from mana_actors.http.door import vouch_for
from mana_actors.http.edge import Edge, has_bearer
from mana_actors.http.paths import text_of
from mana_actors.json_values import JsonObject
from mana_actors.llm.carried import said_by_in
from mana_actors.llm.headers import DEADLINE_HEADER, EXPOSURE_HEADER, SAID_BY_HEADER
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import UnknownAlias
from mana_actors.llm.router.calls import CallFailed, Calls
from mana_actors.llm.router.entries.abilities import Abilities, Profile
from mana_actors.llm.router.metrics import CONTENT_TYPE, RouterMetrics
from mana_actors.llm.router.registry_source import RegistrySource
from mana_actors.llm.router.routing import Router
from mana_actors.llm.router.settings import RouterSettings
from mana_actors.llm.router.stream import EventStream, until_gone
from mana_actors.llm.router.wire.problems import Problem
from mana_actors.llm.router.wire.requests import InvalidRequest, chat_request, embeddings_request
from state.rules.exposure import ORDER, lower_of

log = logging.getLogger("mana.llm")

MAX_REQUEST_BYTES = 16 * 1024 * 1024
SERVICE = "mana-llm"
Handler = Callable[[Request], Awaitable[ASGIApp]]


def create_app(
    settings: RouterSettings,
    token: str,
    *,
    router: Router,
    source: RegistrySource,
    calls: Calls,
    metrics: RouterMetrics,
) -> ASGIApp:
    """The app of one router, for callers that bring `token`."""
    api = _Api(settings, router, source, calls, metrics)
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
    open_paths = {"/health"} | ({"/metrics"} if settings.metrics_open else set[str]())

    def guard(scope: Scope) -> ASGIApp | None:
        if has_bearer(scope, token):
            vouch_for(scope)
            return None
        if scope["path"] in open_paths:
            return None
        return _refused(401, "missing or wrong token", "invalid_api_key")

    return Edge(
        Routes(routes=routes, redirect_slashes=False),
        guard=guard,
        known=_known,
        refusal=_refused,
        log=log,
        count=metrics.served,
    )


def _endpoint(handler: Handler) -> Any:
    """A handler as an ASGI app, because a plain endpoint could not answer with a stream."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            answered = await handler(Request(scope, receive))
            await answered(scope, receive, send)

    return Endpoint()


class _Api:
    def __init__(
        self,
        settings: RouterSettings,
        router: Router,
        source: RegistrySource,
        calls: Calls,
        metrics: RouterMetrics,
    ) -> None:
        self._settings, self._router, self._source = settings, router, source
        self._calls, self._metrics = calls, metrics

    async def chat(self, request: Request) -> ASGIApp:
        """Chat completions: a whole answer or, if the caller asked for it, a stream."""
        exposure, deadline_s = self._limits(request)
        body = chat_request(await json_object(request, MAX_REQUEST_BYTES))
        try:
            said_by = said_by_in(request.headers.get(SAID_BY_HEADER, "{}"))
        except ValueError:
            raise InvalidRequest(SAID_BY_HEADER, "is not an object of names by place") from None
        if body.get("stream") is True:
            begun = self._calls.stream(body, exposure, deadline_s, said_by)
            events, headers = await until_gone(request.receive, begun)
            return EventStream(events, headers)
        answered = self._calls.complete(body, exposure, deadline_s, said_by)
        content, headers = await until_gone(request.receive, answered)
        return answer(content, headers=headers)

    async def embeddings(self, request: Request) -> ASGIApp:
        """Embeddings."""
        exposure, deadline_s = self._limits(request)
        body = embeddings_request(await json_object(request, MAX_REQUEST_BYTES))
        embedded = self._calls.embed(body, exposure, deadline_s)
        content, headers = await until_gone(request.receive, embedded)
        return answer(content, headers=headers)

    async def models(self, request: Request) -> ASGIApp:  # noqa: ARG002
        """Every alias and model of the alias file, and every model that providers list."""
        names = await self._model_names()
        return answer({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> ASGIApp:
        """One of those models, or 404."""
        wanted = text_of(request.path_params["id"])
        is_known = wanted in self._router.registry.names  # asks no provider
        if not is_known and wanted not in await self._model_names():
            return _refused(404, f"Model '{wanted[:200]}' not found", "model_not_found")
        return answer(_model(wanted))

    async def aliases(self, request: Request) -> ASGIApp:
        """The chains, and what each name costs at most within the exposure asked for."""
        exposure, _ = self._limits(request)
        registry, loaded = self._router.registry, self._source.state
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
                        "facts": self._router.facts(alias.name, exposure),
                    }
                    for alias in registry.aliases.values()
                ],
                "models": [
                    {
                        "name": target.name,
                        "exposure": registry.exposure(target),
                        "facts": self._router.facts(target.name, exposure),
                        "price": registry.price(target),
                        **_profile(self._router.profile(target)),
                    }
                    for target in registry.targets
                ],
            }
        )

    async def health(self, request: Request) -> ASGIApp:
        """The health of every provider; the status code is 200 in any case."""
        providers = dict(sorted(self._router.health().items()))
        flags = [each.status == "healthy" for each in providers.values()]
        status = "healthy" if all(flags) else "degraded" if any(flags) else "unhealthy"
        more = {"service": SERVICE, "version": self._settings.version}
        is_open = request.url.path == "/health"
        return answer({"status": status, **(more if is_open else {}), "providers": providers})

    async def metrics(self, request: Request) -> ASGIApp:  # noqa: ARG002
        """Prometheus text."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE, headers=NO_STORE)

    def _limits(self, request: Request) -> tuple[Exposure, float]:
        """Exposure and seconds for a request: what its headers ask for, within our own limits."""
        most = self._settings
        wanted = request.headers.get(EXPOSURE_HEADER)
        if wanted is not None and wanted not in ORDER:
            raise InvalidRequest(EXPOSURE_HEADER, "is not local, eu or any")
        given = request.headers.get(DEADLINE_HEADER)
        try:
            seconds = most.deadline_s if given is None else float(given)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise InvalidRequest(DEADLINE_HEADER, "is not a number of seconds")
        return lower_of(wanted or most.exposure, most.exposure), min(seconds, most.deadline_s)

    async def _model_names(self) -> list[str]:
        named = {target.name for target in await self._router.models()}
        return sorted(named.union(self._router.registry.names))


def _known(exc: Exception) -> ASGIApp | None:
    match exc:
        case CallFailed():
            return _failure(exc.problem)
        case InvalidRequest() | BadRequest():
            status = exc.status if isinstance(exc, BadRequest) else 422
            kind = "invalid_request"
            return _failure(Problem(status, kind, str(exc), code=kind, field=exc.field))
        case UnknownAlias():
            return _refused(404, str(exc), "model_not_found")
        case _:
            return None


def _failure(problem: Problem) -> Response:
    """A problem as a whole answer with its own status."""
    wait = problem.retry_after_s
    headers = problem.wasted.headers
    if wait is not None:
        headers["retry-after"] = str(ceil(wait))
    return answer(problem.body, problem.status, headers)


def _refused(status: int, words: str, code: str = "") -> Response:
    """An error of HTTP itself: unknown path, wrong method, missing token."""
    return _failure(Problem(status, "auth" if status == 401 else "invalid_request", words, code))


def _profile(profile: Profile) -> JsonObject:
    """What holds of an entry by the keys of the alias file, and who told each of it."""
    told: JsonObject = {}
    for field in msgspec.structs.fields(Abilities):
        if field.name in profile.told_by:
            told[field.encode_name] = getattr(profile.abilities, field.name)
    names = {each.name: each.encode_name for each in msgspec.structs.fields(Abilities)}
    return {
        "abilities": told,
        "told_by": {names[field]: teller for field, teller in profile.told_by.items()},
    }


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0]}
