"""Reading what a chat-completions service sent back, whatever it is."""

import re
from typing import get_args

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer, ToolCall
from mana_actors.errors import ProviderBusy, ProviderError, ProviderErrorKind, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in

RESOLVED_HEADER = "x-mana-llm-resolved"
MOST_TOKENS = 2**31
SERVICE_KINDS: frozenset[str] = frozenset(
    (
        "blocked",
        "truncated",
        "auth",
        "rate_limit",
        "capability",
        "no_healthy_provider",
        "unknown",
        "exposure",
    )
)
_PASSING_KINDS = frozenset({"truncated", "rate_limit", "no_healthy_provider"})
_FINAL_KINDS = frozenset({"blocked", "auth", "capability", "exposure"})
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_KIND_OF_STATUS: dict[int, ProviderErrorKind] = {401: "auth", 403: "auth", 429: "rate_limit"}
_CODE = re.compile(r"[a-z_]{1,40}")  # no digits and no capitals, so no key fits in


def read_answer(body: bytes, *, resolved: str, asked_model: str, provider: str) -> ModelAnswer:
    """The first choice of a 2xx answer; raises ProviderBusy (`invalid_answer`) if there is none."""
    answer = decoded(body)
    choices = objects_in(answer.get("choices")) if answer else []
    message = as_object(choices[0].get("message")) if choices else None
    if answer is None or message is None:
        raise ProviderBusy("invalid_answer", 200, None, "no_choices", provider)
    parts = objects_in(message.get("content"))  # either a list of parts, or text
    text = "".join(as_text(part.get("text")) for part in parts) if parts else message.get("content")
    calls = enumerate(objects_in(message.get("tool_calls")))
    finish = choices[0].get("finish_reason")
    usage = as_object(answer.get("usage")) or {}
    prompt = token_count(usage, "prompt_tokens")
    completion = token_count(usage, "completion_tokens")
    total = token_count(usage, "total_tokens") or 0
    return ModelAnswer(
        content=text.replace("\x00", "") if isinstance(text, str) else None,
        tool_calls=tuple(_tool_call(place, call) for place, call in calls),
        finish_reason=finish if finish in ("tool_calls", "length", "content_filter") else "stop",
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=max(total, (prompt or 0) + (completion or 0)),
        usage_reported=(prompt is not None and completion is not None) or total > 0,
        resolved_model=_short(resolved or as_text(answer.get("model")) or asked_model),
    )


def failure(
    status: int, body: bytes, *, retry_after_s: float | None, provider: str
) -> ProviderError:
    """The error for an answer that is not 2xx: kind and short code only, none of its text."""
    answer = decoded(body) or {}
    detail, error = as_object(answer.get("detail")) or {}, as_object(answer.get("error")) or {}
    named = as_text(detail.get("kind"))
    code = named or as_text(error.get("code")) or as_text(error.get("type"))
    kind: ProviderErrorKind = _KIND_OF_STATUS.get(status, "unknown")
    for each in get_args(ProviderErrorKind):
        if each == named and each in SERVICE_KINDS:
            kind = each
    passes = kind in _PASSING_KINDS or status >= 500 or status in _PASSING_STATUS
    raised = ProviderBusy if passes and kind not in _FINAL_KINDS else ProviderRefused
    return raised(kind, status, retry_after_s, code if _CODE.fullmatch(code) else "", provider)


def _tool_call(place: int, call: JsonObject) -> ToolCall:
    """One call; arguments that are no JSON object become {} and a problem, none at all are none."""
    function = as_object(call.get("function")) or {}
    raw, problem = function.get("arguments"), ""
    arguments = {} if raw is None or raw == "" else as_object(raw)
    if arguments is None:
        arguments = decoded(as_text(raw).encode())
    if arguments is None:
        arguments, problem = {}, "they are not a JSON object"
    identity = _short(as_text(call.get("id"))) or f"call_{place}"
    return ToolCall(identity, _short(as_text(function.get("name"))), arguments, problem)


def token_count(usage: JsonObject, field: str) -> int | None:
    """A count of a provider's `usage`, None where it is silent or talks nonsense."""
    value = usage.get(field)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if is_count else None


def decoded(body: bytes) -> JsonObject | None:
    """`body` if it is a JSON object, else None."""
    try:
        return as_object(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _short(text: str) -> str:
    """`text` without control characters, at most 200 characters."""
    return "".join(char for char in text[:200] if char.isprintable())
