"""The tools there are, as data, and which of them are offered to a model."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

from mana_actors.errors import CatalogueInvalid
from state.proposals.tool_handlers import HANDLERS
from state.rules.policy import AiPolicy, Permission, decide

PARAMETER_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object"})
UNKNOWN_LABEL = "unknown"
_NAME = re.compile(r"[a-z_]+")


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter of a tool; `enum` lists the only values allowed, empty means any.

    `record` names what the parameter is the id of, "" if it is no id. `short` says what the name
    leaves open, "" where that is nothing; None: as the description.
    """

    name: str
    type: str
    required: bool
    description: str = ""
    enum: tuple[str, ...] = ()
    record: str = ""
    short: str | None = None


class Tool(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of the catalogue; `short` is its description beside rules that say the rest."""

    name: str
    module: str
    default_policy: Literal["auto", "propose"]
    description: str
    parameters: tuple[Parameter, ...]
    short: str | None = None


class _CatalogueFile(msgspec.Struct, frozen=True):
    version: Literal[1]
    tools: tuple[Tool, ...]


OWN_MODULE = "_agent"
"""Of the tools that are no module's: what a run can do with itself."""

FIND_TOOLS = Tool(
    "find_tools",
    OWN_MODULE,
    "auto",
    "Brings more tools from the next turn on: name a module or what you want to do.",
    (Parameter("words", "string", required=True),),
)
"""It shows nothing but tools that the owner allows, so only a denial of itself is about it."""


@cache
def catalogue() -> dict[str, Tool]:
    """All tools by name, in the order of `tools.json`; raises CatalogueInvalid if it is wrong."""
    raw = (files("mana_actors.agent.tools") / "tools.json").read_bytes()
    try:
        return _by_name(msgspec.json.decode(raw, type=_CatalogueFile).tools)
    except msgspec.ValidationError as exc:
        raise CatalogueInvalid("tools.json", str(exc)) from exc


class Toolbox(msgspec.Struct, frozen=True):
    """The tools one run knows; those in `executable` are carried out in the run, not proposed."""

    tools: Mapping[str, Tool]
    executable: frozenset[str] = frozenset()

    def offered(self, policy: AiPolicy) -> tuple[Tool, ...]:
        """What a model is offered under `policy`, in catalogue order (P8)."""
        return tuple(tool for tool in self.tools.values() if self.allows(tool, policy))

    def allows(self, tool: Tool, policy: AiPolicy) -> bool:
        """Whether a call of `tool` is acceptable: the question of offer and answer alike (P8).

        A proposal needs anything but `deny`. What is carried out here needs `auto`: "propose" asks
        that the owner be asked first, and nobody is there.
        """
        if tool.name == FIND_TOOLS.name:
            return "deny" not in (policy.tools.get(tool.name), policy.modules.get(OWN_MODULE))
        said = decision(tool, policy)
        if tool.default_policy == "propose":
            return said != "deny"
        return tool.name in self.executable and said == "auto"

    def is_step(self, name: str) -> bool:
        """Whether an accepted call of `name` becomes a step of the plan."""
        tool = self.tools.get(name)
        return tool is None or tool.default_policy == "propose"

    def label(self, name: str) -> str:
        """`name` if it is a tool here, else "unknown": a model must not make metric labels up."""
        return name if name in self.tools else UNKNOWN_LABEL

    def with_tools(self, more: Iterable[Tool], executable: Iterable[str] = ()) -> "Toolbox":
        """This box with more tools; raises CatalogueInvalid where a name is taken or wrong."""
        added = _by_name(more)
        for name in added.keys() & self.tools.keys():
            raise CatalogueInvalid(name, "name is not unique or not of a-z and _")
        return Toolbox({**self.tools, **added}, self.executable | frozenset(executable))


def decision(tool: Tool, policy: AiPolicy) -> Permission:
    """What the owner of `policy` says about `tool`."""
    return decide(tool.name, tool.module, tool.default_policy, policy)


def proposing_tools(*, with_devices: bool = True) -> Toolbox:
    """The catalogue where nothing is carried out: only proposals are offered.

    Without devices it lacks those that only a device could carry out once they are approved.
    """
    if with_devices:
        return Toolbox(catalogue())
    return Toolbox(
        {
            name: tool
            for name, tool in catalogue().items()
            if tool.default_policy != "propose" or name in HANDLERS
        }
    )


@cache  # a run asks for sixty of them, which nobody changes
def function_spec(tool: Tool) -> dict[str, Any]:
    """`tool` as the function spec of a chat-completions request; raises CatalogueInvalid."""
    properties: dict[str, Any] = {}
    for parameter in tool.parameters:
        if parameter.type not in PARAMETER_TYPES:
            field = f"{tool.name}.{parameter.name}"
            raise CatalogueInvalid(field, f"type {parameter.type} is unknown")
        spec: dict[str, Any] = {"type": parameter.type, "description": parameter.description}
        if parameter.enum:
            spec["enum"] = list(parameter.enum)
        properties[parameter.name] = spec
    required = [parameter.name for parameter in tool.parameters if parameter.required]
    schema = {"type": "object", "properties": properties, "required": required}
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": function}


@cache
def short_spec(tool: Tool) -> dict[str, Any]:
    """The same in fewer bytes: it accepts what `function_spec` accepts."""
    properties: dict[str, Any] = {}
    for parameter in tool.parameters:
        spec: dict[str, Any] = {"type": parameter.type}
        if said := parameter.description if parameter.short is None else parameter.short:
            spec["description"] = said
        if parameter.enum:
            spec["enum"] = list(parameter.enum)
        properties[parameter.name] = spec
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [parameter.name for parameter in tool.parameters if parameter.required]:
        schema["required"] = required
    description = tool.description if tool.short is None else tool.short
    function = {"name": tool.name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def _by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    by_name: dict[str, Tool] = {}
    for tool in tools:
        if not _NAME.fullmatch(tool.name) or tool.name in by_name:
            raise CatalogueInvalid(tool.name, "name is not unique or not of a-z and _")
        function_spec(tool)
        by_name[tool.name] = tool
    return by_name
