"""Reading what a chat-completions service sent back, whatever it is."""

import re
from typing import get_args

from msgspec.structs import replace

from mana_actors.agent.planner.exchange import ModelAnswer, TokenUsage
from mana_actors.errors import ProviderBusy, ProviderError, ProviderErrorKind, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in
from mana_actors.llm.carried import carried_by_message, is_too_large
from mana_actors.llm.failures.bodies import told_in, told_of
from mana_actors.llm.failures.cause import Cause, Lack, cause_of_kind, cause_of_status
from mana_actors.llm.failures.ends import End, end_of
from mana_actors.llm.failures.leniency import decoded_object
from mana_actors.llm.failures.wordings import reading_of
from mana_actors.llm.tool_calls import tool_calls_of
from mana_actors.llm.usage import usage_of

MOST_TOKENS = 2**31
MOST_REFUSAL_CHARS = 4000
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
_KIND_OF_CAUSE: dict[Cause, ProviderErrorKind] = {
    "auth": "auth",
    "quota": "auth",
    "rate_limit": "rate_limit",
    "capability": "capability",
    "too_long": "capability",
    "too_large": "capability",
    "blocked": "blocked",
    "timeout": "timeout",
}
_CODE_OF_CAUSE: dict[Cause, str] = {
    "too_long": "context_length_exceeded",
    "quota": "insufficient_quota",
    "missing_model": "model_not_found",
}
_PASSING: frozenset[Cause] = frozenset(
    (
        "broken",
        "overloaded",
        "rate_limit",
        "timeout",
        "failed_answer",
        "truncated",
        "no_healthy_provider",
    )
)
_NO_ERROR = frozenset({"choices", "message", "delta", "usage"})  # where the answer stands
_TEXT_PARTS = frozenset({"text", "output_text", None})
_CODE = re.compile(r"[a-z_]{1,40}")  # no digits and no capitals, so no key fits in


def read_answer(body: bytes, *, resolved: str, asked_model: str, provider: str) -> ModelAnswer:
    """The first choice of a 2xx answer; raises ProviderBusy (`invalid_answer`) if there is none."""
    answer = decoded_object(body)
    if answer is None:
        raise ProviderBusy("invalid_answer", 200, None, "no_choices", provider)
    if (error := failed_inside(answer, provider)) is not None:
        raise error
    choice = objects_in(answer.get("choices"))[0]
    message, end = as_object(choice.get("message")) or {}, end_of_choice(choice)
    text = said_text(message.get("content"))
    usage = usage_of(answer)
    calls, carried = tool_calls_of(message), carried_by_message(message)
    is_lost = is_too_large([carried, *(call.carried for call in calls)])
    if is_lost:
        calls, carried = tuple(replace(call, carried={}) for call in calls), {}
    model = resolved or as_text(answer.get("model")) or asked_model
    return ModelAnswer(
        content=None if text is None else text.replace("\x00", ""),
        tool_calls=calls,
        finish_reason="stop" if end is None or end == "error" else end,
        prompt_tokens=usage.prompt if usage else 0,
        completion_tokens=usage.completion if usage else 0,
        total_tokens=usage.total if usage else 0,
        usage_reported=usage is not None and usage.is_possible,
        cached_tokens=usage.cached if usage else 0,
        resolved_model="".join(char for char in model[:200] if char.isprintable()),
        carried=carried,
        carried_lost=int(is_lost),
        refusal=refusal_in(message),
    )


def said_text(content: object) -> str | None:
    """The text of a message's `content`; of parts, those that are text and no thinking."""
    if isinstance(content, str):
        return content
    parts = objects_in(content)
    texts = (as_text(part.get("text")) for part in parts if part.get("type") in _TEXT_PARTS)
    return "".join(texts) if parts else None


def refusal_in(message: JsonObject) -> str:
    """The words in which a model declined, "" where it did not; a part of them where it went on."""
    parts = (as_text(part.get("refusal")) for part in objects_in(message.get("content")))
    words = as_text(message.get("refusal")) or "".join(parts)
    return words.replace("\x00", "").strip()[:MOST_REFUSAL_CHARS]


