"""A request as an entry takes it. What an entry takes as it is stays the same, byte for byte."""

from collections.abc import Collection
from typing import Any, get_args

from mana_actors.json_values import JsonObject, as_list, as_object, as_text, objects_in
from mana_actors.llm.carried import carried_names, without_carried
from mana_actors.llm.router.entries.abilities import Abilities, TokenLimit
from mana_actors.llm.router.wire.own_turns import with_portable_ids

TOKEN_LIMITS: tuple[TokenLimit, ...] = get_args(TokenLimit)
VITAL = frozenset({"model", "messages", "stream", "tools"})
"""What cannot be left out: it would be another request."""

NO_REASONING = " "
"""What stands for the thoughts of another: Kimi takes no empty text."""

_SCHEMAS_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_BARE_VALUES = frozenset({"enum", "const", "default", "example", "examples", "required"})
_CHOICES = ("anyOf", "oneOf", "allOf")
_DEEPEST = 50


def fitted(body: JsonObject, abilities: Abilities, most_output: int | None = None) -> JsonObject:
    """`body` as an entry of these abilities takes it; `body` itself where nothing has to change.

    `most_output` is the room for the answer that its context leaves, None = enough.
    """
    body = _with_token_limit(body, abilities, most_output)
    unsupported = abilities.unsupported or ()
    if abilities.reasoning_effort is not None and "reasoning_effort" not in body:
        body = body | {"reasoning_effort": abilities.reasoning_effort}
    if any(name in body for name in unsupported):
        body = {name: value for name, value in body.items() if name not in unsupported}
    if unsupported and any(
        not carried_names(each).isdisjoint(unsupported) for each in _messages(body)
    ):
        kept = [without_carried(each, unsupported) for each in _messages(body)]
        body = body | {"messages": kept}
    if abilities.system in ("first", "none"):
        messages = as_list(body.get("messages"))
        placed = _with_system_first(messages, has_system_role=abilities.system == "first")
        if placed is not messages:
            body = body | {"messages": placed}
    if (key := abilities.reasoning_in) is not None:
        turns = [
            {key: NO_REASONING} | each if each.get("tool_calls") else each
            for each in _messages(body)
        ]
        body = body | {"messages": turns}
    if abilities.call_ids == "short":
        body = with_portable_ids(body)
    if abilities.schema_without:
        body = _with_short_schemas(body, frozenset(abilities.schema_without))
    return body


def _messages(body: JsonObject) -> list[JsonObject]:
    return objects_in(body.get("messages"))


def asked_output(body: JsonObject) -> int | None:
    """The most output tokens that a request asks for, under whatever name; None = it says none."""
    limits = [body.get(name) for name in TOKEN_LIMITS]
    counts = [n for n in limits if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return max(counts, default=None)


def _with_token_limit(body: JsonObject, abilities: Abilities, room: int | None) -> JsonObject:
    """The limit under the entry's name for it, and not above what it can say at most."""
    asked = asked_output(body)
    if asked is None:
        return body
    limits = (asked, abilities.max_output_tokens, room)
    most = min(limit for limit in limits if limit is not None)
    name = abilities.limit_name
    named = [each for each in TOKEN_LIMITS if each in body]
    if most == asked and (name is None or named == [name]):
        return body
    changed: JsonObject = {}
    for key, value in body.items():
        if key not in TOKEN_LIMITS:
            changed[key] = value
        elif name is None:  # each by the name that the caller used
            changed[key] = min(value, most) if isinstance(value, int) else value
        else:
            changed[name] = most
    return changed


def _with_system_first(messages: list[Any], *, has_system_role: bool) -> list[Any]:
    """One system message before all others, with the text of all; or none at all.

    Later ones go to the front rather than into their neighbours: some services take no user turn
    behind a tool's, and what is written into a tool's result is no longer ours.
    """
    systems = [place for place, each in enumerate(messages) if _role(each) == "system"]
    if not systems or (has_system_role and systems == [0]):
        return messages
    text = "\n\n".join(filter(None, (_text(messages[place]) for place in systems)))
    others = [each for each in messages if _role(each) != "system"]
    if has_system_role:
        return [{"role": "system", "content": text}, *others]
    if others and _role(others[0]) == "user":
        first = as_object(others[0]) or {}
        content = first.get("content")
        parts = as_list(content)
        if parts:
            content = [{"type": "text", "text": text}, *parts]
        else:
            content = "\n\n".join(filter(None, (text, as_text(content))))
        return [first | {"content": content}, *others[1:]]
    return [{"role": "user", "content": text}, *others]


def _role(message: Any) -> object:
    return (as_object(message) or {}).get("role")


def _text(message: Any) -> str:
    content = (as_object(message) or {}).get("content")
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in objects_in(content)]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _with_short_schemas(body: JsonObject, without: Collection[str]) -> JsonObject:
    """The schemas of tools and of the answer's format, without some words."""
    tools: list[Any] = []
    for tool in as_list(body.get("tools")):
        function = as_object((as_object(tool) or {}).get("function"))
        parameters = as_object((function or {}).get("parameters"))
        if function is not None and parameters is not None:
            shorter = function | {"parameters": shorter_schema(parameters, without)}
            tools.append((as_object(tool) or {}) | {"function": shorter})
        else:
            tools.append(tool)
    changes: JsonObject = {}
    if tools and tools != body.get("tools"):
        changes["tools"] = tools
    form = as_object(body.get("response_format")) or {}
    json_schema = as_object(form.get("json_schema")) or {}
    schema = as_object(json_schema.get("schema"))
    if schema is not None and (shorter := shorter_schema(schema, without)) != schema:
        changes["response_format"] = form | {"json_schema": json_schema | {"schema": shorter}}
    return body | changes if changes else body


def shorter_schema(schema: JsonObject, without: Collection[str], depth: int = 0) -> JsonObject:
    """A JSON schema without the words `without`; what lies very deep stays as it is.

    Of a choice (`anyOf`) that has to go, the first that is more than null stays: a property of
    which nothing is said tells a model nothing.
    """
    if depth > _DEEPEST:
        return schema
    kept: JsonObject = {}
    for word, value in schema.items():
        if word in without:
            continue
        if word in _SCHEMAS_BY_NAME and (named := as_object(value)) is not None:
            kept[word] = {name: _shorter(each, without, depth + 1) for name, each in named.items()}
        else:
            kept[word] = value if word in _BARE_VALUES else _shorter(value, without, depth + 1)
    for choice in _CHOICES:
        if choice in without and choice in schema:
            options = [each for each in objects_in(schema[choice]) if each.get("type") != "null"]
            kept = (shorter_schema(options[0], without, depth + 1) if options else {}) | kept
    return kept


def _shorter(value: object, without: Collection[str], depth: int) -> object:
    schema = as_object(value)
    if schema is not None:
        return shorter_schema(schema, without, depth)
    items = as_list(value)
    if not items or depth > _DEEPEST:
        return value
    return [_shorter(each, without, depth + 1) for each in items]
