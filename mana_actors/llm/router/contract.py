"""What the parts of the router say to each other: targets, upstreams, and what was answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from mana_actors.json_values import JsonObject
from mana_actors.llm.provider import Exposure


class Target(msgspec.Struct, frozen=True, order=True):
    """One entry of a chain: a model as its provider names it (it may hold slashes)."""

    provider: str
    model: str

    @property
    def name(self) -> str:
        """The entry as the alias file writes it."""
        return f"{self.provider}/{self.model}"


class Attempt(msgspec.Struct, frozen=True):
    """An entry that did not serve: `unconfigured`, `cache-unhealthy`, or an error's kind."""

    target: Target
    reason: str


class Upstream(Protocol):
    """One provider behind its OpenAI-compatible API; bodies are requests and answers as JSON.

    `model` replaces the body's. Every method raises ProviderError and nothing else; `stream` may
    do so before its first chunk, when another entry can still serve, or later, when none can.
    """

    async def complete(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        """The whole answer within `deadline_s` seconds, body included."""
        ...

    def stream(
        self, body: JsonObject, model: str, *, deadline_s: float
    ) -> AsyncGenerator[JsonObject]:
        """The chunks of an answer, each a chat.completion.chunk with its deltas unchanged."""
        ...

    async def embed(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        """The answer to an embeddings request."""
        ...

    async def models(self) -> list[str]:
        """The models this provider names."""
        ...

    async def probe(self) -> bool:
        """Whether the provider is there: any answer below 500 to its cheapest question."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class Answered(msgspec.Struct, frozen=True):
    """A whole answer, who gave it, and who was passed by before."""

    target: Target
    exposure: Exposure
    body: JsonObject
    attempts: tuple[Attempt, ...] = ()


class Streamed(msgspec.Struct, frozen=True):
    """A stream whose first chunk has arrived (or that ended empty): its provider is settled."""

    target: Target
    exposure: Exposure
    chunks: AsyncGenerator[JsonObject]
    attempts: tuple[Attempt, ...] = ()
