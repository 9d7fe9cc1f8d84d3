"""One model call from request to answer: routed, counted, traced, priced."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from math import ceil
from typing import Protocol

from mana_actors.errors import ProviderError
from mana_actors.json_values import JsonObject, as_object, as_text
from mana_actors.llm.provider import AliasFacts, Exposure
from mana_actors.llm.router.aliases.registry import Registry, UnknownAlias
from mana_actors.llm.router.chain.health import ProviderHealth
from mana_actors.llm.router.contract import Answered, Streamed, Target
from mana_actors.llm.router.metrics import Metrics, token_count
from mana_actors.llm.router.stream import shown_chunk
from mana_actors.llm.router.telemetry import CallSpan, Tracing
from mana_actors.llm.router.wire.answers import Problem, problem_of

log = logging.getLogger("mana.llm")


class Routing(Protocol):
    """What is asked of the router."""

    @property
    def registry(self) -> Registry:
        """The one in force."""
        ...

    async def complete(
        self, body: JsonObject, *, exposure: Exposure, deadline_s: float
    ) -> Answered: ...

    async def stream(
        self, body: JsonObject, *, exposure: Exposure, deadline_s: float
    ) -> Streamed: ...

    async def embed(
        self, body: JsonObject, *, exposure: Exposure, deadline_s: float
    ) -> Answered: ...

    async def models(self) -> list[Target]: ...

    def health(self) -> Mapping[str, ProviderHealth]: ...

    def facts(self, model: object, exposure: Exposure) -> AliasFacts: ...


class CallFailed(Exception):
    """A call that failed before its first byte, as its caller is told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Calls:
    """Makes calls; `only_service` is where all names lead."""

    def __init__(
        self,
        router: Routing,
        *,
        metrics: Metrics,
        tracing: Tracing,
        only_service: str | None = None,
    ) -> None:
        self._router = router
        self._metrics, self._tracing, self._only = metrics, tracing, only_service

    async def complete(
        self, body: JsonObject, exposure: Exposure, deadline_s: float
    ) -> tuple[JsonObject, dict[str, str]]:
        """The answer and its headers; raises CallFailed."""
        asked, began = self._asked(body), time.monotonic()
        with self._tracing.call("chat", asked) as span:
            try:
                routed = self._routed(body, asked)
                done = await self._router.complete(routed, exposure=exposure, deadline_s=deadline_s)
            except (ProviderError, UnknownAlias) as exc:
                raise CallFailed(self._failed(exc, asked, span)) from None
            usage = done.body.get("usage")
            self._metrics.answered(done.target, usage, time.monotonic() - began)
            span.answered(done.target, usage)
        headers = self._headers(done.target, done.exposure)
        if (cost := self._cost_micros(done.target, usage)) is not None:
            headers["x-mana-llm-cost-micros"] = str(cost)
        return done.body | {"model": done.target.name}, headers

    async def stream(
        self, body: JsonObject, exposure: Exposure, deadline_s: float
    ) -> tuple[AsyncGenerator[JsonObject], dict[str, str]]:
        """The events of an answer whose provider is settled, and headers; raises CallFailed."""
        asked = self._asked(body)
        events = self._events(body, asked, exposure, deadline_s)
        first = await anext(events)
        assert isinstance(first, Streamed)
        return _rest(events), self._headers(first.target, first.exposure)

    async def _events(
        self, body: JsonObject, asked: str, exposure: Exposure, deadline_s: float
    ) -> AsyncGenerator[Streamed | JsonObject]:
        """First who streams, then what: one generator, so that one span covers both."""
        began = time.monotonic()
        self._metrics.stream_began(asked)
        with self._tracing.call("chat", asked) as span:
            try:
                routed = self._routed(body, asked)
                streamed = await self._router.stream(
                    routed, exposure=exposure, deadline_s=deadline_s
                )
            except (ProviderError, UnknownAlias) as exc:
                raise CallFailed(self._failed(exc, asked, span)) from None
            usage: object = None
            options = as_object(body.get("stream_options")) or {}
            with_usage = options.get("include_usage") is True
            try:
                async with aclosing(streamed.chunks) as chunks:
                    yield streamed
                    async for chunk in chunks:
                        usage = chunk.get("usage") or usage
                        name = streamed.target.name
                        shown = shown_chunk(chunk, model=name, with_usage=with_usage)
                        if shown is not None:
                            yield shown
            except ProviderError as exc:
                yield self._failed(exc, asked, span).frame
            except Exception as exc:  # noqa: BLE001 - the status has left; a frame is all that can
                yield self._broken(exc, asked, span).frame
            else:
                self._metrics.stream_ended(streamed.target, usage, time.monotonic() - began)
                span.answered(streamed.target, usage)

    async def embed(
        self, body: JsonObject, exposure: Exposure, deadline_s: float
    ) -> tuple[JsonObject, dict[str, str]]:
        """Embeddings and headers; raises CallFailed."""
        asked, began = self._asked(body), time.monotonic()
        with self._tracing.call("embeddings", asked) as span:
            try:
                routed = self._routed(body, asked)
                done = await self._router.embed(routed, exposure=exposure, deadline_s=deadline_s)
            except (ProviderError, UnknownAlias) as exc:
                raise CallFailed(self._failed(exc, asked, span)) from None
            usage = done.body.get("usage")
            self._metrics.answered(done.target, usage, time.monotonic() - began)
            span.answered(done.target, usage)
        return done.body | {"model": done.target.name}, self._headers(done.target, done.exposure)

    def _asked(self, body: JsonObject) -> str:
        """The name that was asked for: the default where there is none."""
        return as_text(body.get("model")) or self._router.registry.default or ""

    def _routed(self, body: JsonObject, asked: str) -> JsonObject:
        """The request under a name the registry knows; one service gets all direct names."""
        if self._only is not None and self._router.registry.alias(asked) is None:
            asked = f"{self._only}/{asked.removeprefix(f'{self._only}/')}"
        return body | {"model": asked}

    def _failed(self, exc: ProviderError | UnknownAlias, asked: str, span: CallSpan) -> Problem:
        if isinstance(exc, UnknownAlias):
            problem = Problem(404, "invalid_request", f"model: {exc}", "model_not_found", "model")
        else:
            problem = problem_of(exc)
        self._metrics.failed(asked, problem.kind)
        span.failed(problem.kind)
        log.info("model_call_failed kind=%s status=%d", problem.kind, problem.status)
        return problem

    def _broken(self, exc: Exception, asked: str, span: CallSpan) -> Problem:
        log.error("stream_broken error=%s", type(exc).__name__)
        self._metrics.failed(asked, "server_error")
        span.failed("server_error")
        return Problem(500, "server_error", "internal error")

    def _headers(self, target: Target, exposure: Exposure) -> dict[str, str]:
        return {
            "x-mana-llm-resolved": target.name,
            "x-mana-llm-exposure": exposure,
            "x-mana-llm-context": str(self._router.registry.model(target).context_tokens),
        }

    def _cost_micros(self, target: Target, usage: object) -> int | None:
        """What the answer cost, rounded up; None where the provider did not count."""
        model = self._router.registry.model(target)
        prompt = token_count(usage, "prompt_tokens")
        completion = token_count(usage, "completion_tokens")
        if not prompt and not completion:
            return None
        unseen = max(0, token_count(usage, "total_tokens") - prompt - completion)
        return ceil(
            prompt * model.micros_per_prompt_token
            + (completion + unseen) * model.micros_per_completion_token
        )


async def _rest(
    events: AsyncGenerator[Streamed | JsonObject],
) -> AsyncGenerator[JsonObject]:
    async with aclosing(events):
        async for event in events:
            assert not isinstance(event, Streamed)
            yield event
