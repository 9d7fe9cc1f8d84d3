"""A provider with an OpenAI-compatible API, over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from mana_actors.errors import (
    ProviderBusy,
    ProviderError,
    ProviderErrorKind,
    ProviderRefused,
)
from mana_actors.json_values import JsonObject, as_text, objects_in
from mana_actors.llm.client import MAX_BODY_BYTES, read_key, retry_after_s
from mana_actors.llm.completions import failed_inside, failure
from mana_actors.llm.failures.leniency import decoded_object
from mana_actors.llm.router.aliases.registry import ProviderEntry, Registry
from mana_actors.llm.router.entries.interview import Listing, interviewed
from mana_actors.llm.router.line import Upstream
from mana_actors.llm.router.wire.events import ChunkReader
from mana_actors.llm.transport import Connections, is_success, transport_error

QUESTION_DEADLINE_S = 10.0
_T = TypeVar("_T")
_LINGER_S = 5.0
"""How long the count of tokens or `[DONE]` is waited for once an answer is whole."""


class HttpUpstream:
    """The Upstream that `entry` describes; its key is read at each call and never kept.

    A provider without a key file is always configured, another one as long as its file is there.
    `wall_clock` gives the UTC instant against which a Retry-After date is read.
    """

    def __init__(
        self,
        entry: ProviderEntry,
        secrets_dir: Path,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._entry = entry
        self._base = entry.url.rstrip("/")
        self._key_file = secrets_dir / entry.key_file if entry.key_file is not None else None
        if self._key_file is not None:  # it counts, not a name in the address
            parts = urlsplit(self._base)
            self._base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._max_body_bytes = max_body_bytes
        self._wall_clock = wall_clock
        self._connections: Connections | None = None

    @property
    def is_configured(self) -> bool:
        """True if the key file exists or no key is needed."""
        return self._key_file is None or self._key_file.is_file()

    async def complete(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        """The whole answer within `deadline_s` seconds, body included."""
        sent = body | {"model": model, "stream": False}
        sent.pop("stream_options", None)
        answer = await self._json("POST", "/chat/completions", sent, deadline_s)
        if (error := failed_inside(answer, self._entry.name)) is not None:
            raise error
        return answer

    async def stream(
        self, body: JsonObject, model: str, *, deadline_s: float
    ) -> AsyncGenerator[JsonObject]:
        """The chunks of an answer, unchanged."""
        sent = body | {"model": model, "stream": True}
        end = asyncio.get_running_loop().time() + deadline_s
        async with contextlib.AsyncExitStack() as open_response:
            sending = self._sent("POST", "/chat/completions", sent)
            response = await self._within(end, open_response.enter_async_context(sending))
            await self._within(end, self._check(response))
            reader, size, raw = ChunkReader(self._entry.name), 0, response.content.iter_any()
            while not reader.is_done:
                try:
                    # Timed anew each time: any task may take the next one.
                    data = await self._within(end, anext(raw, None))
                    size += len(data or b"")
                    self._check_size(size, response.status)
                except ProviderError as error:
                    if reader.is_finished:  # the answer is whole; how the line ends is no matter
                        return
                    error.usage = reader.usage
                    raise
                for chunk in reader.end() if data is None else reader.feed(data):
                    yield chunk
                if data is None:
                    return
                if reader.is_finished:
                    end = min(end, asyncio.get_running_loop().time() + _LINGER_S)

    async def embed(self, body: JsonObject, model: str, *, deadline_s: float) -> JsonObject:
        """The answer to an embeddings request."""
        answer = await self._json("POST", "/embeddings", body | {"model": model}, deadline_s)
        if not objects_in(answer.get("data")):
            raise failed_inside(answer, self._entry.name) or self._busy("invalid_answer", 200, "")
        return answer

    async def models(self) -> list[str]:
        """The models this provider names."""
        answer = await self._json("GET", "/models", None, QUESTION_DEADLINE_S)
        names = [as_text(model.get("id")) for model in objects_in(answer.get("data"))]
        return [name for name in names if name]

    async def about(self, wanted: Collection[str] = ()) -> Listing:
        """What this provider says of its models, in detail of those `wanted`; never raises."""

        async def ask(
            path: str, body: JsonObject | None = None, *, at_root: bool = False
        ) -> JsonObject | None:
            place = f"{self._base.removesuffix('/v1')}{path}" if at_root else path
            verb = "GET" if body is None else "POST"
            try:
                return await self._json(verb, place, body, QUESTION_DEADLINE_S)
            except Exception:  # noqa: BLE001 - an unanswered question is no more than that
                return None

        return await interviewed(ask, wanted)

    async def probe(self) -> bool:
        """Whether the provider is there: any answer below 500 to its cheapest question."""
        if self._entry.probe_path is None:
            return True
        end = asyncio.get_running_loop().time() + QUESTION_DEADLINE_S
        return await self._within(end, self._status("GET", self._entry.probe_path)) < 500

    async def aclose(self) -> None:
        """Close the connections."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    async def _json(
        self, method: str, path: str, body: JsonObject | None, deadline_s: float
    ) -> JsonObject:
        """The JSON object of a 2xx answer, whole within `deadline_s`."""
        end = asyncio.get_running_loop().time() + deadline_s
        answer = decoded_object(await self._within(end, self._whole(method, path, body)))
        if answer is None:
            raise self._busy("invalid_answer", 200, "no_json")
        return answer

    async def _whole(self, method: str, path: str, body: JsonObject | None) -> bytes:
        async with self._sent(method, path, body) as response:
            await self._check(response)
            return await self._read(response)

    async def _status(self, method: str, path: str) -> int:
        async with self._sent(method, path, None) as response:
            return response.status

    def _sent(
        self, method: str, path: str, body: JsonObject | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The request, sent when the result is entered; raises ProviderRefused without a key."""
        if self._connections is None:
            # Without a limit on connections: the router counts calls itself.
            self._connections = Connections(self._base, self._entry.name, limit=None)
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._key_file is not None:
            headers["authorization"] = f"Bearer {read_key(self._key_file)}"
        content = None if body is None else msgspec.json.encode(body)
        url = self._base + path if path.startswith("/") else path
        return self._connections.sent(method, url, headers, content)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error of an answer that is not 2xx, or that cannot be read."""
        if not is_success(response.status):
            wait_s = retry_after_s(response.headers.get("retry-after"), self._wall_clock())
            body = await self._read(response)
            raise failure(response.status, body, retry_after_s=wait_s, provider=self._entry.name)
        if response.headers.get("content-type", "").lower().startswith("text/html"):
            # A page of something that stands before the service: nobody worked on the request, and
            # it does not depend on what was asked, so it may close the entry off.
            page = self._busy("invalid_answer", response.status, "html_page")
            page.cause, page.may_have_spent = "broken", False
            raise page
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._busy("invalid_answer", response.status, "content_encoding")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            self._check_size(len(body), response.status)
        return bytes(body)

    def _check_size(self, size: int, status: int) -> None:
        if size > self._max_body_bytes:
            raise ProviderRefused("invalid_answer", status, None, "too_large", self._entry.name)

    async def _within(self, end: float, step: Awaitable[_T]) -> _T:
        """What `step` gives before `end` (loop time); it fails as a ProviderError."""
        error: ProviderError | None
        try:
            async with asyncio.timeout_at(end):
                return await step
        except TimeoutError:
            error = self._busy("timeout", 0, "")
        except Exception as exc:
            error = transport_error(exc, self._entry.name)
            if error is None:
                raise
        raise error  # out here, so that it does not bring along what has the key in it

    def _busy(self, kind: ProviderErrorKind, status: int, code: str) -> ProviderBusy:
        return ProviderBusy(kind, status, None, code, self._entry.name)


def upstreams_of(registry: Registry, secrets_dir: Path) -> dict[str, Upstream]:
    """An upstream for each provider of `registry`, with keys from `secrets_dir`."""
    return {name: HttpUpstream(entry, secrets_dir) for name, entry in registry.providers.items()}
