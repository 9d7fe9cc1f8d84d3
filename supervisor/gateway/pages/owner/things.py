"""What a proposal would change, as the thing itself: a task looks like a task. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from mana_actors.agent.tools.catalogue import Tool, catalogue
from mana_actors.http.bodies import BadRequest
from state.proposals.proposal import Proposal
from state.proposals.tool_handlers import GOALS, HABITS, NOTES, PLACES, TASKS, TablePlace
from supervisor.gateway.pages import words
from supervisor.gateway.pages.owner.parts.tool_words import label_of, verb_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

RECORDS: dict[str, TablePlace] = {
    "taskId": TASKS,
    "noteId": NOTES,
    "goalId": GOALS,
    "placeId": PLACES,
    "habitId": HABITS,
}
"""Parameters that name a record whose title says more than its id."""

NAMES = ("title", "name", "titleMatch", "subject", "source", "emotion", "description", "url")
TEXTS = ("content", "text", "notes", "note", "summary", "description", "htmlContent", "claim")
LONG = frozenset({*TEXTS, "optionsJson", "explanation", "extraInstructions", "storyContext"})
MARKS = {
    "todo": "box",
    "calendar": "▦",
    "notes": "¶",
    "journal": "¶",
    "goals": "◎",
    "contacts": "☺",
}
FIELD = "p."


class Detail(msgspec.Struct, frozen=True):
    """One more thing that is said."""

    label: str
    text: str


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """What is made or changed: its mark, what is done to it, its name, its text, and the rest."""

    mark: str
    verb: str
    name: str
    is_done: bool = False
    text: str = ""
    details: list[Detail] = []


class FieldShown(msgspec.Struct, frozen=True):
    """A field of the form that changes a proposal before it is approved."""

    name: str
    label: str
    kind: str  # text, long, number, choice, json
    value: str
    options: tuple[str, ...] = ()
    required: bool = False


def record_of(proposal: Proposal) -> tuple[TablePlace, str] | None:
    """The record that a proposal changes, where it names one whose title is known here."""
    for name, place in RECORDS.items():
        id_ = proposal.effective.get(name)
        if isinstance(id_, str) and id_:
            return place, id_
    return None


def thing_of(proposal: Proposal, record: str | None, reader: Reader) -> Thing:
    """What a proposal is about; `record` is the title of what it changes."""
    _ = translations_of(reader.language).gettext
    tool, params = catalogue().get(proposal.tool), dict(proposal.effective)
    verb = verb_of(proposal.tool, reader)
    if proposal.params is None:
        return Thing(mark="◌", verb=verb, name=_("Sealed for you: one of your devices shows it"))
    name = record or ""
    named = "" if record is None else next((one for one in RECORDS if one in params), "")
    if not name and "firstName" in params:
        first, last = params.pop("firstName"), params.pop("lastName", "") or ""
        name = f"{first} {last}".strip()
    if not name:
        named = next((one for one in NAMES if params.get(one)), "")
        name = str(params.get(named, ""))
    params.pop(named, None)
    text = next((one for one in TEXTS if params.get(one)), "")
    said = str(params.pop(text, "") or "")
    return Thing(
        mark=MARKS.get(tool.module if tool else "", "→"),
        verb=verb,
        name=name or verb,
        is_done=proposal.tool.startswith("complete_"),
        text=said,
        details=[
            Detail(label_of(key, reader), _value(value, reader))
            for key in [*_order(tool, params), *params]
            if (value := params.pop(key, None)) not in (None, "", [])
        ],
    )


def _order(tool: Tool | None, params: dict[str, Any]) -> list[str]:
    """The parameters as the tool names them, those it does not name left out."""
    return [] if tool is None else [one.name for one in tool.parameters if one.name in params]


def fields_of(proposal: Proposal, reader: Reader) -> list[FieldShown]:
    """The form that changes it: one field per parameter, with what is there."""
    tool = catalogue().get(proposal.tool)
    if tool is None or proposal.params is None:
        return []
    found: list[FieldShown] = []
    for one in tool.parameters:
        value = proposal.effective.get(one.name)
        kind = (
            "long"
            if one.name in LONG
            else {"number": "number", "integer": "number"}.get(
                one.type, "json" if one.type in ("array", "object") else "text"
            )
        )
        options = ("true", "false") if one.type == "boolean" else one.enum
        text = "" if value is None else value if isinstance(value, str) else _json(value)
        found.append(
            FieldShown(
                FIELD + one.name,
                label_of(one.name, reader),
                "choice" if options else kind,
                text,
                options,
                required=one.required,
            )
        )
    return found


def params_from(tool: Tool, form: dict[str, str]) -> dict[str, Any]:
    """The parameters that a form of `fields_of` says; raises BadRequest, naming one."""
    found: dict[str, Any] = {}
    for one in tool.parameters:
        text = form.get(FIELD + one.name, "").replace("\r\n", "\n")
        if not text.strip():
            continue
        if one.type in ("number", "integer", "boolean", "array", "object"):
            try:
                found[one.name] = msgspec.json.decode(text)
            except msgspec.DecodeError:
                raise BadRequest(one.name, f"must be a {one.type}") from None
        else:
            found[one.name] = text
    return found


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _value(value: object, reader: Reader) -> str:
    """A parameter's value as people read it; dates in their words."""
    _ = translations_of(reader.language).gettext
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, int | float):
        return words.number(value, reader)
    if not isinstance(value, str):
        return _json(value)
    if not re.match(r"\d{4}-\d\d-\d\d", value):
        return value
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    at = at if at.tzinfo else at.replace(tzinfo=reader.zone)
    return words.day(at, reader) if len(value) == len("2026-12-01") else words.moment(at, reader)
