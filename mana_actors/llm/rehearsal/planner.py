"""The rehearsal model: a rule-based planner that needs no network, no key and no luck.

It answers a chat-completions request from what that request says and nothing else: the tools that
are offered, the mission, the fenced inputs, the feedback, and the results of its earlier calls. The
same request gives the same answer. Whatever it says is labelled "[rehearsal]".
"""

import hashlib
import math
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from mana_actors.json_values import (
    JsonObject,
    as_list,
    as_object,
    as_text,
    canonical_json,
    objects_in,
)
from mana_actors.llm.rehearsal.briefing import Briefing, ShownInput, read_briefing

MODEL = "mana/rehearsal"
LABEL = "[rehearsal]"
MOST_STEPS = 6
FEW_STEPS = 1

_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_GOAL = re.compile(r"(?<!\d)(\d++(?:[.,]\d++)?)\s*+/\s*+(\d+(?:[.,]\d+)?)")
_NUMBER = re.compile(r"\d{1,15}(?:[.,]\d{1,15})?")
_CHOICES = re.compile(r"\b(\w++) is not one of: (.+)")
_MISSING = re.compile(r"Missing parameter: (\w+)")

_FEWER = re.compile(r"\b(fewer|less|shorter|weniger|kürzer|knapper)\b", re.IGNORECASE)
_NO = re.compile(r"\b(?:no|without|keine?n?|ohne)\s+([\wäöüß]+)", re.IGNORECASE)
_GERMAN = re.compile(
    r"\b(der|die|das|und|für|nicht|mit|eine?n?|meine?n?|bitte|plane|woche|heute|aufgaben?)\b",
    re.IGNORECASE,
)

# Words that call for a tool, by tool; stems, so that they fit German and English endings.
_WORDS: dict[str, tuple[str, ...]] = {
    "create_note": ("note", "notiz", "zusammenfass", "summar", "protokoll"),
    "create_event": ("calendar", "kalender", "termin", "appointment", "meeting", "treffen"),
    "create_journal_entry": ("journal", "tagebuch", "diary"),
    "create_habit": ("habit", "gewohnheit"),
    "create_goal": ("new goal", "neues ziel", "set a goal"),
    "create_contact": ("contact", "kontakt"),
    "create_quiz": ("quiz",),
    "create_draft": ("draft", "entwurf", "essay", "blog"),
    "create_library_entry": ("book", "buch", "movie", "film"),
    "save_article": ("article", "artikel", "news", "reading list", "leseliste"),
    "save_news_article": ("article", "artikel", "news"),
    "log_mood": ("mood", "stimmung"),
    "add_transaction": ("expense", "ausgabe", "income", "einnahme"),
    "create_task": (
        "task",
        "aufgabe",
        "todo",
        "to-do",
        "plan",
        "woche",
        "week",
        "erinner",
        "remind",
    ),
}


class Wish(msgspec.Struct, frozen=True):
    """A call the model would like to make: the tool, what about, and which input led to it."""

    tool: str
    subject: str
    source: str = ""
    url: str = ""


def complete(request: JsonObject) -> JsonObject:
    """The chat-completions answer to a chat-completions request (without `created`)."""
    message = _message(request)
    usage = _usage(request, message)
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    limit = request.get("max_tokens")
    if isinstance(limit, int) and usage["completion_tokens"] > limit:
        message = {"role": "assistant", "content": as_text(message["content"])[: limit * 4]}
        usage, finish = _usage(request, message, at_most=limit), "length"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    identity = hashlib.sha256(canonical_json(request).encode()).hexdigest()[:12]
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }


def _message(request: JsonObject) -> JsonObject:
    """What it says next: calls at first, repairs where some failed, then a summary."""
    messages = objects_in(request.get("messages"))
    specs = (as_object(tool.get("function")) for tool in objects_in(request.get("tools")))
    tools = {as_text(spec.get("name")): spec for spec in specs if spec is not None}
    briefing = read_briefing(messages)
    if briefing.is_compaction:
        called = sorted(set(re.findall(r"^-> (\w+)", briefing.text, re.MULTILINE)))
        tool_lines = "\n".join(f"- {tool}" for tool in called)
        return _say(
            f"## Goal\n{briefing.title or LABEL}\n\n## Decisions\n\n"
            f"## Tools Called\n{tool_lines}\n\n## Current Progress\n{LABEL}"
        )
    turns = list(_turns_since_user(messages))
    if turns:
        repairs = list(_repairs(turns[0], tools, briefing)) if len(turns) == 1 else []
        return _call(repairs) if repairs else _say(_summary(briefing, turns))
    calls: dict[str, JsonObject] = {}
    for wish in wishes(briefing):
        spec = tools.get(wish.tool)
        arguments = _arguments(spec, wish, briefing) if spec else None
        if arguments is not None:
            call = _tool_call(wish.tool, arguments)
            calls.setdefault(call["id"], call)
    if calls:
        return _call(list(calls.values()))
    german = _is_german(briefing)
    if german:
        reason = "Nichts zu tun" if tools else "Keine Werkzeuge angeboten"
    else:
        reason = "Nothing to do with the tools offered" if tools else "No tools offered"
    return _say(f"{_read(briefing, german=german)} {reason}: {briefing.title}")


