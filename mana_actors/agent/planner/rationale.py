"""Why the model proposes a step: a parameter that the model is shown and no tool receives.

The catalogue does not know it: it is added to the specs, and taken out of a call before its check.
"""

from functools import cache

from msgspec.structs import replace

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.planner.fences import without_tags
from mana_actors.agent.planner.spoken.text import read_spoken
from mana_actors.agent.tools.catalogue import Tool, function_spec, short_spec
from mana_actors.agent.tools.validation import CheckCall
from mana_actors.json_values import JsonObject, as_text

PARAMETER = "rationale"
MAX_CHARS = 500

_DESCRIPTION = "Why this serves the mission: one short sentence, shown to the owner."


@cache
def spec_with_rationale(tool: Tool) -> JsonObject:
    """The function spec of a proposing tool, with an optional text for the reason."""
    return _with(function_spec(tool), {"type": "string", "description": _DESCRIPTION})


@cache
def short_spec_with_rationale(tool: Tool) -> JsonObject:
    """The same in few bytes: what the text is for stands in the rules of the system prompt."""
    return _with(short_spec(tool), {"type": "string"})


def _with(spec: JsonObject, asked: JsonObject) -> JsonObject:
    function: JsonObject = spec["function"]
    schema: JsonObject = function["parameters"]
    schema = {**schema, "properties": {**schema["properties"], PARAMETER: asked}}
    return {**spec, "function": {**function, "parameters": schema}}


def takes_rationale(tool: Tool) -> bool:
    """Whether a reason is asked for: what is carried out here needs none."""
    own = any(parameter.name == PARAMETER for parameter in tool.parameters)
    return tool.default_policy == "propose" and not own


def check_without_rationale(check: CheckCall, names: frozenset[str]) -> CheckCall:
    """`check` for calls of `names` without their reason, which is kept with the checked call."""

    def checked(call: ToolCall) -> ToolCall | ToolResult:
        if call.name not in names or PARAMETER not in call.arguments:
            return check(call)
        rest = {name: value for name, value in call.arguments.items() if name != PARAMETER}
        judged = check(replace(call, arguments=rest))
        if isinstance(judged, ToolResult):
            return judged
        return replace(judged, rationale=bounded(as_text(call.arguments[PARAMETER])))

    return checked


def bounded(text: str) -> str:
    """`text` on one line without thinking, tags or sealed values, at most 500 characters."""
    line = " ".join(without_tags(read_spoken(text).text).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1]}…"
