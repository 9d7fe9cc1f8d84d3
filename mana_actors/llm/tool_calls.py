"""The tool calls of an answer, in the forms in which services write them."""

from typing import Any

import msgspec

from mana_actors.agent.planner.exchange import ToolCall
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in
from mana_actors.llm.carried import carried_by_call

_MOST_ID_CHARS = 70_000
"""An id may hold a signature."""
_UNREADABLE = "they are not a JSON object"


def tool_calls_of(message: JsonObject) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message, each with what it carries.

    Arguments that are no JSON object become {} and a problem; none at all are none.
    """
    given = message.get("tool_calls")
    single = as_object(given)
    calls = objects_in(given) if single is None else [single]
    if not calls and (legacy := as_object(message.get("function_call"))):
        calls = [{"function": legacy}]
    found: list[ToolCall] = []
    for place, call in enumerate(calls):
        function, kept = as_object(call.get("function")), call
        if function is None:  # without the wrapping
            function = {name: call[name] for name in ("name", "arguments") if name in call}
            kept = {name: call[name] for name in call if name not in function}
        arguments = _arguments(function.get("arguments"))
        found.append(
            ToolCall(
                _printable(as_text(kept.get("id"))[:_MOST_ID_CHARS]) or f"call_{place}",
                _printable(as_text(function.get("name"))[:200]),
                arguments or {},
                "" if arguments is not None else _UNREADABLE,
                carried=carried_by_call(kept),
            )
        )
    return tuple(found)


def _arguments(given: object) -> JsonObject | None:
    """An object, its JSON, or the JSON of that, as an object; none is {}, nonsense is None."""
    value: Any = given
    for _ in range(2):
        if value is None or (isinstance(value, str) and not value.strip()):
            return {}
        if not isinstance(value, str):
            break
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    return {} if value is None else as_object(value)


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
