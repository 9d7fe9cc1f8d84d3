"""Reading what a service says of its own failure, whatever shape that has."""

from collections import deque

import msgspec

from mana_actors.json_values import JsonObject, as_list, as_object, as_text
from mana_actors.llm.failures.leniency import decoded_value

_MOST_VALUES = 200
_MOST_WORDS = 4000
_DEEPEST = 6
_WORD_KEYS = ("message", "msg", "detail", "error", "title", "description", "reason", "raw")
_CODE_KEYS = ("code", "type", "status", "kind", "reason", "error_code", "error_type")


class Told(msgspec.Struct, frozen=True):
    """What a service said: codes and types in lower case, the parameter it names, and its words.

    `status` is the HTTP status that stands inside, 0 = none; `limit` and `asked` are the tokens
    that stand beside the words. The words are read here and go nowhere.
    """

    codes: frozenset[str] = frozenset()
    param: str = ""
    words: str = ""
    status: int = 0
    limit: int = 0
    asked: int = 0


def told_in(body: bytes) -> Told:
    """What the body of a failed answer says; never raises, and looks at a bounded part."""
    value = decoded_value(body)
    if value is None or isinstance(value, str | int | float):
        return Told(words=body[:_MOST_WORDS].decode("utf-8", "replace"))
    return told_of(value)


def told_of(value: object) -> Told:
    """What a decoded body says: an object, a list, errors inside of errors, JSON inside of text."""
    codes, words = set[str](), list[str]()
    param, status, limit, asked = "", 0, 0, 0
    todo, seen = deque[tuple[object, int]]([(value, 0)]), 0
    while todo and seen < _MOST_VALUES:
        item, depth = todo.popleft()
        seen += 1
        found = as_object(item)
        if depth < _DEEPEST:
            within = as_list(item)[:20] if found is None else list(found.values())
            todo.extend((each, depth + 1) for each in within if _holds_more(each))
        if found is None:
            continue
        for key in _CODE_KEYS:
            code = found.get(key)
            if isinstance(code, str) and len(code) <= 80:
                codes.add(code.lower())
            if isinstance(code, int) and 400 <= code < 600:
                status = status or code
        param = param or _param(found)
        limit = limit or _count(found, "n_ctx")
        asked = asked or _count(found, "n_prompt_tokens")
        for key in _WORD_KEYS:
            text = as_text(found.get(key))[:_MOST_WORDS]
            inner = decoded_value(text.encode()) if text.lstrip()[:1] in ("{", "[") else None
            if inner is not None and depth < _DEEPEST:
                todo.append((inner, depth + 1))
            elif text:
                words.append(text)
    told = "\n".join(dict.fromkeys(words))[:_MOST_WORDS]
    return Told(frozenset(codes), param=param, words=told, status=status, limit=limit, asked=asked)


def _holds_more(value: object) -> bool:
    return isinstance(value, dict | list)


def _param(found: JsonObject) -> str:
    """The parameter that an error names, be it `param` or the place in the body that is wrong."""
    named = as_text(found.get("param"))
    places = [each for each in as_list(found.get("loc")) if isinstance(each, str)]
    return (named or (places[-1] if places else "")).rpartition(".")[2][:80]


def _count(found: JsonObject, key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and 0 < value < 2**31 else 0
