"""A provider's event stream: its chunks, and everything else as a typed error."""

from typing import Any

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.completions import decoded, failure

MAX_LINE_BYTES = 1024 * 1024
_IGNORED = (b":", b"event:", b"id:", b"retry:")


class ChunkReader:
    """Reads chunks of a chat-completions stream from bytes that may be cut anywhere."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._rest = b""
        self._finished = False
        self.is_done = False

    def feed(self, data: bytes) -> list[JsonObject]:
        """The chunks that `data` completes; raises ProviderError for an error frame or nonsense."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ProviderRefused("invalid_answer", 200, None, "too_large", self._provider)
        chunks: list[JsonObject] = []
        for line in map(bytes.strip, lines):
            if self.is_done or not line or line.startswith(_IGNORED):
                continue
            is_data, value = line.startswith(b"data:"), line.removeprefix(b"data:").strip()
            self.is_done = is_data and value == b"[DONE]"
            if not (self.is_done or (is_data and not value)):
                chunks.append(self._chunk(value if is_data else b""))
        return chunks

    def end(self) -> list[JsonObject]:
        """The chunks that were waiting for the end; raises ProviderBusy if it came too early."""
        rest = self.feed(b"\n") if self._rest else []
        if not (self.is_done or self._finished):
            raise ProviderBusy("invalid_answer", 200, None, "cut_stream", self._provider)
        return rest

    def _chunk(self, value: bytes) -> JsonObject:
        chunk = decoded(value)
        if chunk is not None and chunk.get("error"):
            raise error_inside(chunk, self._provider)
        if chunk is None or not isinstance(chunk.get("choices"), list):
            raise ProviderBusy("invalid_answer", 200, None, "no_chunk", self._provider)
        choices = objects_in(chunk["choices"])
        self._finished |= any(choice.get("finish_reason") for choice in choices)
        return chunk


def is_prelude(chunk: JsonObject) -> bool:
    """True for a chunk without text, call or end: at most it names a role."""
    choices = objects_in(chunk.get("choices"))
    for choice in choices:
        delta = as_object(choice.get("delta")) or {}
        if choice.get("finish_reason") or any(delta[key] for key in delta if key != "role"):
            return False
    return bool(choices)


def shown_chunk(chunk: JsonObject, *, model: str, with_usage: bool) -> JsonObject | None:
    """A provider's chunk as the caller sees it, or None for one that only carries usage.

    `model` is who really answers; null keys are left out, deltas are otherwise unchanged.
    """
    choices = objects_in(chunk.get("choices"))
    if not choices and not (with_usage and chunk.get("usage")):
        return None
    shown = _without_nulls(chunk) | {"model": model, "object": "chat.completion.chunk"}
    if not with_usage:
        shown.pop("usage", None)
    shown["choices"] = [
        _without_nulls(choice) | {"delta": _without_nulls(as_object(choice.get("delta")) or {})}
        for choice in choices
    ]
    return shown


def _without_nulls(value: JsonObject) -> JsonObject:
    return {name: each for name, each in value.items() if each is not None}


def error_inside(answer: JsonObject, provider: str) -> ProviderError:
    """The error that a provider sent under a status of 200."""
    status: Any = (as_object(answer.get("error")) or {}).get("code")
    is_status = isinstance(status, int) and 400 <= status < 600
    body = msgspec.json.encode(answer)
    return failure(status if is_status else 502, body, retry_after_s=None, provider=provider)