# --- from the mission to wishes ---------------------------------------------------------------


def wishes(briefing: Briefing) -> list[Wish]:
    """What mission, inputs and feedback call for, best first, whatever tools are offered."""
    found = [wish for source in briefing.sources for wish in _wishes_of(source, briefing)]
    served = {wish.tool for wish in found}
    text = f"{briefing.title} {briefing.objective} {briefing.concept}".lower()
    for tool, words in _WORDS.items():
        if tool not in served and any(word in text for word in words):
            found.append(Wish(tool, briefing.title or briefing.objective))
    unwanted = tuple(word.lower()[:4] for word in _NO.findall(briefing.feedback))
    wanted = [
        wish
        for wish in found
        if not any(
            own.startswith(unwanted) for own in (*_WORDS.get(wish.tool, ()), *wish.tool.split("_"))
        )
    ]
    return wanted[: FEW_STEPS if _FEWER.search(briefing.feedback) else MOST_STEPS]


def _wishes_of(source: ShownInput, briefing: Briefing) -> Iterator[Wish]:
    """What one input calls for."""
    title = source.title
    match source.module:
        case "goals" if progress := _GOAL.search(source.content):
            done, target = (float(number.replace(",", ".")) for number in progress.groups())
            if done < target:  # a task for what is left; a reached goal needs none
                left = _phrase(briefing, "left", f"{target - done:g}")
                yield Wish("create_task", f"{title}: {left}", title)
        case "news-research":
            for url in list(dict.fromkeys(_URL.findall(source.content)))[:2]:
                yield Wish("save_article", title, title, url)
        case "notes" | "journal" | "kontext" | "profile":
            yield Wish("create_note", _phrase(briefing, "about", title), title)
        case _:
            yield Wish("create_task", _phrase(briefing, "next", title), title)


_PHRASES = {
    "about": ("Über: {}", "About: {}"),
    "next": ("Nächster Schritt: {}", "Next step: {}"),
    "left": ("noch {}", "{} to go"),
    "why": ("Folgt aus: {}", "Follows from: {}"),
}


def _phrase(briefing: Briefing, kind: str, value: str) -> str:
    german, english = _PHRASES[kind]
    return (german if _is_german(briefing) else english).format(value)


def _is_german(briefing: Briefing) -> bool:
    return _GERMAN.search(f"{briefing.title} {briefing.objective}") is not None


# --- from wishes to calls ---------------------------------------------------------------------


def _arguments(spec: JsonObject, wish: Wish, briefing: Briefing) -> JsonObject | None:
    """Arguments for a wish that fill every required parameter, or None if one cannot be known."""
    schema = as_object(spec.get("parameters")) or {}
    properties = as_object(schema.get("properties")) or {}
    required = [as_text(name) for name in as_list(schema.get("required"))]
    arguments: JsonObject = {}
    for name, kind in properties.items():
        value = _value(name, as_object(kind) or {}, wish, briefing, is_required=name in required)
        if value is not None:
            arguments[name] = value
        elif name in required:
            return None
    return arguments


def _value(
    name: str, kind: JsonObject, wish: Wish, briefing: Briefing, *, is_required: bool
) -> Any:
    """A value for one parameter, None where it is not needed or cannot be known."""
    choices = [as_text(choice) for choice in as_list(kind.get("enum"))]
    if choices:
        named = [choice for choice in choices if choice in wish.subject.lower()]
        return (named or choices)[0] if is_required or named else None
    known = _known_values(wish, briefing).get(name)
    if known is not None or not is_required:
        return known
    if kind.get("type") in ("number", "integer"):
        number = _NUMBER.search(briefing.objective)
        return int(float(number.group().replace(",", "."))) if number else 1
    if kind.get("type") == "boolean":
        return False
    is_id = name.endswith(("Id", "_id"))
    return wish.subject[:200] if kind.get("type") == "string" and not is_id else None


