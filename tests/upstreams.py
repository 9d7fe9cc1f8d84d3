"""Upstreams that play a script in the test's own process, for what routing decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Any, cast

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject
from mana_actors.llm.router.aliases.registry import Target
from mana_actors.llm.router.entries.interview import Listing


class ScriptedUpstream:
    """Answers in turn, the last one for ever; every call lands in `calls`.

    An answer is "ok", "hang", "wait" (for `go_on`), an error, or, for streams, {"chunks": n} with
    an "error" after them.
    """

    def __init__(
        self, name: str, answers: list[Any] | None = None, calls: list[str] | None = None
    ) -> None:
        self.name = name
        self.answers: list[Any] = answers or ["ok"]
        self.calls: list[str] = [] if calls is None else calls
        self.bodies: list[JsonObject] = []
        self.deadlines: list[float] = []
        self.is_configured = True
        self.closed = False
        self.running = 0
        self.most_running = 0
        self.probes: list[Any] = [True]
        self.listing = Listing()
        self.go_on = asyncio.Event()

    async def complete(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        answer = self._next(body, model, deadline_s)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._given(answer, model, deadline_s)
        finally:
            self.running -= 1

    async def stream(
        self, body: JsonObject, model: str, *, deadline_s: float
    ) -> AsyncGenerator[JsonObject]:
        answer = self._next(body, model, deadline_s)
        is_script = isinstance(answer, dict)
        if not is_script:
            await self._given(answer, model, deadline_s)
        script = cast("JsonObject", answer if is_script else {"chunks": 1})
        for place in range(script["chunks"]):
            yield {"chunk": f"{self.name}:{place}"}
        if "error" in script:
            raise script["error"]

    async def embed(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        return await self.complete(body, model, deadline_s=deadline_s)

    async def models(self) -> list[str]:
        await self._given(self._next({}, "models", 0), "models", 0)
        return ["b", "a"]

    async def about(self, wanted: Collection[str] = ()) -> Listing:
        return self.listing

    async def probe(self) -> bool:
        found = self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]
        if found == "hang":
            await asyncio.Event().wait()
        if isinstance(found, BaseException):
            raise found
        return bool(found)

    async def aclose(self) -> None:
        self.closed = True

    def _next(self, body: JsonObject, model: str, deadline_s: float) -> Any:
        self.calls.append(Target(self.name, model).name)
        self.bodies.append(body)
        self.deadlines.append(deadline_s)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _given(self, answer: Any, model: str, deadline_s: float) -> JsonObject:
        if answer == "hang":
            try:
                async with asyncio.timeout(deadline_s):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise ProviderBusy("timeout", 0, None, "", self.name) from None
        if answer == "wait":
            await self.go_on.wait()
        if isinstance(answer, BaseException):
            raise answer
        return {"served": Target(self.name, model).name}


def refused(status: int) -> ProviderError:
    return ProviderRefused("auth" if status in (401, 403) else "unknown", status)


def rate_limited(retry_after_s: float | None = None) -> ProviderError:
    return ProviderBusy("rate_limit", 429, retry_after_s)


NETWORK = ProviderBusy("network")
BROKEN = ProviderBusy("unknown", 500)
GARBAGE = ProviderBusy("invalid_answer", 200)


class Seen:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.resolutions: list[tuple[str, str]] = []
        self.fallbacks: list[tuple[str, str | None, str]] = []
        self.turns: list[tuple[str, bool]] = []

    def resolved(self, alias: str, target: Target) -> None:
        self.resolutions.append((alias, target.name))

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None:
        self.fallbacks.append((from_target.name, to_target and to_target.name, reason))

    def provider_healthy(self, provider: str, healthy: bool) -> None:
        self.turns.append((provider, healthy))


class HandClock:
    """Moves only by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
