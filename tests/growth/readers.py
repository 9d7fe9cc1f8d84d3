"""The functions that read texts of owners, models, tools and providers, each with its worst.

A text stands where a stranger's would. `fitting` is one text that a function takes, in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mana_actors.agent.inputs.record_texts import cut, record_text
from mana_actors.agent.planner.compaction import CompactSummary, render_summary, told_summary
from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest, ToolCall
from mana_actors.agent.planner.fences import fence, is_ciphertext, without_tags
from mana_actors.agent.planner.names import meant_name
from mana_actors.agent.planner.rationale import bounded
from mana_actors.agent.planner.spoken.text import read_spoken
from mana_actors.agent.tools.module_names import modules_named
from mana_actors.agent.tools.seen_ids import SeenIds
from mana_actors.json_values import canonical_json, texts_in
from mana_actors.llm.completions import read_answer
from mana_actors.llm.failures.bodies import told_in
from mana_actors.llm.failures.leniency import decoded_value
from mana_actors.llm.failures.wordings import reading_of
from mana_actors.llm.rehearsal.planner import complete
from mana_actors.llm.router.wire.events import MAX_EVENT_BYTES, ChunkReader
from state.errors import StateError
from state.grants.grant import grant_status
from state.log.healing import needs_healing
from state.log.iterations import append_iteration, merge_iterations
from state.log.merge import change_digest, read_change
from state.log.stamps import parse_instant
from state.rules.injection import injection_marker
from state.sealing import forgiving_base64
from state.sealing.key_pairs import KeyUnusable, issuer_public_key

_TEXT = ("<", " ", "\n", "a", "0", '"', "`", "{{", "}}", "</", "enc:1:", "\u200b", "#", ".", "&")
_JSON = ("[", "]", "{", '{"a":', '"', '""', "\\", ",", "0", "1e", "-", " ", "null", '\\ud800"')
_PROMPT = ('<data id="', '1" source="', 'a/b" boundary="', 'xyz">\n', "body", '\n</data boundary="')
_STREAM = ("data: ", '{"choices":[]}', "\n", "\n", "\r", ":", "event: x", "[DONE]", " ", "x")
_SPOKEN = (
    *("<think>", "</think>", "`", "```json\n", "\n", " ", "<tool_call>", "</tool_call>", "{", "["),
    *(
        '"',
        "<|channel|>",
        "<|message|>",
        "to=create_task",
        "[TOOL_CALLS]",
        "<function=create_task>",
    ),
    *("</function>", "create_task", "~~~"),
)
_ITERATION = ('{"id":"', "a", '","startedAt":"2026-01-01T00:00:00Z","source":"server"}', ",")


def _failed(text: str) -> object:
    return reading_of(told_in(text.encode()), 400)


def _changed(text: str) -> object:
    return read_change("0" * 32, 0, "update", text, text)


def _fenced(text: str) -> str:
    return fence(text, number=1, source=text, boundary="b")


def _decoded(text: str) -> object:
    return texts_in(decoded_value(text.encode()))


def _named(text: str) -> str:
    return meant_name(text, frozenset({"create_task"}))


def _summarised(text: str) -> str:
    return render_summary(CompactSummary(goal=text))


def _said(text: str) -> object:
    return read_spoken(text, {"create_task": {}})


def _shortened(text: str) -> str:
    return cut(text, 200)


class Reader(NamedTuple):
    """What is tried, its atoms, and one text that it takes."""

    read: Callable[[str], object]
    atoms: Sequence[str] = _TEXT
    fitting: Sequence[str] = ()


def _was_seen(text: str) -> bool:
    """An id of the text's own characters, looked for in the whole."""
    return SeenIds(texts=[text]).was_seen(text[:511])


def _streamed(text: str) -> None:
    """As it comes: in pieces of a packet, each cut anywhere."""
    reader, raw = ChunkReader("p"), text.encode()
    with suppress(Exception):  # what is no stream is refused
        for start in range(0, min(len(raw), MAX_EVENT_BYTES), 1000):
            reader.feed(raw[start : start + 1000])
        reader.end()


