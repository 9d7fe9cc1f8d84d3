"""How services say the same thing: one turn of a model, whole or in pieces, and its usage."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from tests.zoo.rules import Json

Piece = Json | bytes
Thoughts = Literal[
    "none", "reasoning_content", "reasoning", "details", "think", "chunks", "signature"
]
Usage = Literal[
    "plain",
    "details",
    "deepseek",
    "thinking_apart",
    "missing",
    "null",
    "zeros",
    "half",
    "total_only",
    "anthropic",
    "gemini",
    "ollama",
    "strings",
]
EXACT: frozenset[Usage] = frozenset(
    (
        "plain",
        "details",
        "deepseek",
        "thinking_apart",
        "total_only",
        "anthropic",
        "gemini",
        "ollama",
    )
)
"""Reports that say all that was billed; for the others more may be charged, never less."""


class Call(msgspec.Struct, frozen=True):
    """A tool that the model wants."""

    name: str
    arguments: Json


class Turn(msgspec.Struct, frozen=True):
    """What a model says in one round; `thoughts` is what nobody may see."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    thoughts: str = ""


class Spent(msgspec.Struct, frozen=True):
    """What one answer is billed."""

    prompt: int
    output: int
    thinking: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.prompt + self.output + self.thinking


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How a service dresses its answers.

    `content` is what stands beside calls that come without text; `in_text`: calls are written into
    the text; `stream` how it is cut; `around` and `choice` are further members.
    """

    ids: Literal["openai", "nine", "anthropic", "kimi", "long", "same", "none", "again"] = "openai"
    thoughts: Thoughts = "none"
    arguments: Literal["text", "object", "spaced", "doubled"] = "text"
    prefix: str = ""
    suffix: str = ""
    content: Literal["null", "empty", "absent", "parts"] = "null"
    whole: str = "stop"
    called: str = "tool_calls"
    in_text: bool = False
    usage: Usage = "plain"
    stream: Literal["openai", "azure", "gemini", "openrouter", "llama", "xai", "crlf"] = "openai"
    around: Json = {}
    choice: Json = {}


def message_of(habits: Habits, turn: Turn, number: int) -> Json:
    """The assistant message of a turn; `number` counts the answers of this conversation."""
    message: Json = {"role": "assistant"}
    text: Any = turn.text or None
    if habits.thoughts == "think" and turn.thoughts:
        text = f"<think>\n{turn.thoughts}\n</think>\n\n{turn.text}"
    if habits.in_text:
        said = (json.dumps({"name": call.name, "arguments": call.arguments}) for call in turn.calls)
        text = (text or "") + "".join(f"<tool_call>\n{one}\n</tool_call>\n" for one in said)
    if text is None and habits.content in ("empty", "parts"):
        text = ""
    if habits.content == "parts":
        text = [{"type": "text", "text": text}] if text else []
        if habits.thoughts == "chunks" and turn.thoughts:
            thinking = [{"type": "text", "text": turn.thoughts}]
            text = [{"type": "thinking", "thinking": thinking}, *text]
    if text is not None or habits.content != "absent":
        message["content"] = text
    if turn.thoughts and habits.thoughts in ("reasoning_content", "reasoning", "details"):
        name = "reasoning_content" if habits.thoughts == "reasoning_content" else "reasoning"
        message[name] = turn.thoughts
        if habits.thoughts == "details":
            detail = {"type": "reasoning.text", "text": turn.thoughts, "signature": "c2ln"}
            message["reasoning_details"] = [{**detail, "format": "x-v1", "index": 0}]
    if turn.calls and not habits.in_text:
        message["tool_calls"] = [
            _call(habits, call, number, place) for place, call in enumerate(turn.calls)
        ]
    return message


def answer_of(habits: Habits, turn: Turn, number: int, spent: Spent, model: str) -> Json:
    """The whole answer."""
    message = message_of(habits, turn, number)
    finish = habits.called if "tool_calls" in message else habits.whole
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer: Json = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": model,
        "choices": [choice | habits.choice],
    }
    return answer | usage_of(habits, spent) | habits.around


def usage_of(habits: Habits, spent: Spent) -> Json:
    """The members of an answer that say what it cost, as far as the service does."""
    output = spent.output + spent.thinking
    plain: Json = {
        "prompt_tokens": spent.prompt,
        "completion_tokens": output,
        "total_tokens": spent.total,
    }
    hit = {"prompt_cache_hit_tokens": spent.cached}
    cached = {"prompt_tokens_details": {"cached_tokens": spent.cached}}
    thought = {"completion_tokens_details": {"reasoning_tokens": spent.thinking}}
    google = {
        "promptTokenCount": spent.prompt,
        "candidatesTokenCount": spent.output,
        "thoughtsTokenCount": spent.thinking,
        "totalTokenCount": spent.total,
    }
    reports: dict[Usage, Json] = {
        "plain": {"usage": plain},
        "details": {"usage": plain | cached | thought},
        "deepseek": {
            "usage": plain | hit | {"prompt_cache_miss_tokens": spent.prompt - spent.cached}
        },
        "thinking_apart": {"usage": plain | {"completion_tokens": spent.output}},
        "missing": {},
        "null": {"usage": None},
        "zeros": {"usage": dict.fromkeys(plain, 0)},
        "half": {"usage": {"prompt_tokens": spent.prompt}},
        "total_only": {"usage": {"total_tokens": spent.total}},
        "anthropic": {"usage": {"input_tokens": spent.prompt, "output_tokens": output}},
        "gemini": {"usageMetadata": google},
        "ollama": {"prompt_eval_count": spent.prompt, "eval_count": output},
        "strings": {"usage": {name: str(tokens) for name, tokens in plain.items()}},
    }
    return reports[habits.usage]


def stream_of(habits: Habits, turn: Turn, number: int, spent: Spent, model: str) -> list[Piece]:
    """The pieces of the same answer, without the end mark."""
    message = message_of(habits, turn, number)
    calls: list[Json] = message.pop("tool_calls", [])
    said: Any = message.pop("content", None) or ""
    text: str = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    named = {"object": "chat.completion.chunk", "model": model, "id": f"chatcmpl-{number}"}
    deltas: list[Json] = [message | {"content": ""}] if habits.stream != "gemini" else [message]
    deltas += [{"content": each} for each in _cut(text)]
    for place, call in enumerate(calls):
        if habits.stream in ("gemini", "llama", "xai"):
            index = {} if habits.stream == "gemini" else {"index": place}
            deltas.append({"tool_calls": [index | call]})
            continue
        arguments = str(call["function"]["arguments"])
        function = call["function"] | {"arguments": ""}
        deltas.append({"tool_calls": [{"index": place} | call | {"function": function}]})
        deltas += [
            {"tool_calls": [{"index": place, "function": {"arguments": each}}]}
            for each in _cut(arguments)
        ]
    chunks: list[Json] = [
        named | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    finish = habits.called if calls else habits.whole
    usage = usage_of(habits, spent)
    last: Json = named | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    match habits.stream:
        case "gemini":  # the end comes with the last piece, usage with each
            chunks[-1]["choices"][0]["finish_reason"] = finish
            return [chunk | usage for chunk in chunks]
        case "xai":
            return [*(chunk | usage for chunk in chunks), last | usage]
        case "azure":
            filters = {"hate": {"filtered": False, "severity": "safe"}}
            found = [{"prompt_index": 0, "content_filter_results": filters}]
            first: Json = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
            first["prompt_filter_results"] = found
            return [first, *chunks, last, named | {"choices": []} | usage]
        case "openrouter":
            waiting = b": OPENROUTER PROCESSING\n\n"
            return [waiting, *chunks, waiting, last, named | {"choices": []} | usage]
        case "llama":
            return [*chunks, last, named | {"choices": None} | usage | {"timings": {"cache_n": 0}}]
        case "crlf":
            whole: list[Json] = [*chunks, last, named | {"choices": []} | usage]
            lines = [b"\xef\xbb\xbf"]
            for place, chunk in enumerate(whole):
                lines.append(b"event: message\r\nid: %d\r\ndata: " % place)
                lines.append(json.dumps(chunk, indent=0).replace("\n", "\r\ndata: ").encode())
                lines.append(b"\r\n\r\n")
            return list(lines)
        case "openai":
            return [*chunks, last, named | {"choices": []} | usage]


def _cut(text: str) -> list[str]:
    return [text[place : place + 7] for place in range(0, len(text), 7)]


def _call(habits: Habits, call: Call, number: int, place: int) -> Json:
    count = number * 10 + place
    arguments: Any = json.dumps(call.arguments)
    if habits.arguments == "object":
        arguments = call.arguments
    elif habits.arguments == "spaced":
        arguments = f"\n {json.dumps(call.arguments, indent=1)}\n"
    elif habits.arguments == "doubled":
        arguments = json.dumps(arguments)
    wire: Json = {
        "id": {
            "openai": f"call_{count:024d}",
            "nine": f"aB3dE{count:04d}",
            "anthropic": f"toolu_01{count:022d}",
            "kimi": f"functions.{call.name}:{count}",
            "long": f"call_{count:0500d}",
            "same": "dup",
            "none": None,
            "again": f"call_{place}",
        }[habits.ids],
        "type": "function",
        "function": {
            "name": f"{habits.prefix}{call.name}{habits.suffix}",
            "arguments": arguments,
        },
    }
    if habits.ids == "none":
        del wire["id"]
    if habits.thoughts == "signature" and place == 0:
        wire["extra_content"] = {"google": {"thought_signature": f"c2ln{count}"}}
    return wire
