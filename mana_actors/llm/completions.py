"""Reading what a chat-completions service sent back, whatever it is."""

import re
from typing import get_args

import msgspec
from msgspec.structs import replace

from mana_actors.agent.planner.exchange import ModelAnswer
from mana_actors.errors import ProviderBusy, ProviderError, ProviderErrorKind, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in
from mana_actors.llm.carried import carried_by_message, is_too_large
from mana_actors.llm.tool_calls import tool_calls_of
from mana_actors.llm.usage import usage_of

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
_TEXT_PARTS = frozenset({"text", "output_text", None})
_CODE = re.compile(r"[a-z_]{1,40}")  # no digits and no capitals, so no key fits in


def read_answer(body: bytes, *, resolved: str, asked_model: str, provider: str) -> ModelAnswer:
    """The first choice of a 2xx answer; raises ProviderBusy (`invalid_answer`) if there is none."""
    answer = decoded(body)
    choices = objects_in(answer.get("choices")) if answer else []
    message = as_object(choices[0].get("message")) if choices else None
    if answer is None or message is None:
        raise ProviderBusy("invalid_answer", 200, None, "no_choices", provider)
    text = said_text(message.get("content"))
    finish = choices[0].get("finish_reason")
    usage = usage_of(answer)
    calls, carried = tool_calls_of(message), carried_by_message(message)
    is_lost = is_too_large([carried, *(call.carried for call in calls)])
    if is_lost:
        calls, carried = tuple(replace(call, carried={}) for call in calls), {}
    return ModelAnswer(
        content=None if text is None else text.replace("\x00", ""),
        tool_calls=calls,
        finish_reason=finish if finish in ("tool_calls", "length", "content_filter") else "stop",
        prompt_tokens=usage.prompt if usage else 0,
        completion_tokens=usage.completion if usage else 0,
        total_tokens=usage.total if usage else 0,
        usage_reported=usage is not None and usage.is_possible,
        cached_tokens=usage.cached if usage else 0,
        resolved_model=_short(resolved or as_text(answer.get("model")) or asked_model),
        carried=carried,
        carried_lost=int(is_lost),
    )


def said_text(content: object) -> str | None:
    """The text of a message's `content`; of parts, those that are text and no thinking."""
    if isinstance(content, str):
        return content
    parts = objects_in(content)
    texts = (as_text(part.get("text")) for part in parts if part.get("type") in _TEXT_PARTS)
    return "".join(texts) if parts else None


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
