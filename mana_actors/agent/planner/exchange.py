"""What planner and model say to each other, and the exact bytes in which a request travels."""

import hashlib
import re
from functools import cached_property
from typing import Any, Literal

import msgspec

from mana_actors.json_values import JsonObject, as_object
from mana_actors.llm.failures.wasted import Wasted

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]

DEFAULT_TEMPERATURE = 0.3
DEFAULT_MAX_OUTPUT = 4096
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OWN_ID = re.compile(r"[\w.:-]{1,64}|[\w.:-]{1,64}__thought__[\w+/=-]{1,65536}", re.ASCII)
"""Kimi wants its `functions.name:0` back, and LiteLLM keeps a signature behind `__thought__`."""
_OURS = frozenset({"role", "tool_calls", "tool_call_id"})


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tool the model asked for; `problem` says why its arguments were unreadable, else "".

    `rationale` is why, in the model's words; a checked call has it, the wire does not. `carried`
    are members that nobody but the model that made the call can read (those of `function` under
    that name): they go back to it with the next round, and are never shown.
    """

    id: str
    name: str
    arguments: JsonObject = msgspec.field(default_factory=dict[str, Any])
    problem: str = ""
    rationale: str = ""
    carried: JsonObject = msgspec.field(default_factory=dict[str, Any])


class ToolResult(msgspec.Struct, frozen=True):
    """What became of a call; `data` is UNSET where the tool returns nothing (null is a value)."""

    success: bool
    message: str
    data: Any = msgspec.UNSET


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of the conversation; `tool_call_id` says which call a tool turn answers.

    `said_by` is the model of an assistant's turn as the router names it, "" where that is unknown;
    `carried` is the turn's as a call's is (reasoning, signatures; `content` in the model's own
    form), for that model alone.
    """

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    carried: JsonObject = msgspec.field(default_factory=dict[str, Any])
    said_by: str = ""


class ModelRequest(msgspec.Struct, frozen=True, dict=True):
    """One model call; `max_output` bounds the answer in tokens, `tools` are function specs."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[JsonObject, ...] = ()
    temperature: float = DEFAULT_TEMPERATURE
    max_output: int = DEFAULT_MAX_OUTPUT

    @cached_property
    def raw(self) -> bytes:
        """The exact JSON body of a chat-completions call, made once for all who measure or send it.

        Messages come last, so that tools and system prompt are a byte-stable prefix; `tool_choice`
        is only there with tools, since providers refuse it alone; `max_tokens` bounds what a call
        can cost, and so the tokens held for it. What turns carry is there as their model sent it:
        who may not have it, the router keeps it from (`said_by`).
        """
        body: JsonObject = {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_output,
            "stream": False,
        }
        if self.tools:
            body |= {"tools": list(self.tools), "tool_choice": "auto"}
        body["messages"] = _wire_messages(self)
        return _encoder.encode(body)


class ModelAnswer(msgspec.Struct, frozen=True):
    """One model answer; tokens are 0 and `usage_reported` false where the provider was silent.

    It is false as well where the report is impossible; then the tokens are what it says.
    `exposure` ("" unknown), `context_tokens` (0 unknown) and `cost_micros` (None unknown) are what
    the router says of the model that answered. `cached_tokens` of the prompt came from the
    provider's cache. `wasted` is what entries spent that failed before it.

    `carried` is what the next round has to bring back (`ChatMessage`); `carried_lost` counts the
    turns whose carried members did not reach the model: another one said them, or they were too
    large to keep.

    `refusal` are the words in which it declined; they are its owner's to read, as `content` is.
    """

    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    usage_reported: bool = False
    resolved_model: str = ""
    exposure: str = ""
    context_tokens: int = 0
    cost_micros: int | None = None
    cached_tokens: int = 0
    wasted: Wasted = Wasted()
    carried: JsonObject = msgspec.field(default_factory=dict[str, Any])
    carried_lost: int = 0
    refusal: str = ""


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens spent; `total_tokens` is the provider's own total where that is larger.

    Providers count thinking in the total alone, and it has to be paid for.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def plus(self, answer: ModelAnswer) -> "TokenUsage":
        """This usage and that of one more answer."""
        spent = max(answer.total_tokens, answer.prompt_tokens + answer.completion_tokens)
        return TokenUsage(
            self.prompt_tokens + answer.prompt_tokens,
            self.completion_tokens + answer.completion_tokens,
            self.total_tokens + spent,
        )


_encoder = msgspec.json.Encoder()
_answer_decoder = msgspec.json.Decoder(ModelAnswer)


def encode_answer(answer: ModelAnswer) -> bytes:
    """`answer` as JSON for the journal."""
    return _encoder.encode(answer)


def decode_answer(raw: bytes) -> ModelAnswer:
    """The answer that `encode_answer` wrote; raises msgspec.ValidationError on anything else."""
    return _answer_decoder.decode(raw)


def said_by(request: ModelRequest) -> dict[int, str]:
    """Whose turns these are: the place of an assistant's turn on the wire, and its model."""
    sent = [message for message in request.messages if not _says_nothing(message)]
    return {place: message.said_by for place, message in enumerate(sent) if message.said_by}


