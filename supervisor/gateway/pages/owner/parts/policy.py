"""What an agent may do, tool by tool as it is decided, and a form that changes it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import BadRequest
from mana_actors.json_values import as_object
from state.rules.policy import Permission, decide, parse_policy
from supervisor.gateway.pages.owner.parts.tool_words import module_said, verb_of
from supervisor.gateway.pages.reader import Reader

PERMISSIONS: tuple[Permission, ...] = ("deny", "propose", "auto")
TOOL, MODULE = "tool.", "module."
"""What fields of the form begin with."""


class ToolShown(msgspec.Struct, frozen=True):
    """A tool: what it does in words, and whether the agent may."""

    name: str
    verb: str
    decision: str


class ModuleTools(msgspec.Struct, frozen=True):
    """The tools of a module, and what each decision is made of: the tools in words."""

    module: str
    said: str
    tools: list[ToolShown]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Decisions that some tool has, with what those tools do."""
        of = [(one, [t.verb for t in self.tools if t.decision == one]) for one in PERMISSIONS]
        return [(decision, verbs) for decision, verbs in reversed(of) if verbs]


def modules_of(policy: object, reader: Reader) -> list[ModuleTools]:
    """What a policy lets do, module by module, as offering and accepting a tool decide it."""
    parsed, _ = parse_policy(policy)
    by_module: defaultdict[str, list[ToolShown]] = defaultdict(list)
    for tool in catalogue().values():
        decided = decide(tool.name, tool.module, tool.default_policy, parsed)
        by_module[tool.module].append(ToolShown(tool.name, verb_of(tool.name, reader), decided))
    found = [
        ModuleTools(module, module_said(module, reader), tools)
        for module, tools in by_module.items()
    ]
    return sorted(found, key=_said)


def counted(modules: list[ModuleTools]) -> list[tuple[str, int]]:
    """Decisions that some tool has, with how many tools have it, what it does by itself first."""
    of = Counter(tool.decision for module in modules for tool in module.tools)
    return [(one, of[one]) for one in reversed(PERMISSIONS) if of[one]]


def policy_with(raw: object, form: dict[str, str]) -> dict[str, Any]:
    """A policy with what a form says of modules (`module.NAME`) and tools (`tool.NAME`).

    Nothing else of it changes: a tool that the form says as it was keeps its own word or its
    module's. Raises BadRequest.
    """
    parsed, _ = parse_policy(raw)
    fields = as_object(raw) or {}
    # A tool without a word of its own gets the one it has by default: records name every tool, and
    # what is left out would be filled in by the catalogue. Words on tools of others stay.
    tools = parsed.tools | {
        tool.name: decide(tool.name, tool.module, tool.default_policy, parsed)
        for tool in catalogue().values()
        if tool.module not in parsed.modules
    }
    modules = dict(parsed.modules)
    asked: dict[str, Permission] = {}
    for name, text in form.items():
        if not (module := name.removeprefix(MODULE)) or module == name or not text:
            continue
        of = [tool.name for tool in catalogue().values() if tool.module == module]
        if not of:
            raise BadRequest(module, "is not a module that is known here")
        said = _permission(module, text)
        asked |= dict.fromkeys(of, said)
        if module in modules:
            modules[module] = said
    for name, text in form.items():
        if (tool := name.removeprefix(TOOL)) == name:
            continue
        known = catalogue().get(tool)
        if known is None:
            raise BadRequest("tool", "is not known here")
        said = _permission(tool, text)
        if said != decide(tool, known.module, known.default_policy, parsed):
            asked[tool] = said
    default = parsed.default if raw is not None else "propose"
    others = {name: value for name, value in fields.items() if name != "defaultForAi"}
    return {
        **others,
        "tools": {**tools, **asked},
        "defaultsByModule": modules,
        "defaultForAi": default,
    }


def _permission(field: str, text: str) -> Permission:
    said: Permission | None = next((one for one in PERMISSIONS if one == text), None)
    if said is None:
        raise BadRequest(field, f"must be one of {', '.join(PERMISSIONS)}")
    return said


def _said(of: ModuleTools) -> str:
    return of.said.casefold()
