"""The line to one provider: how many calls it takes at once, and when it can be closed."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Protocol

from mana_actors.errors import ProviderError
from mana_actors.json_values import JsonObject
from mana_actors.llm.router.chain.failures import fault_shown
from mana_actors.llm.router.entries.interview import Listing

MAX_CONCURRENT = 8
MODELS_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


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

    async def about(self, wanted: Collection[str] = ()) -> Listing:
        """What this provider says of its models, in detail of those `wanted`; never raises."""
        ...

    async def probe(self) -> bool:
        """Whether the provider is there: any answer below 500 to its cheapest question."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class Line:
    """At most `max_concurrent` calls hold the line to a provider; the others wait."""

    def __init__(self, upstream: Upstream, max_concurrent: int = MAX_CONCURRENT) -> None:
        self.upstream = upstream
        self._turn = asyncio.Semaphore(max_concurrent)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def is_configured(self) -> bool:
        """Whether the provider can be called at all: its key is there, or it needs none."""
        return bool(getattr(self.upstream, "is_configured", True))

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Wait for a turn and hold it."""
        self._users += 1
        self._unused.clear()
        try:
            async with self._turn:
                yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def models(self) -> list[str]:
        """The models the provider names; none where it fails or is slow."""
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                return await self.upstream.models()
        except (ProviderError, TimeoutError):
            return []

    async def problem(self, timeout_s: float) -> str | None:
        """What a probe finds wrong with the provider, as a code, or None."""
        try:
            async with asyncio.timeout(timeout_s):
                return None if await self.upstream.probe() else "probe_failed"
        except TimeoutError:
            return "probe_timeout"
        except ProviderError as error:
            return fault_shown(error) if error.cause == "settings" else "probe_failed"
        except Exception as exc:  # noqa: BLE001 - one bad probe must not end the others
            _log.warning("probe_failed error=%s", type(exc).__name__)
            return "probe_failed"

    async def retire(self) -> None:
        """Close the connections once no call holds the line or waits for it."""
        await self._unused.wait()
        await self.upstream.aclose()