def _known_values(wish: Wish, briefing: Briefing) -> dict[str, Any]:
    """What it can say for parameters of these names."""
    about = wish.subject if wish.source else briefing.objective or wish.subject
    values: dict[str, Any] = {
        "title": wish.subject[:120],
        "content": "\n".join([about, *(f"- {source.title}" for source in briefing.sources)]),
        "rationale": _phrase(briefing, "why", wish.source or briefing.title or wish.subject),
        "icon": "⭐",
        "color": "#3366CC",
        "slug": re.sub(r"[^a-z0-9]+", "-", wish.subject.lower()).strip("-")[:40] or "page",
        "htmlContent": f"<p>{wish.subject}</p>",
    }
    if wish.url:
        values["url"] = wish.url
    try:
        now = datetime.fromisoformat(briefing.now)
    except ValueError:  # the prompt gives no time
        return values
    tomorrow = (now + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
    values["dueDate"] = tomorrow.date().isoformat()
    values["startTime"] = tomorrow.isoformat()
    values["endTime"] = (tomorrow + timedelta(hours=1)).isoformat()
    return values


def _tool_call(name: str, arguments: JsonObject) -> JsonObject:
    text = canonical_json(arguments)
    identity = hashlib.sha256(f"{name} {text}".encode()).hexdigest()[:12]
    function = {"name": name, "arguments": text}
    return {"id": f"call_{identity}", "type": "function", "function": function}


# --- from results to the next turn ------------------------------------------------------------


class Turn(msgspec.Struct, frozen=True):
    """One assistant turn with its calls, and for each of them what came back."""

    calls: tuple[JsonObject, ...]
    results: tuple[JsonObject, ...]


def _turns_since_user(messages: Sequence[JsonObject]) -> Iterator[Turn]:
    last_user = max(
        (place for place, each in enumerate(messages) if each.get("role") == "user"), default=-1
    )
    since = list(messages[last_user + 1 :])
    for place, message in enumerate(since):
        calls = objects_in(message.get("tool_calls"))
        if message.get("role") == "assistant" and calls:
            answers = since[place + 1 : place + 1 + len(calls)]
            results = tuple(_decoded(answer.get("content")) for answer in answers)
            yield Turn(tuple(calls), results)


def _repairs(turn: Turn, tools: dict[str, JsonObject], briefing: Briefing) -> Iterator[JsonObject]:
    """Failed calls of the first turn again, mended as their messages ask; each at most once."""
    for call, result in zip(turn.calls, turn.results, strict=False):
        name, arguments = _named(call)
        if name not in tools or result.get("success") is not False:
            continue
        complaint = as_text(result.get("message"))
        if choices := _CHOICES.search(complaint):
            yield _tool_call(name, {**arguments, choices[1]: choices[2].split(", ")[0]})
        elif missing := _MISSING.search(complaint):
            wish = Wish(name, briefing.objective or briefing.title)
            filled = _arguments(tools[name], wish, briefing) or {missing[1]: wish.subject[:120]}
            yield _tool_call(name, {**filled, **arguments})


def _named(call: JsonObject) -> tuple[str, JsonObject]:
    function = as_object(call.get("function")) or {}
    return as_text(function.get("name")), _decoded(function.get("arguments"))


def _decoded(text: object) -> JsonObject:
    try:
        return as_object(msgspec.json.decode(as_text(text))) or {}
    except (msgspec.DecodeError, RecursionError):
        return {}


# --- what it says -----------------------------------------------------------------------------


def _summary(briefing: Briefing, turns: Sequence[Turn]) -> str:
    recorded: list[str] = []
    refused: list[str] = []
    for turn in turns:
        for call, result in zip(turn.calls, turn.results, strict=False):
            name, arguments = _named(call)
            if result.get("success") is not True:
                refused.append(name)
                continue
            subject = as_text(arguments.get("title")) or as_text(arguments.get("content"))
            recorded.append(f"{name} „{subject[:80]}“" if subject else name)
    german = _is_german(briefing)
    parts = [_read(briefing, german=german)]
    if recorded:
        head = "Vorgeschlagen" if german else "Proposed"
        parts.append(f"{head} ({len(recorded)}): {'; '.join(recorded)}.")
    if refused:
        head = "Nicht möglich" if german else "Not possible"
        parts.append(f"{head}: {', '.join(dict.fromkeys(refused))}.")
    return " ".join(parts)


def _read(briefing: Briefing, *, german: bool) -> str:
    titles = ", ".join(source.title for source in briefing.sources)
    if german:
        return f"{LABEL} Gelesen: {titles or 'keine Eingaben'}."
    return f"{LABEL} Read: {titles or 'no inputs'}."


def _say(text: str) -> JsonObject:
    return {"role": "assistant", "content": text, "tool_calls": None}


def _call(calls: list[JsonObject]) -> JsonObject:
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _usage(request: JsonObject, message: JsonObject, at_most: int = sys.maxsize) -> dict[str, int]:
    """Tokens as a quarter of the bytes, rounded up; an answer counts `at_most` so many."""
    prompt, completion = (
        math.ceil(len(canonical_json(part).encode()) / 4) for part in (request, message)
    )
    completion = min(completion, at_most)
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
