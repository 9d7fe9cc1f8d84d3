"""What the prompt of a whole run must hold by the Rules: suite `prompt`, cases `run`."""

from __future__ import annotations

import re
from typing import Any

Given = dict[str, Any]

SEALED = "enc:1:"
RESEARCH = re.compile(
    r"\b(recherchier|research|news|finde|suche|aktuelle|neueste"
    r"|today|history|historisch|on this day)",
    re.IGNORECASE,
)
MISSION_TEXTS = ("title", "objective", "conceptMarkdown")
AGENT_TEXTS = ("name", "role", "systemPrompt", "memory")


def run_prompt(given: Given) -> Given:
    """The expected value of a `run` case: mission and agent as far as they are plain text."""
    if is_unreadable(given) or reads_sealed(given):
        return {"requests": 0, "contains": [], "excludes": []}
    texts = [*_plain(record(given, "aiMissions"), MISSION_TEXTS), *identity(given)]
    return {"requests": 1, "contains": texts, "excludes": [SEALED]}


def identity(given: Given) -> list[str]:
    """Who the agent is, as far as its record says so in plain text."""
    return _plain(record(given, "agents"), AGENT_TEXTS)


def is_unreadable(given: Given) -> bool:
    """Whether the mission itself arrived as ciphertext."""
    mission = record(given, "aiMissions")
    return any(str(mission.get(name, "")).startswith(SEALED) for name in MISSION_TEXTS)


def reads_sealed(given: Given) -> bool:
    """Whether an input is encrypted: no case hands over a copy, and none has a v2 grant."""
    refs: list[Given] = record(given, "aiMissions").get("inputs", [])
    wanted = {(ref["table"], ref["id"]) for ref in refs}
    rows: list[Given] = given["rows"]
    read = (row for row in rows if (row["table_name"], row["record_id"]) in wanted)
    return any(SEALED in str(row["data"]) for row in read)


def is_researched(given: Given) -> bool:
    """Whether web results would be looked up, and some be found."""
    mission = record(given, "aiMissions")
    asked = any(RESEARCH.search(mission.get(name) or "") for name in MISSION_TEXTS[1:])
    return bool(given.get("news")) and asked


def record(given: Given, table: str) -> Given:
    """The inserted record of a table, {} if there is none."""
    rows: list[Given] = given["rows"]
    ours = (row for row in rows if row["table_name"] == table and row["op"] == "insert")
    found: list[Given] = [row["data"] for row in ours]
    return found[0] if found else {}


def _plain(fields: Given, names: tuple[str, ...]) -> list[str]:
    texts = (fields.get(name) for name in names)
    return [text for text in texts if isinstance(text, str) and text and SEALED not in text]