def _answered(text: str) -> None:
    message = {"role": "assistant", "content": text, "refusal": text}
    call = {"id": text, "function": {"name": text, "arguments": text}}
    for said in ({**message}, {**message, "tool_calls": [call]}):
        body = canonical_json({"choices": [{"message": said, "finish_reason": "stop"}]}).encode()
        with suppress(Exception):
            read_answer(body, resolved="p/m", asked_model="p/m", provider="p")


def _sent(text: str) -> bytes:
    call = ToolCall(text, text, {"a": text})
    said = ChatMessage("assistant", text, (call, call))
    return ModelRequest("m", (said, ChatMessage("tool", text, (), text))).raw


def _rehearsed(text: str) -> None:
    """As the owner's turn, and as what a tool said."""
    user = {"role": "user", "content": f"# Mission: {text}\n\n## Objective\n{text}\n{text}"}
    tool: dict[str, Any] = {"function": {"name": "create_task", "parameters": {"properties": {}}}}
    call = {"function": {"name": "create_task", "arguments": text[:1000]}}
    told = canonical_json({"success": False, "message": text})
    turns: list[Any] = [user, {"role": "assistant", "tool_calls": [call]}, {"content": told}]
    complete({"messages": [user], "tools": [tool]})
    complete({"messages": turns, "tools": [tool]})


def _recorded(text: str) -> None:
    for module in ("notes", "todo", "calendar", "goals", "profile"):
        record_text(module, {"title": text, "content": text, "about": [text], "status": text})


def _iterated(text: str) -> None:
    """Iterations as clients write them: as many as the text holds."""
    value = decoded_value(f"[{text.rstrip(chr(0) + '!,')}]".encode())
    with suppress(AttributeError, TypeError):
        merge_iterations([value, value])
        append_iteration(value, {"id": "new"})
        needs_healing(value, [value], value)


def _key(text: str) -> None:
    with suppress(KeyUnusable):
        issuer_public_key(text)


def _granted(text: str) -> None:
    with suppress(StateError):
        grant_status(text, "m", 0)


READERS: dict[str, Reader] = {
    "answer of a model": Reader(_answered),
    "base64": Reader(forgiving_base64.decoded, ("A", " ", "=", "\n", "-")),
    "body of a failure": Reader(_failed, _JSON),
    "change of a record": Reader(_changed, _JSON, ('{"a":', "0", "}")),
    "change's id": Reader(change_digest, ("a", "-", "0", " ")),
    "fence": Reader(_fenced, (*_TEXT, "<data", "b")),
    "grant": Reader(_granted, _JSON),
    "instant": Reader(parse_instant, ("2026-04-15", "T", "0", ":", ".")),
    "is_ciphertext": Reader(is_ciphertext),
    "injection_marker": Reader(
        injection_marker,
        ("<", " ", "system", "```", "`", "{{", "}}", "\n", "ignore ", "all ", "you are now ", "a"),
    ),
    "iterations of a mission": Reader(_iterated, (*_ITERATION, "{}", "[]"), _ITERATION),
    "JSON of a service": Reader(_decoded, _JSON),
    "key in PEM": Reader(_key, ("A", " ", "=", "-----BEGIN PUBLIC KEY-----", "-")),
    "modules by words": Reader(modules_named, ("a", "woche", "-", " ", "\u00df", "\ufdfa")),
    "name of a tool": Reader(_named, (".", ":", "0", " ", "<|", "`")),
    "record": Reader(_recorded),
    "rehearsal": Reader(
        _rehearsed, (*_PROMPT, "0", " ", "/", ".", "no ", "w", "https://", "\n", "## "), _PROMPT
    ),
    "request to a model": Reader(_sent),
    "shortened": Reader(_shortened),
    "stream of a service": Reader(_streamed, _STREAM, _STREAM),
    "summary shown": Reader(_summarised),
    "summary told": Reader(told_summary, ("## ", "Goal", "\n", "#", "*", " ", "\r", "x")),
    "was_seen": Reader(_was_seen, ("a", " ", "-", "a ", "(", ".", "\\")),
    "what a model says": Reader(_said, _SPOKEN),
    "why a step": Reader(bounded),
    "without_tags": Reader(without_tags, (*_TEXT, "<data", "/", "system", "\uff1c", "\uff0f")),
}
