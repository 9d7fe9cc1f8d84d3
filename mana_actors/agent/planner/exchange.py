"""What planner and model say to each other, and the exact bytes in which a request travels."""

import hashlib
from typing import Any, Literal

import msgspec

from mana_actors.json_values import JsonObject

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]

DEFAULT_TEMPERATURE = 0.3
DEFAULT_MAX_OUTPUT = 4096


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tool the model asked for; `problem` says why its arguments were unreadable, else "".

    `rationale` is why, in the model's words; a checked call has it, the wire does not.
    """

    id: str
    name: str
    arguments: JsonObject = msgspec.field(default_factory=dict[str, Any])
    problem: str = ""
    rationale: str = ""


class ToolResult(msgspec.Struct, frozen=True):
    """What became of a call; `data` is UNSET where the tool returns nothing (null is a value)."""

    success: bool
    message: str
    data: Any = msgspec.UNSET


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of the conversation; `tool_call_id` says which call a tool turn answers."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ModelRequest(msgspec.Struct, frozen=True):
    """One model call; `max_output` bounds the answer in tokens, `tools` are function specs."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[JsonObject, ...] = ()
    temperature: float = DEFAULT_TEMPERATURE
    max_output: int = DEFAULT_MAX_OUTPUT


class ModelAnswer(msgspec.Struct, frozen=True):
    """One model answer; tokens are 0 and `usage_reported` false where the provider was silent.

    `exposure` ("" unknown), `context_tokens` (0 unknown) and `cost_micros` (None unknown) are what
    the router says of the model that answered.
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


def request_bytes(request: ModelRequest) -> bytes:
    """The exact JSON body of a chat-completions call.

    Messages come last, so that tools and system prompt are a byte-stable prefix; `tool_choice` is
    only there with tools, since providers refuse it alone; `max_tokens` bounds what a call can
    cost, and so the tokens held for it.
    """
    body: JsonObject = {
        "model": request.model,
        "temperature": request.temperature,
        "max_tokens": request.max_output,
        "stream": False,
    }
    if request.tools:
        body |= {"tools": list(request.tools), "tool_choice": "auto"}
    messages: list[JsonObject] = []
    for message in request.messages:
        wire: JsonObject = {"role": message.role, "content": message.content}
        if message.tool_calls:
            wire["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": _encoder.encode(call.arguments).decode(),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            wire["tool_call_id"] = message.tool_call_id
        messages.append(wire)
    body["messages"] = messages
    return _encoder.encode(body)


def request_hash(request: ModelRequest) -> str:
    """SHA-256 (hex) of the bytes of `request`: the journal's key for "the same question"."""
    return hashlib.sha256(request_bytes(request)).hexdigest()


def result_content(result: ToolResult) -> str:
    """`result` as the JSON text of a tool turn: {success, message, data?}."""
    return _encoder.encode(result).decode()
