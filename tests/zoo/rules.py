"""What a service refuses, as data, and the one function that applies it to a request."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from typing import Any, assert_never

import msgspec

Json = dict[str, Any]


class Refusal(msgspec.Struct, frozen=True):
    """How a service says no; `<words>` in its texts are filled in."""

    status: int
    body: Any
    headers: dict[str, str] = {}

    def about(self, **words: object) -> Refusal:
        """The refusal with its words filled in."""
        return Refusal(self.status, _filled(self.body, words), self.headers)


class Forbids(msgspec.Struct, frozen=True):
    """A member of the request that it does not know."""

    member: str
    no: Refusal


class Only(msgspec.Struct, frozen=True):
    """A member that may have one value, or be absent."""

    member: str
    value: Any
    no: Refusal


class AtMost(msgspec.Struct, frozen=True):
    """A number with an upper limit, under any of its names."""

    members: tuple[str, ...]
    limit: int
    no: Refusal


class KnownModels(msgspec.Struct, frozen=True):
    """A model that it has not is an error."""

    no: Refusal


class SystemFirst(msgspec.Struct, frozen=True):
    """System messages stand only at the beginning; with `one` there is one at most."""

    no: Refusal
    one: bool = True


class AfterTool(msgspec.Struct, frozen=True):
    """What may not follow a tool's result."""

    roles: frozenset[str]
    no: Refusal


class Carries(msgspec.Struct, frozen=True):
    """Each assistant message with calls has this member, if only as empty text."""

    member: str
    no: Refusal


class Signed(msgspec.Struct, frozen=True):
    """The first call of each assistant message has its signature."""

    no: Refusal


class KnownMembers(msgspec.Struct, frozen=True):
    """Messages, calls and functions have no members but these."""

    message: frozenset[str]
    call: frozenset[str]
    function: frozenset[str]
    no: Refusal


class Ids(msgspec.Struct, frozen=True):
    """What the ids of calls look like."""

    pattern: str
    no: Refusal


class UniqueIds(msgspec.Struct, frozen=True):
    """No two calls of a conversation have one id."""

    no: Refusal


class Pairs(msgspec.Struct, frozen=True):
    """Each call has its result right after it, and each result its call."""

    no: Refusal


class Names(msgspec.Struct, frozen=True):
    """What names of functions look like, offered or called."""

    pattern: str
    no: Refusal


class SaysSomething(msgspec.Struct, frozen=True):
    """An assistant message has text or calls, and text is not empty."""

    no: Refusal
    empty_text: bool = True  # whether "" beside calls passes


class NoTools(msgspec.Struct, frozen=True):
    """Tools are refused."""

    no: Refusal


class SchemaWords(msgspec.Struct, frozen=True):
    """Keywords of JSON schema that it does not take."""

    words: frozenset[str]
    no: Refusal


class ObjectArguments(msgspec.Struct, frozen=True):
    """Arguments of earlier calls are the JSON text of an object."""

    no: Refusal


class Room(msgspec.Struct, frozen=True):
    """Prompt and output have to fit; `counts_output` whether the latter is counted."""

    context: int
    no: Refusal
    counts_output: bool = True


Rule = (
    Forbids
    | Only
    | AtMost
    | KnownModels
    | SystemFirst
    | AfterTool
    | Carries
    | Signed
    | KnownMembers
    | Ids
    | UniqueIds
    | Pairs
    | Names
    | SaysSomething
    | NoTools
    | SchemaWords
    | ObjectArguments
    | Room
)
NAME = r"[a-zA-Z0-9_-]{1,64}"


def prompt_tokens(body: Json) -> int:
    """What a request counts as: a token is about four bytes."""
    return math.ceil(len(json.dumps([body["messages"], body.get("tools")])) / 4)


def refusal_of(rules: tuple[Rule, ...], models: tuple[str, ...], body: Json) -> Refusal | None:
    """The first refusal of a request, or None."""
    for rule in rules:
        words = _broken(rule, models, body)
        if words is not None:
            return rule.no.about(model=body.get("model"), **words)
    return None


