"""What an answer holds for nobody but its own model: members that the next round brings back."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.headers import SAID_BY_HEADER

MAX_CARRIED_BYTES = 256 * 1024
"""Of one answer, about what 64,000 tokens of reasoning take; beyond it nothing of it is kept."""

_READ_OF_MESSAGE = frozenset(
    ("role", "content", "tool_calls", "function_call", "tool_call_id", "refusal", "name")
)
_READ_OF_CALL = frozenset(("id", "type", "function", "index"))
_READ_OF_FUNCTION = frozenset(("name", "arguments"))
_encoder = msgspec.json.Encoder()


def carried_by_message(message: JsonObject) -> JsonObject:
    """The members of an assistant's message that we do not read.

    Content in parts of which some are no text is among them as it came: reasoning and signatures
    stand there, too.
    """
    carried = _unread(message, _READ_OF_MESSAGE)
    parts = objects_in(message.get("content"))
    if any(part.get("type") not in ("text", "refusal", None) for part in parts):
        carried["content"] = message["content"]
    return carried


def carried_by_call(call: JsonObject) -> JsonObject:
    """The members of a tool call that we do not read, those of its function under that name."""
    function = _unread(as_object(call.get("function")) or {}, _READ_OF_FUNCTION)
    return _unread(call, _READ_OF_CALL) | ({"function": function} if function else {})


def carried_names(message: JsonObject) -> frozenset[str]:
    """The names of what a message and its calls carry."""
    calls = [carried_by_call(call) for call in objects_in(message.get("tool_calls"))]
    names = (name for each in (carried_by_message(message), *calls) for name in each)
    return frozenset(names) - {"content", "function"}


def without_carried(message: JsonObject, names: Collection[str]) -> JsonObject:
    """`message` without what it and its calls carry by these names; itself where that is nothing.

    Some services send what they do not take.
    """
    found = carried_names(message).intersection(names)
    if not found:
        return message
    left = {name: message[name] for name in message if name not in found}
    if calls := objects_in(message.get("tool_calls")):
        left["tool_calls"] = [
            {name: call[name] for name in call if name not in found} for call in calls
        ]
    return left


def is_too_large(carried: list[JsonObject]) -> bool:
    """Whether what one answer carries is more than is kept, or cannot be sent again."""
    try:
        return len(_encoder.encode(carried)) > MAX_CARRIED_BYTES
    except (msgspec.MsgspecError, OverflowError, ValueError, RecursionError):
        return True


def _unread(value: Mapping[str, Any], read: frozenset[str]) -> JsonObject:
    """Members that say something: a null or an empty list means that there is nothing."""
    return {
        name: each
        for name, each in value.items()
        if name not in read and each is not None and each not in ([], {})
    }


def said_by_text(speakers: Mapping[int, str]) -> str:
    """`speakers` as the text of a header."""
    return json.dumps({str(place): model for place, model in speakers.items()})  # in ASCII


def said_by_in(text: str) -> dict[int, str]:
    """What `said_by_text` wrote; raises ValueError for anything else."""
    try:
        return msgspec.json.decode(text, type=dict[int, str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ValueError(SAID_BY_HEADER) from exc
