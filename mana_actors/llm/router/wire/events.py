"""Reading a provider's event stream: chunks unchanged, and everything else a typed error."""

from typing import Any

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.completions import failure

MAX_LINE_BYTES = 1024 * 1024
_IGNORED = (b":", b"event:", b"id:", b"retry:")


class ChunkReader:
    """Chunks of a chat-completions stream out of the bytes as they arrive, cut anywhere."""

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
        chunks = [self._chunk(line.strip()) for line in lines]
        return [chunk for chunk in chunks if chunk is not None]

    def end(self) -> list[JsonObject]:
        """The chunks that were waiting for the end; raises ProviderBusy if it came too early."""
        rest = self.feed(b"\n") if self._rest else []
        if not (self.is_done or self._finished):
            raise ProviderBusy("invalid_answer", 200, None, "cut_stream", self._provider)
        return rest

    def _chunk(self, line: bytes) -> JsonObject | None:
        if self.is_done or not line or line.startswith(_IGNORED):
            return None
        is_data, value = line.startswith(b"data:"), line.removeprefix(b"data:").strip()
        self.is_done = is_data and value == b"[DONE]"
        if self.is_done or (is_data and not value):
            return None
        return self._read(value if is_data else b"")

    def _read(self, value: bytes) -> JsonObject:
        chunk = decoded(value)
        if chunk is not None and chunk.get("error"):
            raise error_inside(chunk, self._provider)
        if chunk is None or not isinstance(chunk.get("choices"), list):
            raise ProviderBusy("invalid_answer", 200, None, "no_chunk", self._provider)
        choices = objects_in(chunk["choices"])
        self._finished |= any(choice.get("finish_reason") for choice in choices)
        return chunk


def error_inside(answer: JsonObject, provider: str) -> ProviderError:
    """The error that a provider sent under a status of 200."""
    status: Any = (as_object(answer.get("error")) or {}).get("code")
    is_status = isinstance(status, int) and 400 <= status < 600
    body = msgspec.json.encode(answer)
    return failure(status if is_status else 502, body, retry_after_s=None, provider=provider)


def decoded(body: bytes) -> JsonObject | None:
    """`body` if it is a JSON object, else None."""
    try:
        return as_object(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
