"""Calls that a model wrote into its text, in the forms that its template taught it. Pure.

A service that knows the model's template hands calls over apart from the text; others pass on what
the model wrote. A call is read where it is whole and names a tool that was offered.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mana_actors.agent.planner.exchange import ToolCall
from mana_actors.agent.planner.names import meant_name
from mana_actors.json_values import JsonObject, as_list, as_object, as_text, objects_in

Offered = Mapping[str, JsonObject]
"""Tools by name, each with the schemas of its parameters by name."""

_NAMES = ("name", "tool_name", "tool", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "params", "tool_args", "tool_input")
_MEMBERS = frozenset((*_NAMES, *_ARGUMENTS, "function", "type", "id"))
_LONGEST_NAME = 200
_SPACE = re.compile(r"\s*")
_BEGUN = re.compile(r"<\|tool_call_begin\|>|<\uff5ctool▁call▁begin\uff5c>")
_TOKEN = re.compile(r"<[|\uff5c][^<>|\uff5c]{1,60}[|\uff5c]>|```(?:json)?")
_FUNCTION = re.compile(
    r"<function=\s*[\"']?(?P<name>[\w.:/-]{1,200})[\"']?\s*>"
    r"|<(?P<prefix>[a-z]{1,20}:|\uff5cDSML\uff5c)?invoke\s+name=[\"'](?P<invoked>[\w.:/-]{1,200})[\"']\s*>"
)
_FUNCTION_END = re.compile(r"</function>|</(?:[a-z]{1,20}:|\uff5cDSML\uff5c)?invoke>")
_PARAMETER = re.compile(
    r"<parameter=\s*[\"']?(?P<name>[\w.-]{1,200})[\"']?\s*>"
    r"|<(?:[a-z]{1,20}:|\uff5cDSML\uff5c)?parameter\s+name=[\"'](?P<given>[\w.-]{1,200})[\"'][^<>]{0,60}>"
    r"|<arg_key>\s*(?P<key>[\w.-]{1,200})\s*</arg_key>\s*<arg_value>"
)
_PARAMETER_END = re.compile(
    r"</parameter>|</(?:[a-z]{1,20}:|\uff5cDSML\uff5c)parameter>|</arg_value>"
)
_MISTRAL = re.compile(
    r"\s*(?:(?P<name>[\w.-]{1,200})(?:\[CALL_ID\][\w-]{1,64})?(?:\[ARGS\])?\s*(?=\{))?"
)
_HARMONY = re.compile(r"to=(?P<name>[\w.:/-]{1,200})")


def meant_tool(name: str, offered: Offered) -> str | None:
    """The offered tool that `name` means, None where it means none."""
    meant = meant_name(name, offered)
    return meant if meant in offered else None


def json_at(text: str, at: int) -> tuple[Any, int] | None:
    """The JSON value that begins at `at`, blanks before it left out, and where it ends."""
    begin = _SPACE.match(text, at)
    try:
        value, end = _decoder.raw_decode(text, at if begin is None else begin.end())
        # Half a surrogate pair, which no store and no service takes, becomes a question mark, and
        # what is no JSON though Python reads it (NaN) is refused.
        clean = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.json.decode(clean), end
    except (ValueError, RecursionError):
        return None


def looks_like_calls(value: object) -> bool:
    """Whether a JSON value has the shape of a call, or of a list of calls, whatever it names."""
    listed = [as_object(each) or {} for each in as_list(value) or [value]]
    return all(_parts(each) is not None and _MEMBERS.issuperset(each) for each in listed)


def calls_in(value: object, offered: Offered) -> list[ToolCall] | None:
    """The calls that a JSON value is; None unless all of it is calls of offered tools."""
    found: list[ToolCall] = []
    for each in objects_in(value) or [as_object(value) or {}]:
        parts = _parts(each)
        tool = None if parts is None else meant_tool(parts[0], offered)
        if parts is None or tool is None:
            return None
        found.append(ToolCall("", tool, parts[1]))
    return found if len(found) == len(as_list(value) or [value]) else None


def _parts(value: JsonObject) -> tuple[str, JsonObject] | None:
    """The name and arguments of what has the shape of a call."""
    inner = as_object(value.get("function"))
    source = value if inner is None else inner
    if inner is None and isinstance(value.get("function"), str):
        source = value | {"name": value["function"]}
    name = next((source[key] for key in _NAMES if isinstance(source.get(key), str)), None)
    key = next((key for key in _ARGUMENTS if key in source), None)
    if name is None or key is None or len(name) > _LONGEST_NAME:
        return None
    given = source[key]
    if isinstance(given, str):
        given = (json_at(given, 0) or ({}, 0))[0] if given.strip() else {}
    arguments = {} if given is None else as_object(given)
    return None if arguments is None else (name, arguments)


def calls_in_block(body: str, offered: Offered) -> list[ToolCall] | None:
    """The calls in what stands between a template's marks; None unless all of it is calls."""
    read = json_at(body, 0)
    if read is not None:
        found: list[ToolCall] = []
        while read is not None:  # several, one after the other
            value, end = read
            calls = calls_in(value, offered)
            if calls is None:
                return None
            found += calls
            rest = body[end:].lstrip(" \t\r\n;,")
            if not rest:
                return found
            body, read = rest, json_at(rest, 0)
        return None
    if _BEGUN.search(body):
        return _between_tokens(body, offered)
    return _in_tags(body, offered)


