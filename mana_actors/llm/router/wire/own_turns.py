"""A conversation for one entry: it has back what its own turns carried, and nobody else's."""

import hashlib
from collections.abc import Collection, Mapping

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
    theirs = {place for place, model in said_by.items() if model != target}
    if not theirs:
        return OwnTurns(body)
    lost = 0
    told = list[object]()
    for place, given in enumerate(as_list(body.get("messages"))):
        message = as_object(given)
        if message is not None and place in theirs and message.get("role") == "assistant":
            plain, has_lost = _plain(message)
            lost += has_lost
            told.append(plain)
        else:
            told.append(given)
    return OwnTurns(with_portable_ids(body | {"messages": told}, theirs), lost)


def with_portable_ids(body: JsonObject, places: Collection[int] | None = None) -> JsonObject:
    """`body` with ids that every service takes, in the turns at `places` (None = in all)."""
    told, ids = list[object](), dict[str, str]()
    for place, given in enumerate(as_list(body.get("messages"))):
        message = as_object(given) or {}
        if message.get("role") == "assistant":
            calls = objects_in(message.get("tool_calls"))
            is_meant = places is None or place in places
            given_ids = [as_text(call.get("id")) for call in calls if is_meant]
            ids = {id_: portable_id(id_) for id_ in given_ids}  # results answer the turn before
            if ids:
                pairs = zip(calls, given_ids, strict=True)
                message = message | {"tool_calls": [call | {"id": ids[id_]} for call, id_ in pairs]}
        elif message.get("role") == "tool" and (id_ := as_text(message.get("tool_call_id"))) in ids:
            message = message | {"tool_call_id": ids[id_]}
        told.append(message or given)
    return body | {"messages": told} if told else body


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
