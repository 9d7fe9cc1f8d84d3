"""A prompt as the planner writes it, read back: mission, inputs, feedback."""

import re
from collections.abc import Sequence

import msgspec

from mana_actors.json_values import JsonObject, as_text

_BLOCK = re.compile(
    r'<data id="\d+" source="([^"]*)" boundary="([^"]*)">\n(.*?)\n</data boundary="\2">', re.DOTALL
)
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
    plain = _BLOCK.sub("", text)
    title = re.search(r"^# Mission: (.*)$", plain, re.MULTILINE)
    now = re.search(r"^Present time: (\S+)", plain, re.MULTILINE)
    sources: list[ShownInput] = []
    feedback = ""
    for where, _, body in _BLOCK.findall(text):
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


def _texts(messages: Sequence[JsonObject], role: str) -> list[str]:
    return [as_text(each.get("content")) for each in messages if each.get("role") == role]


def _section(text: str, name: str) -> str:
    found = re.search(_SECTION.format(name), text, re.MULTILINE | re.DOTALL)
    value = found[1].strip() if found else ""
    return "" if value == "(not given)" else value