def _between_tokens(body: str, offered: Offered) -> list[ToolCall] | None:
    """Calls as DeepSeek and Kimi write them: a name, a separator, an object."""
    found: list[ToolCall] = []
    for piece in _BEGUN.split(body)[1:]:
        brace = piece.find("{")
        words = _TOKEN.sub(" ", piece[: max(brace, 0)]).split()
        read, tool = json_at(piece, brace), meant_tool(words[-1] if words else "", offered)
        if brace < 0 or read is None or tool is None or _TOKEN.sub("", piece[read[1] :]).strip():
            return None
        arguments = as_object(read[0])
        if arguments is None:
            return None
        found.append(ToolCall("", tool, arguments))
    return found or None


def _in_tags(body: str, offered: Offered) -> list[ToolCall] | None:
    """Calls with a tag for each parameter, or an object, between tags that name the tool."""
    found: list[ToolCall] = []
    begun = list(_FUNCTION.finditer(body))
    if not begun:  # the name stands alone before its parameters
        first = _PARAMETER.search(body)
        name = body if first is None else body[: first.start()]
        tool = meant_tool(name.strip(), offered) if len(name) <= _LONGEST_NAME else None
        if tool is None:
            return None
        arguments = _tagged(body[len(name) :], offered[tool])
        return None if arguments is None else [ToolCall("", tool, arguments)]
    if body[: begun[0].start()].strip():
        return None
    ends = [*(each.start() for each in begun[1:]), len(body)]
    for begin, until in zip(begun, ends, strict=True):
        tool = meant_tool(begin["name"] or begin["invoked"], offered)
        inside = body[begin.end() : until]
        closed = list(_FUNCTION_END.finditer(inside))
        if tool is None or not closed or inside[closed[-1].end() :].strip():
            return None
        inside = inside[: closed[-1].start()]
        read = json_at(inside, 0)
        is_object = read is not None and not inside[read[1] :].strip()
        arguments = as_object(read[0]) if read and is_object else _tagged(inside, offered[tool])
        if arguments is None:
            return None
        found.append(ToolCall("", tool, arguments))
    return found


def _tagged(text: str, schemas: JsonObject) -> JsonObject | None:
    """Arguments with a tag for each; None where something else stands between them."""
    arguments: JsonObject = {}
    at = 0
    while begin := _PARAMETER.search(text, at):
        end = _PARAMETER_END.search(text, begin.end())
        if end is None or text[at : begin.start()].strip():
            return None
        name = begin["name"] or begin["given"] or begin["key"]
        value = text[begin.end() : end.start()]
        value = value.removeprefix("\n").removesuffix("\n")
        is_text = as_text((as_object(schemas.get(name)) or {}).get("type")) in ("string", "")
        read = None if is_text else json_at(value, 0)
        arguments[name] = value if read is None or value[read[1] :].strip() else read[0]
        at = end.end()
    return None if text[at:].strip() else arguments


def mistral_calls(text: str, at: int, offered: Offered) -> tuple[list[ToolCall], int] | None:
    """The calls after a `[TOOL_CALLS]`, and where they end."""
    head = _MISTRAL.match(text, at)
    name = head["name"] if head else None
    read = json_at(text, head.end() if head and name else at)
    if read is None:
        return None
    if name is None:
        calls = calls_in(read[0], offered)
        return None if calls is None else (calls, read[1])
    tool, arguments = meant_tool(name, offered), as_object(read[0])
    if tool is None or arguments is None:
        return None
    return [ToolCall("", tool, arguments)], read[1]


def harmony_call(header: str, body: str, offered: Offered) -> list[ToolCall] | None:
    """The call of a message that is addressed to a tool."""
    to = _HARMONY.search(header)
    tool = meant_tool(to["name"], offered) if to else None
    read = json_at(body, 0)
    arguments = as_object(read[0]) if read and not body[read[1] :].strip() else None
    return None if tool is None or arguments is None else [ToolCall("", tool, arguments)]


def numbered(calls: list[ToolCall]) -> Iterator[ToolCall]:
    """The calls, each with an id of its own."""
    for place, call in enumerate(calls):
        yield msgspec.structs.replace(call, id=f"said_{place}")


_decoder = json.JSONDecoder(strict=False)
