"""A prompt as the planner writes it, read back: mission, inputs, feedback."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from mana_actors.json_values import JsonObject, as_text

_OPENING = re.compile(r'<data id="\d+" source="([^"]*)" boundary="([^"]*)">\n')
_CLOSING = re.compile(r'\n</data boundary="([^"]*)">')
_HISTORY = "earlier-iteration"
_SECTION = r"^## {}\n(.*?)(?=^## |\Z)"


class ShownInput(msgspec.Struct, frozen=True):
    """One input as the prompt shows it."""

    module: str
    table: str
    title: str
    content: str


class Briefing(msgspec.Struct, frozen=True):
    """The prompt, read: `feedback` is that of the newest iteration that has some, else ""."""

    text: str = ""
    title: str = ""
    objective: str = ""
    concept: str = ""
    now: str = ""
    sources: tuple[ShownInput, ...] = ()
    feedback: str = ""
    is_compaction: bool = False


def read_briefing(messages: Sequence[JsonObject]) -> Briefing:
    """What the last user turn of a conversation says; other shapes are one objective."""
    system = "".join(_texts(messages, "system")[:1])
    text = "".join(_texts(messages, "user")[-1:])
    plain, blocks = _read_fences(text)
    title = re.search(r"^# Mission: (.*)$", plain, re.MULTILINE)
    now = re.search(r"^Present time: (\S+)", plain, re.MULTILINE)
    sources: list[ShownInput] = []
    feedback = ""
    for where, body in blocks:
        if where == _HISTORY:
            newest = re.search(r"^Feedback: (.*)", body, re.MULTILINE | re.DOTALL)
            feedback = newest[1].strip() if newest else feedback
            continue
        module, _, table = where.partition("/")
        heading, _, content = body.partition("\n")
        shown = heading.removeprefix("### ").partition(": ")[2].strip()
        sources.append(ShownInput(module, table, shown or where, content))
    return Briefing(
        text=text,
        title=title[1].strip() if title else "",
        objective=_section(plain, "Objective") if title else plain.strip(),
        concept=_section(plain, "Concept"),
        now=now[1] if now else "",
        sources=tuple(sources),
        feedback=feedback,
        is_compaction="## Current Progress" in system,
    )


def _read_fences(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text outside of fences, and source and body of each; a fence closes by its boundary."""
    closings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for closing in _CLOSING.finditer(text):
        closings[closing[1]].append(closing.span())
    plain: list[str] = []
    blocks: list[tuple[str, str]] = []
    read_to = at = 0
    while opening := _OPENING.search(text, at):
        own = closings.get(opening[2], [])
        place = bisect_left(own, (opening.end(), 0))
        at = opening.end() if place == len(own) else own[place][1]
        if place < len(own):
            plain.append(text[read_to : opening.start()])
            blocks.append((opening[1], text[opening.end() : own[place][0]]))
            read_to = at
    return "".join([*plain, text[read_to:]]), blocks


def _texts(messages: Sequence[JsonObject], role: str) -> list[str]:
    return [as_text(each.get("content")) for each in messages if each.get("role") == role]


def _section(text: str, name: str) -> str:
    found = re.search(_SECTION.format(name), text, re.MULTILINE | re.DOTALL)
    value = found[1].strip() if found else ""
    return "" if value == "(not given)" else value