def _says_nothing(message: ChatMessage) -> bool:
    """A turn without text and calls: providers refuse a conversation that holds one."""
    is_blank = not (message.content or "").strip()
    return message.role == "assistant" and is_blank and not message.tool_calls


def _wire_messages(request: ModelRequest) -> list[JsonObject]:
    """The conversation in a form that every service takes.

    Each call has an id of its own, whatever the model gave it, and its result has the same; each
    name of a call is a name; text beside calls is text or nothing.
    """
    offered = {spec["function"]["name"] for spec in request.tools}
    used: set[str] = set()
    waiting: list[tuple[str, str]] = []  # the last turn's calls: id as given, id on the wire
    messages: list[JsonObject] = []
    for message in request.messages:
        if _says_nothing(message):
            continue
        wire: JsonObject = {"role": message.role, "content": message.content}
        if message.tool_calls:
            if not (message.content or "").strip():
                wire["content"] = None
            waiting = [(call.id, _wire_id(call.id, used)) for call in message.tool_calls]
            wire["tool_calls"] = [
                call.carried
                | {
                    "id": identity,
                    "type": "function",
                    "function": (as_object(call.carried.get("function")) or {})
                    | {
                        "name": _wire_name(call.name, offered),
                        "arguments": _encoder.encode(call.arguments).decode(),
                    },
                }
                for call, (_, identity) in zip(message.tool_calls, waiting, strict=True)
            ]
        if message.tool_call_id is not None:
            # Results come in the order of the calls: of two equal ids the first is meant first.
            meant = [pair for pair in waiting if pair[0] == message.tool_call_id][:1]
            wire["tool_call_id"] = meant[0][1] if meant else message.tool_call_id
            waiting = [pair for pair in waiting if pair not in meant]
        carried = message.carried
        messages.append(wire | {key: carried[key] for key in carried if key not in _OURS})
    return messages


def _wire_id(given: str, used: set[str]) -> str:
    """An id that no other call of the conversation has; the model's own where it can serve.

    Ours have nine letters and digits, since Mistral takes nothing else.
    """
    identity, number = given, len(used)
    while identity in used or not _OWN_ID.fullmatch(identity):
        number += 1
        identity = f"call{number:05d}"
    used.add(identity)
    return identity


def _wire_name(name: str, offered: set[str]) -> str:
    """A name that every service takes; one that is no tool's name never reads as one."""
    if _NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:50] or "nameless"
    return f"unknown_{plain}" if plain in offered else plain


def request_hash(request: ModelRequest) -> str:
    """SHA-256 (hex) of the bytes of `request`: the journal's key for "the same question"."""
    return hashlib.sha256(request.raw).hexdigest()


def result_content(result: ToolResult) -> str:
    """`result` as the JSON text of a tool turn: {success, message, data?}."""
    return _encoder.encode(result).decode()
