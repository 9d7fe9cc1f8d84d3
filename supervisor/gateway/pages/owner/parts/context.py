"""What the prompts of a run were made of, in tokens and without a word of them. Pure."""

from __future__ import annotations

import msgspec

from mana_actors.agent.planner.prompt_parts import PARTS
from state.log.stamps import instant_of, parse_instant
from state.store.gateway.own_log import OwnRecord
from state.store.own.runs import OwnCall, OwnRunDetail
from supervisor.gateway.pages.owner.parts.tool_words import module_said
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.wire import MissionShown


class PartShown(msgspec.Struct, frozen=True):
    """A part: where its piece of the bar is, in hundredths, and how large in tokens."""

    name: str
    tokens: int
    x: float
    width: float
    colour: int


class InputShown(msgspec.Struct, frozen=True):
    """An input by name, and how much of a prompt it was."""

    name: str
    id: str
    tokens: int


class ContextShown(msgspec.Struct, frozen=True):
    """The prompt of one call."""

    number: int
    tokens: int
    parts: list[PartShown]
    inputs: list[InputShown]


def context_of(
    detail: OwnRunDetail, mission: MissionShown, record: OwnRecord, reader: Reader
) -> list[ContextShown]:
    """The prompts of a run's calls, the first first; none where nothing was noted."""
    names = _names(detail, mission, record, reader)
    found: list[ContextShown] = []
    for call in detail.calls:
        if sum(call.parts.values()):
            inputs = _inputs(call, names, reader)
            found.append(context_shown(call.number, call.parts, inputs, reader))
    return found


def context_shown(
    number: int, tokens: dict[str, int], inputs: list[InputShown], reader: Reader
) -> ContextShown:
    """The prompt of a call, part by part in one order, beside each other."""
    said, whole = part_words(reader), sum(tokens.values())
    parts: list[PartShown] = []
    x = 0.0
    for colour, part in enumerate(PARTS):
        if count := tokens.get(part, 0):
            width = round(100 * count / whole, 2)
            parts.append(PartShown(said[part], count, round(x, 2), width, colour))
            x += width
    return ContextShown(number, whole, parts, inputs)


def _inputs(call: OwnCall, names: list[tuple[str, str]], reader: Reader) -> list[InputShown]:
    """Those of the mission's inputs that the prompt had."""
    _ = translations_of(reader.language).gettext
    inputs: list[InputShown] = []
    for place, tokens in enumerate(call.inputs):
        nameless = _("Input %(number)s") % {"number": place + 1}, ""
        name, id_ = names[place] if place < len(names) else nameless
        if tokens:
            inputs.append(InputShown(name, id_, tokens))
    return inputs


def part_words(reader: Reader) -> dict[str, str]:
    """What each part is called."""
    _ = translations_of(reader.language).gettext
    return {
        "rules": _("How it works"),
        "persona": _("Who it is and remembers"),
        "tools": _("Its tools"),
        "mission": _("The mission"),
        "inputs": _("What it was given to read"),
        "history": _("Its last plans and your words"),
        "talk": _("What it asked and heard"),
        "reminders": _("Reminders"),
    }


def _names(
    detail: OwnRunDetail, mission: MissionShown, record: OwnRecord, reader: Reader
) -> list[tuple[str, str]]:
    """The mission's inputs by name, where they are still those that the run was given."""
    said = parse_instant(record.snapshot.stamps.get("inputs") or "")
    if said is not None and said > instant_of(detail.run.claimed_at):
        return []
    return [(module_said(ref["module"], reader), ref["id"]) for ref in mission.inputs]
