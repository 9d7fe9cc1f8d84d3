"""A provider's event stream: its chunks, and everything else as a typed error."""

import re
from collections.abc import Iterator

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject, as_list, as_object, objects_in
from mana_actors.llm.completions import (
    end_of_choice,
    error_inside,
    failed_inside,
    is_error,
    reported_usage,
)
from mana_actors.llm.failures.leniency import decoded_value

MAX_EVENT_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_OTHER_FIELDS = frozenset({b"", b"id", b"retry"})
_PLAIN_EVENTS = frozenset({b"", b"message"})


class ChunkReader:
    """Reads the chunks of a chat-completions stream by the rules of the HTML standard.

    Bytes may be cut anywhere. After the answer is whole (`is_finished`) nothing is an error any
    more; `is_done` says that nothing more is to come. `usage` is what the service counted so far.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._line, self._after_cr, self._is_first_line = bytearray(), False, True
        self._is_stream, self._is_odd = True, False
        self._event, self._data, self._size = b"", list[bytes](), 0
        self._open, self._ended = set[int](), set[int]()  # choices by their index
        self.usage: TokenUsage | None = None
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether every choice that began has ended."""
        return bool(self._ended) and self._open <= self._ended

    def feed(self, data: bytes) -> Iterator[JsonObject]:
        """The chunks that `data` completes; raises ProviderError for an error frame or nonsense."""
        if data and self._after_cr:
            data, self._after_cr = data.removeprefix(b"\n"), False
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        *ends, rest = _LINE_END.split(data)
        for end in ends:
            self._line += end
            line = bytes(self._line)
            self._line.clear()
            yield from self._taken(line)
        self._line += rest
        if len(self._line) + self._size > MAX_EVENT_BYTES:
            raise self._failed(ProviderRefused, "too_large")

    def end(self) -> Iterator[JsonObject]:
        """The chunks that were waiting for the end; raises ProviderBusy if it came too early."""
        yield from self._taken(bytes(self._line))
        if not self._is_stream:  # a whole answer, or an error, where a stream was asked for
            answer = as_object(decoded_value(b"\n".join(self._data))) or {}
            self.usage = reported_usage(answer)
            raise failed_inside(answer, self._provider) or self._failed(ProviderBusy, "no_chunk")
        yield from self._dispatched()
        if not (self.is_done or self.is_finished):
            raise self._failed(ProviderBusy, "cut_stream")

    def _taken(self, line: bytes) -> Iterator[JsonObject]:
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(_BOM), False
            self._is_stream = line[:1] not in (b"{", b"[")
        if not self._is_stream:
            self._data.append(line)
            self._size += len(line)
            return
        if not line:
            yield from self._dispatched()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(line)
        elif name == b"event":
            self._event = value
        elif name not in _OTHER_FIELDS:
            self._is_odd = True

    def _dispatched(self) -> Iterator[JsonObject]:
        """The chunks of the event that is complete; mostly one."""
        event, data = self._event, self._data
        self._event, self._data, self._size = b"", [], 0
        values = [b"\n".join(data)]
        if len(data) > 1 and decoded_value(values[0]) is None:
            values = data  # who leaves out the blank lines between events
        for value in values:
            chunk = self._chunk(value.strip(), event)
            if chunk is not None:
                yield chunk

    def _chunk(self, value: bytes, event: bytes) -> JsonObject | None:
        if self.is_done or not value:
            return None
        if value == b"[DONE]":
            if self._is_odd and not self._open:  # a page of words is no empty answer
                raise self._failed(ProviderBusy, "no_chunk")
            self.is_done = True
            return None
        found = decoded_value(value)
        chunk = next(iter(objects_in([found, *as_list(found)])), None)
        error = self._error(chunk, value, event)
        if error is None and chunk is not None:
            self.usage = reported_usage(chunk) or self.usage
            for choice in objects_in(chunk.get("choices")):
                index = choice.get("index")
                place = index if isinstance(index, int) else 0
                self._open.add(place)
                if end_of_choice(choice) is not None:
                    self._ended.add(place)
            return chunk if "choices" in chunk or "usage" in chunk else None
        if error is not None and not self.is_finished:
            raise error
        self.is_done = error is not None or self.is_done
        return None

    def _error(self, chunk: JsonObject | None, value: bytes, event: bytes) -> ProviderError | None:
        """What is wrong with an event, None if nothing is."""
        if event == b"error" or (chunk is not None and is_error(chunk)):
            said = chunk if chunk is not None else {"error": value.decode("utf-8", "replace")}
            error = error_inside(said, self._provider)
            error.usage = self.usage
            return error
        if chunk is None:
            return self._failed(ProviderBusy, "no_chunk")
        choices = objects_in(chunk.get("choices"))
        broken = next(filter(is_error, choices), None)
        if broken is None and any(end_of_choice(choice) == "error" for choice in choices):
            broken = {}
        if broken is not None:
            error = error_inside(broken, self._provider)
            error.usage = reported_usage(chunk) or self.usage
            return error
        is_chunk = isinstance(chunk.get("choices", []), list | None) and (
            "choices" in chunk or "usage" in chunk
        )
        if not is_chunk and event in _PLAIN_EVENTS:
            return self._failed(ProviderBusy, "no_chunk")
        return None

    def _failed(self, raised: type[ProviderError], code: str) -> ProviderError:
        return raised("invalid_answer", 200, None, code, self._provider, usage=self.usage)


def is_prelude(chunk: JsonObject) -> bool:
    """True for a chunk without text, call, end or usage: at most it names a role."""
    if chunk.get("choices") == [] and not chunk.get("usage"):
        return True  # Azure begins with what it found in the prompt
    choices = objects_in(chunk.get("choices"))
    for choice in choices:
        delta = as_object(choice.get("delta")) or {}
        if end_of_choice(choice) is not None or any(delta[key] for key in delta if key != "role"):
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
        _without_nulls(shown_choice(choice))
        | {"delta": _without_nulls(as_object(choice.get("delta")) or {})}
        for choice in choices
    ]
    return shown


def shown_choice(choice: JsonObject) -> JsonObject:
    """A choice with OpenAI's word for how it ended; another word stays as the native one."""
    word, end = choice.get("finish_reason"), end_of_choice(choice)
    if end == word:
        return choice
    if end is None:
        return choice | {"finish_reason": None}
    return {"native_finish_reason": word} | choice | {"finish_reason": end}


def _without_nulls(value: JsonObject) -> JsonObject:
    return {name: each for name, each in value.items() if each is not None}
