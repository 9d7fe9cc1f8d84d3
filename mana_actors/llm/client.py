"""The HTTP client for any OpenAI-compatible chat-completions service."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest, said_by
from mana_actors.errors import (
    ProviderBusy,
    ProviderError,
    ProviderErrorKind,
    ProviderRefused,
)
from mana_actors.llm.carried import said_by_text
from mana_actors.llm.completions import failure, read_answer
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.headers import (
    CARRIED_LOST_HEADER,
    CONTEXT_HEADER,
    COST_HEADER,
    DEADLINE_HEADER,
    EXPOSURE_HEADER,
    RESOLVED_HEADER,
    SAID_BY_HEADER,
    count_in,
)
from mana_actors.llm.provider import AliasFacts, Exposure, provider_label
from mana_actors.llm.transport import Connections, is_success, transport_error

if TYPE_CHECKING:
    import aiohttp

_CALLED_NOBODY = frozenset({"unconfigured", "cache-unhealthy", "exposure", "busy"})
_KIND_OF_REASON: dict[str, ProviderErrorKind] = {
    "timeout": "timeout",
    "network": "network",
    "invalid_answer": "invalid_answer",
    "failed_answer": "invalid_answer",
    "truncated": "truncated",
}
"""What a chain failed of, where an entry may have worked on the request; the first that fits."""
MAX_BODY_BYTES = 8 * 1024 * 1024
DEFAULT_DEADLINE_S = 120.0
LONGEST_RETRY_AFTER_S = 86_400.0
FACTS_KEPT_S = 60.0
FACTS_AGAIN_S = 5.0
FACTS_DEADLINE_S = 3.0


class _Attempt(msgspec.Struct, frozen=True):
    reason: str
    target: str = ""


class _Detail(msgspec.Struct, frozen=True):
    attempts: tuple[_Attempt, ...] = ()
    provider: str = ""


class _Told(msgspec.Struct, frozen=True):
    """The part of a router's refusal that says who failed, and of what."""

    detail: _Detail


class _Name(msgspec.Struct, frozen=True):
    name: str
    facts: AliasFacts


class _Names(msgspec.Struct, frozen=True):
    """What the router says of the names it knows."""

    aliases: tuple[_Name, ...]
    models: tuple[_Name, ...] = ()


class _Facts(msgspec.Struct, frozen=True):
    until: float
    facts: dict[str, AliasFacts]


class _Answer(msgspec.Struct, frozen=True):
    """An answer whole; `resolved` is the entry that gave it, by its header."""

    status: int
    headers: Mapping[str, str]
    resolved: str
    body: bytes


