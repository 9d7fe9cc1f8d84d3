"""What a model service says that an answer cost, in whichever words, and whether it can be true."""

from math import ceil
from typing import Any

import msgspec

from mana_actors.json_values import JsonObject, as_object, as_text, objects_in

MOST_TOKENS = 2**31
MOST_BYTES_PER_TOKEN = 256
"""No token of an answer is longer: twice the longest one in use, a run of 128 spaces."""

_PROMPT = (
    "prompt_tokens",  # OpenAI, and nearly everybody
    "input_tokens",  # Anthropic, OpenAI's responses
    "promptTokenCount",  # Gemini
    "prompt_eval_count",  # Ollama
    "inputTokens",  # Bedrock
    "promptTokens",
)
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "candidatesTokenCount",
    "eval_count",
    "outputTokens",
    "completionTokens",
)
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")
_PROMPT_TOO = ("toolUsePromptTokenCount",)
_COMPLETION_TOO = ("thoughtsTokenCount",)
_BESIDE_TOTAL = "citation_tokens"
"""Perplexity bills what it read in the web, and counts it nowhere else."""
_BESIDE_INPUT = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic leaves these out of `input_tokens`."""
_CACHED = (
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cachedContentTokenCount",
    "cacheReadInputTokens",
)
_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_WORDS = frozenset((*_PROMPT, *_COMPLETION, *_TOTAL))
_encoder = msgspec.json.Encoder()


class Usage(msgspec.Struct, frozen=True):
    """Tokens that an answer cost by its provider's own count; a part it left out is 0.

    `total` is at least the parts: thinking may be counted there alone. `cached` tokens of the
    prompt were read from the provider's cache. An impossible report is no report, except that
    nobody is charged less than it says.
    """

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    is_possible: bool = True


def usage_of(answer: JsonObject) -> Usage | None:
    """What `answer` says of itself, None where it says nothing.

    Impossible is: a count that is no whole number from 0 to 2^31, no token for the prompt, fewer
    tokens than the text of the answer can be, a total below its parts. How long a prompt was is no
    measure of its count: some services count only what was not in their cache.
    """
    told = _report(answer)
    if told is None:
        return None
    counts = {name: _count(told.get(name)) for name in _WORDS if told.get(name) is not None}
    is_sensible = None not in counts.values()
    prompt, completion = _largest(counts, _PROMPT), _largest(counts, _COMPLETION)
    total = _largest(counts, _TOTAL)
    if prompt is not None:
        prompt += sum(_count(told.get(name)) or 0 for name in _PROMPT_TOO)
        if told.get("input_tokens") is not None and told.get("prompt_tokens") is None:
            prompt += sum(_count(told.get(name)) or 0 for name in _BESIDE_INPUT)
    if completion is not None:
        completion += sum(_count(told.get(name)) or 0 for name in _COMPLETION_TOO)
    parts = (prompt or 0) + (completion or 0)
    unsaid = max(0, (total or 0) - parts)  # what a part that is left out may be
    least = ceil(_said_bytes(answer) / MOST_BYTES_PER_TOKEN)
    is_possible = (
        is_sensible
        and (unsaid if prompt is None else prompt) > 0
        and (unsaid if completion is None else completion) >= least
        and max(parts, total or 0) > least
        and (total is None or total >= parts)
    )
    places = [told, *(as_object(told.get(name)) or {} for name in _DETAILS)]
    cached = max(_count(place.get(name)) or 0 for place in places for name in _CACHED)
    read, thought = _count(told.get(_BESIDE_TOTAL)) or 0, _count(told.get("reasoning_tokens")) or 0
    if thought <= (completion or 0):
        thought = 0  # mostly they are a part of the answer's; Perplexity's are more than it has
    return Usage(
        (prompt or 0) + read,
        (completion or 0) + thought,
        max(parts + read + thought, total or 0),
        min(cached, prompt or 0),
        is_possible,
    )


def _report(answer: JsonObject) -> JsonObject | None:
    """The object in which `answer` counts, wherever it stands."""
    choices = objects_in(answer.get("choices"))
    places: list[object] = [
        answer.get("usage"),
        answer.get("usageMetadata"),
        answer.get("usage_metadata"),
        (as_object(answer.get("x_groq")) or {}).get("usage"),
        *(choice.get("usage") for choice in choices[:1]),
        answer,  # Ollama's own
    ]
    for place in places:
        found = as_object(place)
        if found is None:
            continue
        inner = as_object(found.get("tokens"))  # Cohere
        for each in (found, inner):
            if each and any(each.get(name) is not None for name in _WORDS):
                return each
    return None


def _count(value: object) -> int | None:
    """A count as number or as digits, None for anything else."""
    match value:
        case bool():
            return None
        case int():
            count = value
        case float() if value.is_integer():
            count = int(value)
        case str() if value.isascii() and value.isdigit() and len(value) <= 10:
            count = int(value)
        case _:
            return None
    return count if 0 <= count <= MOST_TOKENS else None


def _largest(counts: dict[str, int | None], names: tuple[str, ...]) -> int | None:
    found = [count for name in names if (count := counts.get(name)) is not None]
    return max(found, default=None)


def _said_bytes(answer: JsonObject) -> int:
    """The bytes of text and calls in an answer: what its tokens must at least be enough for."""
    size = 0
    for choice in objects_in(answer.get("choices")):
        message = as_object(choice.get("message")) or {}
        parts = [as_text(part.get("text")) for part in objects_in(message.get("content"))]
        called = objects_in(message.get("tool_calls"))
        calls = [as_object(call.get("function")) or {} for call in called]
        said: list[Any] = [message.get("content"), *parts]
        said += [value for call in calls for value in (call.get("name"), call.get("arguments"))]
        size += sum(_size(value) for value in said)
    return size


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value.strip().encode(errors="replace"))
    if isinstance(value, dict):
        try:
            return len(_encoder.encode(value))
        except (OverflowError, UnicodeEncodeError, RecursionError):
            return 0
    return 0
