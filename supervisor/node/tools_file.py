"""The deployment's own tools, asked for once when a node starts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mana_actors.agent.deployed.declaration import declared_tools
from mana_actors.agent.deployed.process import ToolProcessFailed, ask_child
from mana_actors.errors import CatalogueInvalid
from supervisor.node.settings import Settings, SettingsError

_VARIABLE = "MANA_TOOLS_FILE"


def tools_path(settings: Settings) -> str | None:
    """Where the file is, from anywhere."""
    return settings.agent.tools_file and str(Path(settings.agent.tools_file).absolute())


async def tools_of_file(settings: Settings) -> bytes:
    """What the file declares, as JSON; raises SettingsError where it or a tool in it is wrong."""
    file = tools_path(settings)
    if file is None:
        return b"[]"
    try:
        answer = await ask_child(
            "describe",
            file,
            deadline_s=settings.agent.tool_deadline_s,
            memory_mb=settings.agent.tool_memory_mb,
        )
    except ToolProcessFailed as exc:
        raise SettingsError(_VARIABLE, f"{file} could not be read: {exc.reason}") from exc
    if "tools" not in answer:
        raise SettingsError(_VARIABLE, f"{file} failed: {answer.get('error')}")
    said = msgspec.json.encode(answer["tools"])
    try:
        declared_tools(said)
    except CatalogueInvalid as exc:
        raise SettingsError(_VARIABLE, f"{exc.field}: {exc.reason}") from exc
    return said
