"""Whether a call that a model made was offered, and its arguments make sense (D-28, P8)."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.tools.catalogue import Parameter, Tool, Toolbox, proposing_tools
from mana_actors.json_values import JsonObject, as_list, canonical_json, texts_in
from state.rules.policy import AiPolicy

MAX_ARGUMENT_BYTES = 32_768
NEVER_EMPTY = frozenset(
    {
        ("create_task", "title"),
        ("save_news_article", "url"),
        ("task", "description"),
        ("task", "prompt"),
    }
)
RECORDED = ToolResult(True, "Recorded. The owner's device will act on it after this run.")
_FORBIDDEN = ("\x00",)  # Postgres cannot store it in a text or jsonb

_PRESET = "preset:"  # ids that come with the product, not with a record

CheckCall = Callable[[ToolCall], ToolCall | ToolResult]
WasSeen = Callable[[str], bool]
"""Whether the model was shown this record id in this run."""


class ArgumentError(ValueError):
    """Arguments do not fit the tool; the text is meant for the model."""


def check_against(
    offered: Iterable[Tool],
    policy: AiPolicy,
    toolbox: Toolbox | None = None,
    was_seen: WasSeen | None = None,
) -> CheckCall:
    """A judge of calls: the call with normalised arguments, or the failed result the model sees.

    `policy` is asked again for each call, since offering was only the first time (P8). With
    `was_seen`, a proposal may only name records whose ids the model was shown (D-32).
    """
    tools = {tool.name: tool for tool in offered}
    box = toolbox or proposing_tools()

    def check(call: ToolCall) -> ToolCall | ToolResult:
        tool = tools.get(call.name)
        if tool is None:
            return ToolResult(False, "Unknown tool: it is not among the tools offered.")
        if not box.allows(tool, policy):
            return ToolResult(False, f"The owner does not allow {tool.name}.")
        checked = _check_arguments(tool, call)
        if was_seen is None or isinstance(checked, ToolResult) or not box.is_step(tool.name):
            return checked
        return _check_ids(tool, checked, was_seen)

    return check


def validate_arguments(tool: Tool, arguments: JsonObject) -> JsonObject:
    """`arguments` with numbers, booleans and choices normalised (data-model §9.3).

    Nulls are left out. Raises ArgumentError naming the parameter: missing, of the wrong type, not a
    choice, unknown, too large, or holding NUL.
    """
    known = {parameter.name: parameter for parameter in tool.parameters}
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in given:
        if name not in known:
            raise ArgumentError(f"Unknown parameter: {name[:60]}")
    for parameter in tool.parameters:
        if parameter.required and _is_missing(tool, parameter, given):
            raise ArgumentError(f"Missing parameter: {parameter.name}")
    return {name: _normalised(known[name], value) for name, value in given.items()}


def _check_arguments(tool: Tool, call: ToolCall) -> ToolCall | ToolResult:
    if call.problem:
        return ToolResult(False, f"Invalid arguments for {tool.name}: {call.problem}")
    if len(canonical_json(call.arguments).encode()) > MAX_ARGUMENT_BYTES:
        reason = f"they are larger than {MAX_ARGUMENT_BYTES} bytes"
        return ToolResult(False, f"Invalid arguments for {tool.name}: {reason}")
    try:
        return ToolCall(call.id, call.name, validate_arguments(tool, call.arguments))
    except ArgumentError as exc:
        return ToolResult(False, f"Invalid arguments for {tool.name}: {exc}")


def _check_ids(tool: Tool, call: ToolCall, was_seen: WasSeen) -> ToolCall | ToolResult:
    for parameter in tool.parameters:
        if parameter.record and not _all_seen(call.arguments.get(parameter.name), was_seen):
            what = f"{parameter.name} was not seen in this run"
            hint = f"read the {parameter.record} first, never guess an id"
            return ToolResult(False, f"Invalid arguments for {tool.name}: {what}; {hint}.")
    return call


def _all_seen(value: object, was_seen: WasSeen) -> bool:
    if value is None:
        return True
    ids = as_list(value) or [value]
    return all(isinstance(id_, str) and (id_.startswith(_PRESET) or was_seen(id_)) for id_ in ids)


def _is_missing(tool: Tool, parameter: Parameter, given: JsonObject) -> bool:
    """Required means present; text that names a thing must also say something (tick §15)."""
    if parameter.name not in given:
        return True
    blank = isinstance(given[parameter.name], str) and not given[parameter.name].strip()
    return blank and (tool.name, parameter.name) in NEVER_EMPTY


def _normalised(parameter: Parameter, value: Any) -> Any:
    normalise = _NORMALISERS.get(parameter.type, _text)
    normal = normalise(parameter.name, value)
    if parameter.enum and normal not in parameter.enum:
        choices = ", ".join(parameter.enum)
        raise ArgumentError(f"{parameter.name} is not one of: {choices}")
    _refuse_nul(parameter.name, normal)
    return normal


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name} is not a text")
    return str(value)


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, str):
        value = _parsed_number(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name} is not a number")
    if abs(value) > 1e300 or not math.isfinite(value):
        raise ArgumentError(f"{name} is not a number")
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _parsed_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name} is not a number") from None


def _integer(name: str, value: Any) -> int:
    number = _number(name, value)
    if not isinstance(number, int):
        raise ArgumentError(f"{name} is not a whole number")
    return number


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ArgumentError(f"{name} is not a boolean")


def _array(name: str, value: Any) -> Any:
    if not isinstance(value, list):
        raise ArgumentError(f"{name} is not an array")
    return cast("Any", value)


def _object(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise ArgumentError(f"{name} is not an object")
    return cast("Any", value)


_NORMALISERS: dict[str, Callable[[str, Any], Any]] = {
    "string": _text,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
}


def _refuse_nul(name: str, value: Any) -> None:
    if any(mark in text for mark in _FORBIDDEN for text in texts_in(value)):
        raise ArgumentError(f"{name} holds a NUL character")
