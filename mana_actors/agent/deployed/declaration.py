"""What a deployment's file may declare: tools under modules of its own."""

from functools import cache

import msgspec

from mana_actors.agent.tools.catalogue import (
    FIND_TOOLS,
    OWN_MODULE,
    Tool,
    catalogue,
    proposing_tools,
)
from mana_actors.errors import CatalogueInvalid

MOST_TOOLS = 64
RESERVED_MODULES = frozenset({OWN_MODULE})
RESERVED_NAMES = frozenset({FIND_TOOLS.name, "task"})


@cache  # each run asks for those of its deployment
def declared_tools(raw: bytes) -> tuple[Tool, ...]:
    """The tools that `raw` (JSON) declares; raises CatalogueInvalid naming what is wrong."""
    try:
        tools = msgspec.json.decode(raw, type=tuple[Tool, ...])
    except msgspec.ValidationError as exc:
        raise CatalogueInvalid("declaration", str(exc)) from exc
    if len(tools) > MOST_TOOLS:
        raise CatalogueInvalid("declaration", f"{len(tools)} tools, {MOST_TOOLS} are allowed")
    taken = RESERVED_MODULES | {tool.module for tool in catalogue().values()}
    for tool in tools:
        if not tool.module or tool.module in taken:
            raise CatalogueInvalid(tool.name, f"module {tool.module[:60]!r} is empty or taken")
        if tool.name in RESERVED_NAMES:
            raise CatalogueInvalid(tool.name, "name is taken")
        if not tool.description.strip():
            raise CatalogueInvalid(tool.name, "description is empty")
    proposing_tools().with_tools(tools)  # refuses names and parameters that are wrong
    return tools