def _broken(rule: Rule, models: tuple[str, ...], body: Json) -> dict[str, object] | None:  # noqa: C901, PLR0911, PLR0912
    """The words for the refusal where `body` breaks `rule`, else None."""
    messages: list[Json] = body["messages"]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    match rule:
        case Forbids(member=member):
            return {} if member in body else None
        case Only(member=member, value=value):
            return {"value": body[member]} if body.get(member, value) != value else None
        case AtMost(members=members, limit=limit):
            asked = max((body.get(member) or 0 for member in members), default=0)
            return {"limit": limit, "asked": asked} if asked > limit else None
        case KnownModels():
            return {} if body.get("model") not in models else None
        case SystemFirst(one=one):
            late = [n for n, m in enumerate(messages) if m["role"] == "system" and n]
            if not one:
                late = [n for n in late if any(m["role"] != "system" for m in messages[:n])]
            return {"index": late[0]} if late else None
        case AfterTool(roles=roles):
            for before, after in pairwise(messages):
                if before["role"] == "tool" and after["role"] in roles:
                    return {"role": after["role"]}
        case Carries(member=member):
            for index, message in enumerate(messages):
                if message.get("tool_calls") and not isinstance(message.get(member), str):
                    return {"index": index}
        case Signed():
            for index, message in enumerate(messages):
                made: list[Json] = message.get("tool_calls") or []
                if made and "thought_signature" not in json.dumps(made[0].get("extra_content")):
                    return {"index": index, "name": made[0]["function"]["name"]}
        case KnownMembers():
            return _stranger(rule, messages)
        case Ids(pattern=pattern):
            said = [call.get("id") for call in calls]
            said += [m.get("tool_call_id") for m in messages if m["role"] == "tool"]
            for each in said:
                if not isinstance(each, str) or re.fullmatch(pattern, each) is None:
                    return {"id": each, "length": len(each or "")}
        case UniqueIds():
            seen: set[str] = set()
            for call in calls:
                if call["id"] in seen:
                    return {"id": call["id"]}
                seen.add(call["id"])
        case Pairs():
            return _unpaired(messages)
        case Names(pattern=pattern):
            named = [call["function"]["name"] for call in calls]
            named += [tool["function"]["name"] for tool in body.get("tools") or ()]
            for name in named:
                if re.fullmatch(pattern, name) is None:
                    return {"name": name}
        case SaysSomething(empty_text=empty_text):
            for index, message in enumerate(messages):
                if message["role"] == "assistant":
                    text, has_calls = message.get("content"), bool(message.get("tool_calls"))
                    if (not text and not has_calls) or (text == "" and not empty_text):
                        return {"index": index}
                elif message.get("content") in (None, ""):
                    return {"index": index}
        case NoTools():
            return {} if body.get("tools") else None
        case SchemaWords(words=words):
            found = words & _members(body.get("tools") or [])
            return {"word": min(found)} if found else None
        case ObjectArguments():
            for call in calls:
                if not isinstance(_decoded(call["function"].get("arguments")), dict):
                    return {"id": call["id"]}
        case Room(context=context, counts_output=counts_output):
            asked = prompt_tokens(body)
            output = body.get("max_completion_tokens") or body.get("max_tokens") or 0
            if asked + (output if counts_output else 0) > context:
                whole = asked + output
                return {"context": context, "prompt": asked, "output": output, "asked": whole}
        case _:
            assert_never(rule)
    return None


def _stranger(rule: KnownMembers, messages: list[Json]) -> dict[str, object] | None:
    """A member nobody knows."""
    for index, message in enumerate(messages):
        for name in message:
            if name not in rule.message:
                return {"index": index, "member": name}
        for call in message.get("tool_calls") or ():
            for name in call:
                if name not in rule.call:
                    return {"index": index, "member": name}
            for name in call["function"]:
                if name not in rule.function:
                    return {"index": index, "member": name}
    return None


def _unpaired(messages: list[Json]) -> dict[str, object] | None:
    """A call without its result, or a result without its call."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                return {"index": index, "id": message.get("tool_call_id")}
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return {"index": index, "id": waiting[0]}
        waiting += [call["id"] for call in message.get("tool_calls") or ()]
    return {"index": len(messages), "id": waiting[0]} if waiting else None


def _members(value: Any) -> set[str]:
    """The names of all members of schemas, apart from those that name properties."""
    if isinstance(value, list):
        return {name for each in value for name in _members(each)}  # pyright: ignore[reportUnknownVariableType]
    found: set[str] = set()
    if isinstance(value, dict):
        for name, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            found.add(str(name))  # pyright: ignore[reportUnknownArgumentType]
            if name == "properties" and isinstance(each, dict):
                found |= {inner for one in each.values() for inner in _members(one)}  # pyright: ignore[reportUnknownVariableType]
            else:
                found |= _members(each)
    return found


def _decoded(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def _filled(value: Any, words: dict[str, object]) -> Any:
    if isinstance(value, str):
        for name, word in words.items():
            value = value.replace(f"<{name}>", str(word))
        return value
    if isinstance(value, list):
        return [_filled(each, words) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {name: _filled(each, words) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
