"""A conversation for one entry: it has back what its own turns carried, and nobody else's."""

import hashlib
from collections.abc import Mapping

import msgspec

from mana_actors.json_values import JsonObject, as_list, as_object, as_text, objects_in
from mana_actors.llm.carried import carried_by_call, carried_by_message
from mana_actors.llm.completions import said_text

_ID_CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 9
"""What Mistral wants an id to have, in letters and digits; everybody else takes it, too."""


class OwnTurns(msgspec.Struct, frozen=True):
    """A request for one entry, and how many turns lost what they carried for another."""

    body: JsonObject
    lost: int = 0


def own_turns(body: JsonObject, said_by: Mapping[int, str], target: str) -> OwnTurns:
    """`body` for the entry named `target`; the same object where all turns are its own.

    `said_by` names the entry that said the message at a place. What another one's turn carries is
    left out, and its calls get ids that every service takes: some take only the form of their own.
    """
    messages = as_list(body.get("messages"))
    theirs = {place for place, model in said_by.items() if model != target}
    if not theirs:
        return OwnTurns(body)
    lost, ids = 0, dict[str, str]()
    told = list[object]()
    for place, given in enumerate(messages):
        message = as_object(given)
        if message is None:
            told.append(given)
        elif message.get("role") == "assistant":
            ids = {}  # results answer the turn before them
            if place in theirs:
                plain, has_lost = _plain(message)
                lost += has_lost
                ids = {as_text(each.get("id")): "" for each in objects_in(plain.get("tool_calls"))}
                ids = {id_: portable_id(id_) for id_ in ids}
                message = plain | _with_ids(plain, ids)
            told.append(message)
        else:
            id_ = as_text(message.get("tool_call_id"))
            told.append(message | {"tool_call_id": ids[id_]} if id_ in ids else message)
    return OwnTurns(body | {"messages": told}, lost)


def portable_id(id_: str) -> str:
    """An id that every service takes: nine letters and digits; the same for the same."""
    if len(id_) == ID_LENGTH and id_.isascii() and id_.isalnum():
        return id_
    number = int.from_bytes(hashlib.sha256(id_.encode(errors="replace")).digest())
    digits = [_ID_CHARS[number // 62**place % 62] for place in range(ID_LENGTH)]
    return "".join(digits)


def _plain(message: JsonObject) -> tuple[JsonObject, bool]:
    """An assistant's message without what it carries, and whether it carried anything."""
    carried = carried_by_message(message)
    calls = objects_in(message.get("tool_calls"))
    has_carried = bool(carried) or any(carried_by_call(call) for call in calls)
    if not has_carried:
        return message, False
    plain = {name: message[name] for name in message if name not in carried}
    plain["content"] = said_text(message.get("content"))
    if calls:
        plain["tool_calls"] = [
            {
                "id": call.get("id"),
                "type": "function",
                "function": {
                    name: value
                    for name, value in (as_object(call.get("function")) or {}).items()
                    if name in ("name", "arguments")
                },
            }
            for call in calls
        ]
    return plain, True


def _with_ids(message: JsonObject, ids: Mapping[str, str]) -> JsonObject:
    calls = objects_in(message.get("tool_calls"))
    if not calls:
        return {}
    return {"tool_calls": [call | {"id": ids[as_text(call.get("id"))]} for call in calls]}
