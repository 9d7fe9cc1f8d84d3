"""What a refusal teaches of an entry.

It is somebody's words, which may quote a caller's, so it is believed with care: only about what the
request really asked, only where that is news, and within bounds.
"""

import re

import msgspec

from mana_actors.json_values import JsonObject, as_list, objects_in
from mana_actors.llm.carried import carried_names
from mana_actors.llm.failures.cause import Lack
from mana_actors.llm.router.entries.abilities import LISTS, Abilities, TokenLimit
from mana_actors.llm.router.entries.fitting import TOKEN_LIMITS, VITAL, asked_output

MOST_OF_A_LIST = 16
LEAST_CONTEXT = 512
LEAST_OUTPUT_LIMIT = 16

_KEYWORD = re.compile(r"[$A-Za-z][A-Za-z0-9_-]{0,39}")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")


def lesson_of(  # noqa: PLR0911 - a table: one row per kind
    lack: Lack, sent: JsonObject, holds: Abilities
) -> Abilities | None:
    """What is to be added to what `holds` of an entry that refused `sent`; None = nothing."""
    match lack.kind:
        case "tools":
            is_news = holds.tools is not False and bool(as_list(sent.get("tools")))
            return Abilities(tools=False) if is_news else None
        case "images":
            messages = objects_in(sent.get("messages"))
            parts = [part for each in messages for part in objects_in(each.get("content"))]
            has_images = any(part.get("type") == "image_url" for part in parts)
            is_news = holds.vision is not False and has_images
            return Abilities(vision=False) if is_news else None
        case "token_limit_name":
            return _other_limit(lack.instead, sent, holds)
        case "parameter" if lack.name in TOKEN_LIMITS:
            return _other_limit(lack.instead, sent, holds)
        case "parameter":
            messages = objects_in(sent.get("messages"))
            is_carried = any(lack.name in carried_names(message) for message in messages)
            is_sent = is_carried or (lack.name in sent and lack.name not in VITAL)
            is_name = _PARAMETER.fullmatch(lack.name) is not None
            return Abilities(unsupported=(lack.name,)) if is_sent and is_name else None
        case "output_limit":
            asked = asked_output(sent) or 0
            is_news = LEAST_OUTPUT_LIMIT <= lack.limit < asked
            return Abilities(max_output_tokens=lack.limit) if is_news else None
        case "system_first":
            roles = [message.get("role") for message in objects_in(sent.get("messages"))]
            if "system" not in roles:
                return None
            is_first = roles[0] == "system" and "system" not in roles[1:]
            return Abilities(system="none" if is_first else "first")
        case "call_ids":
            calls = [objects_in(each.get("tool_calls")) for each in objects_in(sent["messages"])]
            return Abilities(call_ids="short") if any(calls) and not holds.call_ids else None
        case "reasoning" if lack.name in ("reasoning", "reasoning_content"):
            turns = [each for each in objects_in(sent.get("messages")) if each.get("tool_calls")]
            is_lacking = any(lack.name not in turn for turn in turns)
            return Abilities(reasoning_in=lack.name) if is_lacking else None
        case "reasoning":
            return None
        case "schema":
            is_name = _KEYWORD.fullmatch(lack.name) is not None
            return Abilities(schema_without=(lack.name,)) if is_name else None
        case "context":
            # More tokens than this the request cannot be: none is shorter than a byte.
            most_tokens = len(msgspec.json.encode(sent)) + (asked_output(sent) or 0)
            is_news = LEAST_CONTEXT <= lack.limit < min(holds.context, most_tokens)
            return Abilities(context_tokens=lack.limit) if is_news else None


def with_lesson(learnt: Abilities, lesson: Abilities) -> Abilities:
    """What was learnt before and now; lists grow up to a bound."""
    changes: dict[str, object] = {}
    for field, value in msgspec.structs.asdict(lesson).items():
        if value is not None:
            before: tuple[str, ...] = getattr(learnt, field) or () if field in LISTS else ()
            is_list = field in LISTS
            merged = tuple(dict.fromkeys((*before, *value)))[:MOST_OF_A_LIST] if is_list else value
            changes[field] = merged
    return msgspec.structs.replace(learnt, **changes) if changes else learnt


def _other_limit(instead: str, sent: JsonObject, holds: Abilities) -> Abilities | None:
    """Another name for the limit of the answer; none at all where no name is left to try."""
    named = [name for name in TOKEN_LIMITS if name in sent]
    if not named:
        return None
    for name in TOKEN_LIMITS:
        if name == instead and name not in named:
            return Abilities(limit_name=name)
    if holds.limit_name is not None:
        return Abilities(unsupported=tuple(named))
    usual: TokenLimit = "max_completion_tokens" if named == ["max_tokens"] else "max_tokens"
    return Abilities(limit_name=usual)