class HttpProvider:
    """A ModelProvider over HTTP; aiohttp is imported with the first call.

    `url` is the base of the service, with or without `/v1`. The key is read from `key_file` at each
    call, so that it can be rotated; it is never kept. `wall_clock` gives the present UTC instant,
    against which a Retry-After date is read; `clock` counts seconds, for how old facts are.
    """

    def __init__(
        self,
        url: str,
        *,
        key_file: Path | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = completions_url(url)
        self._base = self._endpoint.removesuffix("/chat/completions")
        self._facts: dict[str, _Facts] = {}
        self._clock = clock
        self._key_file = key_file
        self._max_body_bytes = max_body_bytes
        self._wall_clock = wall_clock
        self._connections: Connections | None = None

    async def complete(
        self,
        request: ModelRequest,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        exposure: Exposure = "any",
    ) -> ModelAnswer:
        """The answer to `request`; raises ProviderBusy or ProviderRefused.

        `deadline_s` covers everything: connecting, sending, headers and the whole body. A limit on
        each phase alone would let a slow sender hold an agent for ever.
        """
        asked = provider_label(request.model)
        # The router gives up a little earlier, so that we hear its reason and not our own timeout.
        patience = {DEADLINE_HEADER: f"{deadline_s * 0.95:.3f}"}
        headers = self._headers() | {EXPOSURE_HEADER: exposure} | patience
        if speakers := said_by(request):
            headers[SAID_BY_HEADER] = said_by_text(speakers)
        answer = await self._answer(
            "POST", self._endpoint, headers, request.raw, within_s=deadline_s, asked=asked
        )
        provider = provider_label(answer.resolved) if answer.resolved else asked
        if not is_success(answer.status):
            wait_s = retry_after_s(answer.headers.get("retry-after"), self._wall_clock())
            error = failure(answer.status, answer.body, retry_after_s=wait_s, provider=provider)
            error = told_of_attempts(error, answer.body)
            error.wasted = Wasted.of(answer.headers)
            raise error
        read = read_answer(
            answer.body,
            resolved=answer.resolved,
            asked_model=request.model,
            provider=provider,
        )
        return with_headers(read, answer.headers)

    async def facts(self, model: str, exposure: Exposure = "any") -> AliasFacts:
        """What `model` costs at most, a minute old at most; the defaults where nobody can say."""
        known = self._facts.get(exposure)
        if known is not None and known.until >= self._clock():
            return known.facts.get(model, AliasFacts())
        try:
            answer = await self._answer(
                "GET",
                f"{self._base}/aliases",
                self._headers() | {EXPOSURE_HEADER: exposure},
                within_s=FACTS_DEADLINE_S,
            )
            if not is_success(answer.status):
                raise ProviderRefused("unknown", answer.status, None, "")
            told = msgspec.json.decode(answer.body, type=_Names)
        except (
            ProviderError,
            msgspec.MsgspecError,
            UnicodeDecodeError,
            RecursionError,
        ):  # a silent router means what it said before, if anything
            found = _Facts(self._clock() + FACTS_AGAIN_S, known.facts if known else {})
        else:
            facts = {each.name: each.facts for each in (*told.models, *told.aliases)}
            found = _Facts(self._clock() + FACTS_KEPT_S, facts)
        self._facts[exposure] = found
        return found.facts.get(model, AliasFacts())

    async def aclose(self) -> None:
        """Close the connections."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    async def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        *,
        within_s: float,
        asked: str = "unknown",
    ) -> _Answer:
        """What the service says, good or bad, whole; `asked` is whom to blame where it says not."""
        if self._connections is None:
            # Before the deadline begins: loading certificates must not eat into it.
            self._connections = Connections(self._endpoint, "unknown")
        error: ProviderError | None
        try:
            async with (
                asyncio.timeout(within_s),
                self._connections.sent(method, url, headers, content) as response,
            ):
                resolved = response.headers.get(RESOLVED_HEADER, "")
                body = await self._body(response, provider_label(resolved) if resolved else asked)
                return _Answer(response.status, response.headers, resolved, body)
        except TimeoutError:
            error = ProviderBusy("timeout", 0, None, "", asked)
        except Exception as exc:
            error = transport_error(exc, asked)
            if error is None:
                raise
        raise error  # out here, so that it does not bring along what has the key in it

    async def _body(self, response: "aiohttp.ClientResponse", provider: str) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProviderBusy(
                "invalid_answer", response.status, None, "content_encoding", provider
            )
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._max_body_bytes:
                raise ProviderRefused(
                    "invalid_answer", response.status, None, "too_large", provider
                )
        return bytes(body)

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._key_file is not None:
            headers["authorization"] = f"Bearer {read_key(self._key_file)}"
        return headers


def told_of_attempts(error: ProviderError, body: bytes) -> ProviderError:
    """`error`, with the provider that a router names, and as what its chain failed of.

    "No provider" would read as "nobody worked on it", although one of them may have.
    """
    try:
        detail = msgspec.json.decode(body, type=_Told).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return error
    called = [each for each in detail.attempts if each.reason not in _CALLED_NOBODY]
    worked = [each for each in called if each.reason in _KIND_OF_REASON]
    to_blame = next(reversed(worked or called or detail.attempts), _Attempt("", detail.provider))
    named = to_blame.target if "/" in to_blame.target else f"{to_blame.target}/"
    if (provider := provider_label(named)) != "unknown":
        error.provider = provider
    if error.kind == "no_healthy_provider" and worked:
        reasons = {attempt.reason for attempt in worked}
        kind: ProviderErrorKind = next(
            _KIND_OF_REASON[each] for each in _KIND_OF_REASON if each in reasons
        )
        wait_s = error.retry_after_s
        return ProviderBusy(kind, error.status, wait_s, error.kind, error.provider)
    return error


def with_headers(answer: ModelAnswer, headers: Mapping[str, str]) -> ModelAnswer:
    """`answer` with what the router's headers say of the model that gave it."""
    exposure = headers.get(EXPOSURE_HEADER, "")
    return msgspec.structs.replace(
        answer,
        exposure=exposure if exposure in get_args(Exposure) else "",
        context_tokens=count_in(headers.get(CONTEXT_HEADER)) or 0,
        cost_micros=count_in(headers.get(COST_HEADER)),
        wasted=Wasted.of(headers),
        carried_lost=answer.carried_lost + (count_in(headers.get(CARRIED_LOST_HEADER)) or 0),
    )


def completions_url(base: str) -> str:
    """The chat-completions address of a service with base `base`, given with or without `/v1`."""
    trimmed = base.rstrip("/")
    return f"{trimmed}{'' if trimmed.endswith('/v1') else '/v1'}/chat/completions"


def read_key(path: Path) -> str:
    """The key in `path`, trimmed; raises ProviderRefused (kind auth) if it cannot serve as one."""
    try:
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ProviderRefused("auth", 0, None, "key_file_unreadable") from None
    if not key or not key.isprintable():
        raise ProviderRefused("auth", 0, None, "key_file_invalid")
    return key


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or HTTP date, at most a day), or None."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)