def failure(
    status: int, body: bytes, *, retry_after_s: float | None, provider: str
) -> ProviderError:
    """The error for an answer that is not 2xx: cause, kind and short code, none of its text."""
    answer = decoded_object(body) or {}
    named, code = as_text((as_object(answer.get("detail")) or {}).get("kind")), _code(answer)
    for kind in get_args(ProviderErrorKind):
        if kind == named and kind in SERVICE_KINDS:  # a router of ours has judged already
            is_busy = cause_of_kind(kind, status, "") in _PASSING
            raised = ProviderBusy if is_busy else ProviderRefused
            return raised(kind, status, retry_after_s, code, provider)
    told = told_in(body)
    reading = reading_of(told, status) or (cause_of_status(status), None)
    return _error(reading, status, code, retry_after_s=retry_after_s, provider=provider)


def failed_inside(answer: JsonObject, provider: str) -> ProviderError | None:
    """The error of an answer whose status said 200, None where it is a whole one.

    It may have cost something: a service that answers so has begun to work.
    """
    choices = objects_in(answer.get("choices"))
    broken = answer if is_error(answer) else next(filter(is_error, choices), None)
    if broken is None and choices and end_of_choice(choices[0]) == "error":
        broken = {}
    if broken is None:
        if choices and as_object(choices[0].get("message")) is not None:
            return None
        error = ProviderBusy("invalid_answer", 200, None, "no_choices", provider)
    else:
        error = error_inside(broken, provider)
    error.usage = reported_usage(answer)
    return error


def error_inside(answer: JsonObject, provider: str) -> ProviderError:
    """The error that a provider sent under a status of 200, or in a frame of its stream."""
    said = {name: answer[name] for name in answer if name not in _NO_ERROR}
    told = told_of(said)
    cause, lack = reading_of(told, told.status or 200) or (cause_of_status(told.status), None)
    if cause in ("broken", "refused", "too_large", "timeout"):
        cause = "failed_answer"
    error = _error((cause, lack), told.status or 502, _code(answer), provider=provider)
    error.may_have_spent = True
    return error


def _error(
    reading: tuple[Cause, Lack | None],
    status: int,
    code: str,
    *,
    provider: str,
    retry_after_s: float | None = None,
) -> ProviderError:
    cause, lack = reading
    kind = _KIND_OF_CAUSE.get(cause, "unknown")
    if cause == "quota" and status == 429:  # an account is filled up again, as it is by waiting
        kind = "rate_limit"
    raised = ProviderBusy if cause in _PASSING or kind == "rate_limit" else ProviderRefused
    code = _CODE_OF_CAUSE.get(cause) or code
    return raised(kind, status, retry_after_s, code, provider, cause=cause, lack=lack)


def is_error(answer: JsonObject) -> bool:
    """Whether an object says of itself that it is an error; one without a word in it is none."""
    said = as_object(answer.get("error"))
    if said is not None:
        return any(value not in (None, "", [], {}) for value in said.values())
    return bool(answer.get("error")) or "error" in (answer.get("object"), answer.get("type"))


def end_of_choice(choice: JsonObject) -> End | None:
    """How a choice ended, None while it has not."""
    return end_of(choice.get("finish_reason"), choice.get("native_finish_reason"))


def _code(answer: JsonObject) -> str:
    """A code that the service gave, where it is one."""
    detail, error = as_object(answer.get("detail")) or {}, as_object(answer.get("error")) or {}
    code = as_text(detail.get("kind")) or as_text(error.get("code")) or as_text(error.get("type"))
    return code if _CODE.fullmatch(code) else ""


def reported_usage(answer: JsonObject) -> TokenUsage | None:
    """What an answer that is of no use says that it cost, None where that is nothing to go by."""
    usage = usage_of(answer)
    if usage is None or not usage.is_possible:
        return None
    return TokenUsage(usage.prompt, usage.completion, usage.total)


def token_count(usage: JsonObject, field: str) -> int | None:
    """A count of a provider's `usage`, None where it is silent or talks nonsense."""
    value = usage.get(field)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if is_count else None
