"""A prompt of `planner.prompt`, read back for the rehearsal model: mission, inputs, feedback."""

import re
from collections.abc import Sequence

import msgspec

from mana_actors.json_values import JsonObject, as_text

_BLOCK = re.compile(
    r'<data id="\d+" source="([^"]*)" boundary="([^"]*)">\n(.*?)\n</data boundary="\2">', re.DOTALL
)
_HISTORY = "earlier-iteration"
_SECTION = r"^## {}\n(.*?)(?=^## |\Z)"


class Source(msgspec.Struct, frozen=True):
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
    sources: tuple[Source, ...] = ()
    feedback: str = ""
    is_compaction: bool = False


def read_briefing(messages: Sequence[JsonObject]) -> Briefing:
    """What the last user turn of a conversation says; other shapes are one objective."""
    system = "".join(_texts(messages, "system")[:1])
    text = "".join(_texts(messages, "user")[-1:])
    blocks = _BLOCK.findall(text)
    plain = _BLOCK.sub("", text)
    title = re.search(r"^# Mission: (.*)$", plain, re.MULTILINE)
    now = re.search(r"^Present time: (\S+)", plain, re.MULTILINE)
    return Briefing(
        text=text,
        title=title[1].strip() if title else "",
        objective=_section(plain, "Objective") if title else plain.strip(),
        concept=_section(plain, "Concept"),
        now=now[1] if now else "",
        sources=tuple(_source(where, body) for where, _, body in blocks if where != _HISTORY),
        feedback=_feedback([body for where, _, body in blocks if where == _HISTORY]),
        is_compaction="## Current Progress" in system,
    )


def _texts(messages: Sequence[JsonObject], role: str) -> list[str]:
    return [as_text(each.get("content")) for each in messages if each.get("role") == role]


def _section(text: str, name: str) -> str:
    found = re.search(_SECTION.format(name), text, re.MULTILINE | re.DOTALL)
    value = found[1].strip() if found else ""
    return "" if value == "(not given)" else value


def _source(where: str, body: str) -> Source:
    module, _, table = where.partition("/")
    heading, _, content = body.partition("\n")
    title = heading.removeprefix("### ").partition(": ")[2].strip()
    return Source(module, table, title or where, content)


def _feedback(iterations: Sequence[str]) -> str:
    parts = (re.search(r"^Feedback: (.*)", body, re.MULTILINE | re.DOTALL) for body in iterations)
    return next((part[1].strip() for part in reversed(list(parts)) if part), "")
