"""Which of the allowed tools a conversation starts with, and how it gets at the others.

Each tool that is offered costs tokens in every round, and a mission needs few of them. What is
offered at first begins with what is the same in all conversations of an agent, so that providers'
caches hold; what is brought in later comes after everything that was there.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Literal

import msgspec

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.tools.catalogue import FIND_TOOLS, OWN_MODULE, Tool, catalogue, short_spec
from mana_actors.agent.tools.module_names import modules_named, words_of
from mana_actors.json_values import JsonObject
from state.rules.policy import AiPolicy

Offered = Literal["fitting", "all"]
"""What a model is offered at first: what fits its mission, or every tool that is allowed."""

CORE = (
    "create_task",
    "complete_task",
    "list_tasks",
    "create_event",
    "create_note",
    "append_to_note",
    "list_notes",
)
"""What most missions come to, and all that is offered where a mission names nothing."""

BASE_BYTES = 4000
FIRST_BYTES = 5500
"""Of specs offered at first: of those that every conversation of the agent has, and of all."""
MOST_FOUND = 10
MOST_BROUGHT = 30
"""Tools that one question brings in, and a whole conversation."""
MOST_NAMED = 6
"""A policy that names more modules than these says what is allowed, not what the agent is for."""

INPUT_MODULES = {"tasks": "todo"}
"""Modules of inputs whose tools have another module's name."""


class Brought(msgspec.Struct, frozen=True):
    """What came of asking for tools: the names to bring in, and what the model is told."""

    names: tuple[str, ...]
    told: ToolResult


class Offer(msgspec.Struct, frozen=True, dict=True):
    """The tools that a conversation may use, with their specs; `named` modules matter to its agent.

    All of `tools` are allowed by the owner: nothing else can be offered, found or brought in (P8).
    Where it cannot find any, all are offered at first.
    """

    tools: tuple[Tool, ...]
    specs: Mapping[str, JsonObject]
    named: tuple[str, ...] = ()
    can_find: bool = True

    @cached_property
    def base(self) -> tuple[str, ...]:
        """What every conversation with these tools starts with, in this order."""
        known = catalogue()
        of_the_product = {OWN_MODULE} | {tool.module for tool in known.values()}
        wanted = [
            *(name for name in CORE if name in self.specs),
            *(tool.name for tool in self.tools if tool.module == OWN_MODULE),
            *(tool.name for tool in self.tools if tool.module not in of_the_product),
            *self._of(self.named),
        ]
        return tuple(_fitting(wanted, self.specs, BASE_BYTES - _size(self.finder)))

    @cached_property
    def is_whole(self) -> bool:
        """Whether all tools fit into the first offer, so that none is left to be found."""
        whole = sum(_size(spec) for spec in self.specs.values())
        return not self.can_find or whole <= FIRST_BYTES

    @cached_property
    def finder(self) -> JsonObject:
        """The spec of `find_tools`, with the modules there are."""
        spec = short_spec(FIND_TOOLS)
        modules = ", ".join(dict.fromkeys(t.module for t in self.tools if t.module != OWN_MODULE))
        function: JsonObject = spec["function"]
        description = f"{function['description']} Modules: {modules}."
        return {**spec, "function": {**function, "description": description}}

    def first(self, modules: Iterable[str]) -> tuple[JsonObject, ...]:
        """The specs to start with where the conversation is about these modules, first ones first.

        The base comes first, the rest in the order of the catalogue.
        """
        if self.is_whole:
            return tuple(self.specs.values())
        left = FIRST_BYTES - sum(_size(self.specs[name]) for name in self.base)
        more = set(_fitting(self._of(modules), self.specs, left - _size(self.finder)))
        rest = [name for name in self.specs if name in more and name not in self.base]
        return self.finder, *(self.specs[name] for name in (*self.base, *rest))

    def asked(
        self,
        call: ToolCall,
        checked: ToolCall | ToolResult,
        shown: Collection[str],
        brought: Collection[str],
    ) -> Brought | None:
        """What a call brings in, None where it is not about that.

        `shown` are the tools that the model had before its turn, `brought` those that were brought
        in so far, by this turn too. An allowed tool that was not shown is not carried out, since
        its arguments are guesses: it is offered, and can be called then.
        """
        is_early = call.name in self.specs and call.name not in shown
        if not is_early and (call.name != FIND_TOOLS.name or isinstance(checked, ToolResult)):
            return None
        left = MOST_BROUGHT - len(brought)
        if is_early and (left > 0 or call.name in brought):
            told = f"{call.name} was not offered yet. It is from the next turn on: call it then."
            return Brought((call.name,), ToolResult(False, told))
        if left <= 0:
            return Brought((), ToolResult(False, "No more tools can be added in this run."))
        known = {*shown, *brought}
        names = self.found(str(call.arguments["words"]), known)[:left]
        if names:
            return Brought(names, ToolResult(True, f"From the next turn on: {', '.join(names)}."))
        others = dict.fromkeys(tool.module for tool in self.tools if tool.name not in known)
        told = f"Other modules: {', '.join(others)}." if others else "There are no others."
        return Brought((), ToolResult(False, f"Nothing more fits these words. {told}"))

    def found(self, words: str, known: Collection[str]) -> tuple[str, ...]:
        """Tools beyond the `known` ones that a module's name or other words ask for, best first."""
        asked = list(dict.fromkeys(words_of(words)))
        names = [tool.name for tool in self.tools if tool.name in asked]
        modules = [t.module for t in self.tools if t.module.replace("-", "") in asked]
        names += self._of(dict.fromkeys((*modules, *modules_named(words))))
        found = [name for name in dict.fromkeys(names) if name not in known]
        if not found:
            stems = tuple(word[:6] for word in asked if len(word) >= 4)
            texts = {
                t.name: words_of(f"{t.name.replace('_', ' ')} {t.description}") for t in self.tools
            }
            found = [
                name
                for name, text in texts.items()
                if name not in known and any(word.startswith(stems) for word in text)
            ]
        return tuple(found[:MOST_FOUND])

    def only(self, names: Collection[str]) -> "Offer":
        """This offer with no other tools than these."""
        tools = tuple(tool for tool in self.tools if tool.name in names)
        specs = {tool.name: self.specs[tool.name] for tool in tools}
        return msgspec.structs.replace(self, tools=tools, specs=specs)

    def _of(self, modules: Iterable[str]) -> list[str]:
        return [tool.name for of in modules for tool in self.tools if tool.module == of]


def modules_of_policy(policy: AiPolicy) -> tuple[str, ...]:
    """The modules that a policy names to allow something there, if it names few."""
    tools = [
        catalogue()[name]
        for name, said in policy.tools.items()
        if said != "deny" and name in catalogue()
    ]
    modules = [module for module, said in policy.modules.items() if said != "deny"]
    named = dict.fromkeys((*modules, *(tool.module for tool in tools)))
    return tuple(sorted(named)) if len(named) <= MOST_NAMED else ()


def _fitting(names: Iterable[str], specs: Mapping[str, JsonObject], most: int) -> list[str]:
    """These, each once, as far as their specs fit into so many bytes."""
    kept: list[str] = []
    for name in dict.fromkeys(names):
        size = _size(specs[name])
        if size <= most:
            kept.append(name)
            most -= size
    return kept


def _size(spec: JsonObject) -> int:
    return len(msgspec.json.encode(spec)) + 1  # with the comma after it
