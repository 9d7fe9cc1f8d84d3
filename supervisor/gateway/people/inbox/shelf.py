"""The tool catalogue as carrying out proposals asks it."""

from collections.abc import Mapping
from typing import Any

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.agent.tools.validation import ArgumentError, validate_arguments
from state.proposals.effects import CannotCarryOut
from state.proposals.obstacles import ToolRule


class CatalogueShelf:
    """Answers for the tools of the catalogue."""

    def rule(self, tool: str) -> ToolRule | None:
        """Name, module and default of a tool, None where there is none."""
        found = catalogue().get(tool)
        return None if found is None else ToolRule(found.name, found.module, found.default_policy)

    def checked(self, tool: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Normalised parameters; raises CannotCarryOut naming the one that does not fit."""
        found = catalogue().get(tool)
        if found is None:
            raise CannotCarryOut(f"the tool {tool} is not known here")
        try:
            return validate_arguments(found, dict(params))
        except ArgumentError as exc:
            raise CannotCarryOut(str(exc)) from None
