"""One model call from request to answer: routed, counted, traced, priced."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from mana_actors.errors import ProviderError
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in
from mana_actors.llm.headers import (
    CARRIED_LOST_HEADER,
    CONTEXT_HEADER,
    COST_HEADER,
    EXPOSURE_HEADER,
    RESOLVED_HEADER,
)
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import Price, UnknownAlias
from mana_actors.llm.router.metrics import RouterMetrics
from mana_actors.llm.router.routing import Routed, Router
from mana_actors.llm.router.traces import CallSpan, Tracing
from mana_actors.llm.router.wire.events import shown_choice, shown_chunk
from mana_actors.llm.router.wire.problems import Problem, problem_of
from mana_actors.llm.usage import usage_of

log = logging.getLogger("mana.llm")


class CallFailed(Exception):
    """A call failed before anything was sent; `problem` is what its caller is told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Calls:
    """Makes model calls, counts and traces them; with a single service, all names lead there."""

    def __init__(self, router: Router, *, metrics: RouterMetrics, tracing: Tracing) -> None:
        self._router, self._metrics, self._tracing = router, metrics, tracing

    async def complete(
        self,
        body: JsonObject,
        exposure: Exposure,
        deadline_s: float,
        said_by: Mapping[int, str] = {},
    ) -> tuple[JsonObject, dict[str, str]]:
        """The answer and its headers; raises CallFailed. `said_by` is as for the Router."""
        done = await self._whole(
            "chat",
            self._router.complete,
            body,
            exposure=exposure,
            deadline_s=deadline_s,
            said_by=said_by,
        )
        headers, usage = self._headers(done), usage_of(done.answer)
        if usage is not None and usage.is_possible:  # else nobody knows what it cost
            price = self._router.registry.price(done.target) or Price()
            cost = price.micros(usage.prompt, usage.completion, usage.total, usage.cached)
            headers[COST_HEADER] = str(cost)
        choices = [shown_choice(choice) for choice in objects_in(done.answer.get("choices"))]
        return done.answer | {"model": done.target.name, "choices": choices}, headers

    async def embed(
        self, body: JsonObject, exposure: Exposure, deadline_s: float
    ) -> tuple[JsonObject, dict[str, str]]:
        """Embeddings and headers; raises CallFailed."""
        done = await self._whole(
            "embeddings", self._router.embed, body, exposure=exposure, deadline_s=deadline_s
        )
        return done.answer | {"model": done.target.name}, self._headers(done)

    async def stream(
        self,
        body: JsonObject,
        exposure: Exposure,
        deadline_s: float,
        said_by: Mapping[int, str] = {},
    ) -> tuple[AsyncGenerator[JsonObject], dict[str, str]]:
        """The events of an answer whose provider is settled, and headers; raises CallFailed."""
        events = self._events(body, exposure, deadline_s, said_by)
        first = await anext(events)
        assert isinstance(first, Routed)
        return _rest(events), self._headers(first)

    async def _whole(
        self,
        operation: str,
        route: Callable[..., Awaitable[Routed[JsonObject]]],
        body: JsonObject,
        **limits: Any,
    ) -> Routed[JsonObject]:
        asked, began = self._asked(body), time.monotonic()
        with self._tracing.call(operation, asked) as span:
            try:
                routed = self._routed(body, asked)
                done = await route(routed, **limits)
            except (ProviderError, UnknownAlias) as exc:
                raise CallFailed(self._failed(exc, asked, span)) from None
            usage = done.answer.get("usage")
            self._metrics.answered(done.target, usage, time.monotonic() - began)
            span.answered(done.target, usage)
        return done

    async def _events(
        self,
        body: JsonObject,
        exposure: Exposure,
        deadline_s: float,
        said_by: Mapping[int, str],
    ) -> AsyncGenerator[Routed[AsyncGenerator[JsonObject]] | JsonObject]:
        """First the routed stream, then its chunks: one generator, so that one span covers both."""
        asked, began = self._asked(body), time.monotonic()
        self._metrics.stream_began(asked)
        with self._tracing.call("chat", asked) as span:
            try:
                routed = self._routed(body, asked)
                stream = await self._router.stream(
                    routed, exposure=exposure, deadline_s=deadline_s, said_by=said_by
                )
            except (ProviderError, UnknownAlias) as exc:
                raise CallFailed(self._failed(exc, asked, span)) from None
            usage: object = None
            options = as_object(body.get("stream_options")) or {}
            with_usage = options.get("include_usage") is True
            try:
                async with aclosing(stream.answer) as chunks:
                    yield stream
                    async for chunk in chunks:
                        usage = chunk.get("usage") or usage
                        name = stream.target.name
                        shown = shown_chunk(chunk, model=name, with_usage=with_usage)
                        if shown is not None:
                            yield shown
            except ProviderError as exc:
                yield self._failed(exc, asked, span).frame
            except Exception as exc:  # noqa: BLE001 - the status has left; a frame is all that can
                log.error("stream_broken error=%s", type(exc).__name__)  # noqa: TRY400 - holds text
                self._metrics.failed(asked, "server_error")
                span.failed("server_error")
                yield Problem(500, "server_error", "internal error").frame
            else:
                self._metrics.stream_ended(stream.target, usage, time.monotonic() - began)
                span.answered(stream.target, usage)

    def _asked(self, body: JsonObject) -> str:
        """The name a request asks for, or the default."""
        return as_text(body.get("model")) or self._router.registry.default or ""

    def _routed(self, body: JsonObject, asked: str) -> JsonObject:
        """The request under a name the registry knows; a single service gets every direct name."""
        registry = self._router.registry
        if registry.otherwise and registry.alias(asked) is None:
            only = registry.otherwise[0].provider
            asked = f"{only}/{asked.removeprefix(f'{only}/')}"
        return body | {"model": asked}

    def _failed(self, exc: ProviderError | UnknownAlias, asked: str, span: CallSpan) -> Problem:
        if isinstance(exc, UnknownAlias):
            words, code = f"model: {exc}", "model_not_found"
            problem = Problem(404, "invalid_request", words, code=code, field="model")
        else:
            problem = problem_of(exc)
        self._metrics.failed(asked, problem.kind)
        span.failed(problem.kind)
        log.info("model_call_failed kind=%s status=%d", problem.kind, problem.status)
        return problem

    def _headers(self, routed: Routed[Any]) -> dict[str, str]:
        return {
            RESOLVED_HEADER: routed.target.name,
            EXPOSURE_HEADER: routed.exposure,
            CONTEXT_HEADER: str(self._router.profile(routed.target).abilities.context),
            **routed.wasted.headers,
            **({CARRIED_LOST_HEADER: str(routed.carried_lost)} if routed.carried_lost else {}),
        }


async def _rest(events: AsyncGenerator[Routed[Any] | JsonObject]) -> AsyncGenerator[JsonObject]:
    async with aclosing(events):
        async for event in events:
            assert not isinstance(event, Routed)
            yield event
