"""Whether a call that a model made was offered, and its arguments make sense (P8)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

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
PRESET = "preset:"
"""Ids with this prefix come with the product, not with a record: they need not be seen."""

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
    `was_seen`, a proposal may only name records whose ids the model was shown: it invents others.
    """
    tools = {tool.name: tool for tool in offered}
    box = toolbox or proposing_tools()

    def check(call: ToolCall) -> ToolCall | ToolResult:
        tool = tools.get(call.name)
        if tool is None:
            return ToolResult(False, "Unknown tool: it is not among the tools offered.")
        if not box.allows(tool, policy):
            return ToolResult(False, f"The owner does not allow {tool.name}.")
        problem = call.problem
        if not problem and len(canonical_json(call.arguments).encode()) > MAX_ARGUMENT_BYTES:
            problem = f"they are larger than {MAX_ARGUMENT_BYTES} bytes"
        if problem:
            return ToolResult(False, f"Invalid arguments for {tool.name}: {problem}")
        try:
            arguments = validate_arguments(tool, call.arguments)
            if was_seen is not None and box.is_step(tool.name):
                _require_seen(tool, arguments, was_seen)
        except ArgumentError as exc:
            return ToolResult(False, f"Invalid arguments for {tool.name}: {exc}")
        return ToolCall(call.id, call.name, arguments)

    return check


def validate_arguments(tool: Tool, arguments: JsonObject) -> JsonObject:
    """`arguments` with numbers, booleans and choices normalised.

    Nulls are left out. Raises ArgumentError naming the parameter: missing, of the wrong type, not a
    choice, unknown, too large, or holding NUL. Required means present; a text that names a thing
    must also say something.
    """
    known = {parameter.name: parameter for parameter in tool.parameters}
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in given:
        if name not in known:
            raise ArgumentError(f"Unknown parameter: {name[:60]}")
    for name, parameter in known.items():
        value = given.get(name)
        is_blank = isinstance(value, str) and not value.strip()
        if parameter.required and (
            name not in given or (is_blank and (tool.name, name) in NEVER_EMPTY)
        ):
            raise ArgumentError(f"Missing parameter: {name}")
    return {name: _normalised(known[name], value) for name, value in given.items()}


def _require_seen(tool: Tool, arguments: JsonObject, was_seen: WasSeen) -> None:
    for parameter in tool.parameters:
        value = arguments.get(parameter.name)
        if not parameter.record or value is None:
            continue
        for id_ in as_list(value) or [value]:
            if not isinstance(id_, str) or not (id_.startswith(PRESET) or was_seen(id_)):
                what = f"{parameter.name} was not seen in this run"
                hint = f"read the {parameter.record} first, never guess an id"
                raise ArgumentError(f"{what}; {hint}.")


def _normalised(parameter: Parameter, value: Any) -> Any:
    """`value` as what the parameter wants: models write numbers and booleans as text, too."""
    match parameter.type:
        case "number" | "integer":
            value = _number(parameter.name, value)
            is_fit, what = parameter.type == "number" or isinstance(value, int), "a whole number"
        case "boolean":
            value = value == "true" if value in ("true", "false") else value
            is_fit, what = isinstance(value, bool), "a boolean"
        case "array":
            is_fit, what = isinstance(value, list), "an array"
        case "object":
            is_fit, what = isinstance(value, dict), "an object"
        case _:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            value = str(value) if is_number else value
            is_fit, what = isinstance(value, str), "a text"
    if not is_fit:
        raise ArgumentError(f"{parameter.name} is not {what}")
    if parameter.enum and value not in parameter.enum:
        choices = ", ".join(parameter.enum)
        raise ArgumentError(f"{parameter.name} is not one of: {choices}")
    if any("\x00" in text for text in texts_in(value)):  # Postgres cannot store it
        raise ArgumentError(f"{parameter.name} holds a NUL character")
    return value


def _number(name: str, value: Any) -> int | float:
    """A finite number, whole ones as int."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ArgumentError(f"{name} is not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name} is not a number")
    if abs(value) > 1e300 or not math.isfinite(value):
        raise ArgumentError(f"{name} is not a number")
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value
