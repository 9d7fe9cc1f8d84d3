"""May an agent use this tool: what its owner allows."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from state.log.principals import AI

Permission = Literal["auto", "propose", "deny"]

_PERMISSIONS: dict[str, Permission] = {"auto": "auto", "propose": "propose", "deny": "deny"}


class AiPolicy(msgspec.Struct, frozen=True):
    """What is allowed by tool name, else by module, else for everything."""

    tools: dict[str, Permission] = {}
    modules: dict[str, Permission] = {}
    default: Permission = "propose"
    by_catalogue: bool = False  # the owner said nothing, so each tool has its own default


DEFAULT_POLICY = AiPolicy(by_catalogue=True)
"""The policy of an agent whose record holds none."""

DENY_ALL = AiPolicy(default="deny")


def parse_policy(raw: object) -> tuple[AiPolicy, tuple[str, ...]]:
    """The policy a record holds, with its problems; whatever is malformed only ever restricts."""
    if raw is None:
        return DEFAULT_POLICY, ()
    if not isinstance(raw, dict):
        return DENY_ALL, ("policy: not an object, every tool is denied",)
    fields = cast("dict[str, Any]", raw)
    tools, tool_problems = _permissions(fields.get("tools"), "policy.tools")
    modules, module_problems = _permissions(
        fields.get("defaultsByModule"), "policy.defaultsByModule"
    )
    if tools is None or modules is None:
        return DENY_ALL, tool_problems + module_problems
    problems = ["policy.tools: missing"] if fields.get("tools") is None else []
    problems += [*tool_problems, *module_problems]
    default = fields.get("defaultForAi")
    if default is None or default == "":
        problems.append("policy.defaultForAi: missing, taken as propose")
        default = "propose"
    elif not _is_permission(default):
        problems.append("policy.defaultForAi: unknown decision, denied")
    return AiPolicy(tools, modules, _permission(default)), tuple(problems)


def resolve(
    tool_name: str, module: str | None, policy: AiPolicy, actor_kind: str = AI
) -> Permission:
    """What this actor may do with a tool; `module` is None for a tool nobody registered."""
    if actor_kind != AI:
        return "auto"
    by_tool = policy.tools.get(tool_name)
    by_module = None if module is None else policy.modules.get(module)
    return by_tool or by_module or policy.default


def decide(tool_name: str, module: str, default: Permission, policy: AiPolicy) -> Permission:
    """What an agent may do with a tool whose own default is `default`; asked before every call."""
    return default if policy.by_catalogue else resolve(tool_name, module, policy)


def _permissions(raw: object, field: str) -> tuple[dict[str, Permission] | None, tuple[str, ...]]:
    if raw is None:
        return {}, ()
    if not isinstance(raw, dict):
        return None, (f"{field}: not an object, every tool is denied",)
    # null and "" are clients' ways of having no entry
    entries = {
        name: said for name, said in cast("dict[str, Any]", raw).items() if said not in (None, "")
    }
    unknown = sum(not _is_permission(said) for said in entries.values())
    problems = (f"{field}: {unknown} unknown decision(s), denied",) if unknown else ()
    return {name: _permission(said) for name, said in entries.items()}, problems


def _is_permission(raw: object) -> bool:
    return isinstance(raw, str) and raw in _PERMISSIONS


def _permission(raw: object) -> Permission:
    return _PERMISSIONS.get(raw, "deny") if isinstance(raw, str) else "deny"
