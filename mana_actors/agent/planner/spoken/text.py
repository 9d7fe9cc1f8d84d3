"""Telling what a model says from how it thinks and how its template marks that. Pure.

Marks count where templates put them: at a line's edge, or glued to what they end. Amid prose and in
code they are what somebody wrote, and stay. Every pass is linear in the length of the text.
"""

import re
from bisect import bisect_left
from collections import defaultdict

import msgspec

from mana_actors.agent.planner.exchange import ToolCall
from mana_actors.agent.planner.spoken.written_calls import (
    Offered,
    calls_in,
    calls_in_block,
    harmony_call,
    json_at,
    looks_like_calls,
    mistral_calls,
    numbered,
)

_THOUGHT = r"think|thinking|thoughts?|reasoning|reflection|scratch_?pad|antthinking"
_BARRED_THOUGHT = r"begin_of_thought|start_thinking|think|thinking"
_BARRED_THOUGHT_END = r"end_of_thought|end_thinking|/think|/thinking"
_BLOCK = r"tool_calls?|function_calls?|toolcall|tools"
_MARK = re.compile(
    rf"(?P<fence>^[ ]{{0,3}}(?:`{{3,}}|~{{3,}}))"
    rf"|(?P<tick>`+)"
    rf"|(?P<thought><(?:[a-z]{{1,20}}:)?(?:{_THOUGHT})(?:\s[^<>]{{0,100}})?>|\[THINK\]|◁think▷"
    rf"|<\|(?:{_BARRED_THOUGHT})\|>)"
    rf"|(?P<thought_end></(?:[a-z]{{1,20}}:)?(?:{_THOUGHT})\s?>|\[/THINK\]|◁/think▷"
    rf"|<\|(?:{_BARRED_THOUGHT_END})\|>)"
    r"|(?P<harmony>(?:<\|start\|>[^<>|]{0,200})?<\|channel\|>(?P<header>[^<>|]{0,300}"
    r"(?:<\|constrain\|>[^<>|]{0,100})?)<\|message\|>)"
    rf"|(?P<block><(?:[a-z]{{1,20}}:|\uff5cDSML\uff5c)?(?:{_BLOCK})>|<\|tool_calls?\|>"
    r"|<\|tool_calls_section_begin\|>|<\uff5ctool▁calls▁begin\uff5c>)"
    rf"|(?P<block_end></(?:[a-z]{{1,20}}:|\uff5cDSML\uff5c)?(?:{_BLOCK})>|<\|/tool_calls?\|>"
    r"|<\|tool_calls_section_end\|>|<\uff5ctool▁calls▁end\uff5c>)"
    r"|(?P<function><function=[^<>]{1,200}>)"
    r"|(?P<mistral>\[TOOL_CALLS\])"
    r"|(?P<python><\|python_tag\|>)"
    r"|(?P<token><\|[a-z_]{2,40}\|>|<\uff5c[^<>\uff5c]{2,40}\uff5c>|</?s>|<(?:start|end)_of_turn>)",
    re.IGNORECASE | re.MULTILINE,
)
_FUNCTION_END = re.compile(r"</function>(?!\s*<function=)")
_HARMONY_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_SWALLOWED_HARMONY = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z\s])")
_FINAL = "assistantfinal"
_QUOTED_BEFORE = frozenset("\"'`(„“”»«\u201a\u2018\u2019[{<=/\\")
_EMPTY_LINE = re.compile(r"[ \t]*(?:\r?\n[ \t]*(?:\r?\n|\Z)|\Z)")
_CODE_OF_CALLS = frozenset({"", "json", "tool_call", "tool_calls", "tool_code"})


class Spoken(msgspec.Struct, frozen=True):
    """What a text says to a person, the calls it holds, and how many were no calls at all."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    unread: int = 0


def read_spoken(text: str, offered: Offered | None = None) -> Spoken:
    """`text` without thinking and protocol; calls are read where they name an `offered` tool.

    A text that has none of that comes back as it is.
    """
    return _Reading(text, {} if offered is None else offered).read()


class _Reading:
    """One pass over a text."""

    def __init__(self, text: str, offered: Offered) -> None:
        self._text, self._offered = text, offered
        self._said: list[str] = []
        self._calls: list[ToolCall] = []
        self._unread = 0
        self._last = len(text.rstrip())
        self._at = 0  # up to where it is read
        self._block_end = 0  # of the last thing taken out: what follows on its line is at its edge
        self._has_thought = self._is_harmony = False
        self._literal: set[int] = set()  # openings that are somebody's words
        self._ticks: defaultdict[int, list[int]] = defaultdict(list)
        self._closing: dict[int, int] = {}  # where thoughts close, by where they open
        self._opening: dict[int, int] = {}  # and the other way round
        self._thought_ends: list[int] = []
        self._block_ends: list[int] = []
        opened: list[int] = []
        for mark in _MARK.finditer(text):
            match mark.lastgroup:
                case "tick":
                    self._ticks[len(mark[0])].append(mark.start())
                case "thought":
                    opened.append(mark.start())
                case "thought_end":
                    self._thought_ends.append(mark.start())
                    if opened:
                        at = opened.pop()
                        self._closing[at], self._opening[mark.start()] = mark.start(), at
                case "block_end":
                    self._block_ends.append(mark.start())
                case _:
                    pass

    def read(self) -> Spoken:
        text = self._text
        whole = json_at(text, 0) if text.lstrip()[:1] in ("{", "[") else None
        if whole is not None and not text[whole[1] :].strip() and looks_like_calls(whole[0]):
            calls = calls_in(whole[0], self._offered)
            return Spoken("", tuple(numbered(calls or [])), int(calls is None))
        swallowed = text.find(_FINAL) if _SWALLOWED_HARMONY.match(text) else -1
        if swallowed >= 0:
            self._take_out(swallowed + len(_FINAL))
        while mark := _MARK.search(text, self._at):
            self._said.append(text[self._at : mark.start()])
            self._at = mark.start()
            kind = mark.lastgroup or ""
            if kind in ("fence", "tick"):
                self._code(mark, kind)
            elif kind == "thought_end":
                self._thought_ended(mark)
            elif not self._is_mark(mark):
                self._keep(mark)
            elif kind == "thought":
                # Thinking goes; where it does not end, all that follows was thinking.
                own = self._closing.get(mark.start())
                ends, at = (self._thought_ends, mark.end()) if own is None else ([own], own)
                self._has_thought = True
                self._take_out(_next_mark(text, ends, at)[1])
            elif kind == "harmony":
                self._harmony(mark)
            elif kind in ("block", "function"):
                self._block(mark, kind)
            elif kind in ("mistral", "python"):
                # Calls up to the end of the text, or of what can be read as calls.
                found = mistral_calls(text, mark.end(), self._offered)
                self._called(None if found is None else found[0])
                self._take_out(len(text) if found is None else found[1])
            else:  # a token that says nothing
                self._take_out(mark.end())
        self._said.append(text[self._at :])
        said = "".join(self._said)
        if self._block_end:
            said = re.sub(r"\n{3,}", "\n\n", said).strip()
        return Spoken(said, tuple(numbered(self._calls)), self._unread)

    def _is_mark(self, mark: re.Match[str]) -> bool:
        """Whether what stands here is a template's: at an edge of its line, or glued."""
        text, before, after = self._text, mark.start(), mark.end()
        while before > self._block_end and text[before - 1] in " \t":
            before -= 1
        if before in (0, self._block_end) or text[before - 1] in "\r\n":
            return True
        if text[mark.start() - 1] in _QUOTED_BEFORE:
            return False
        if not text[mark.start() - 1].isspace():
            return True
        match mark.lastgroup:  # the end of a sentence, or of what was thought?
            case "thought":
                is_paired = mark.start() in self._closing
                return is_paired and text[after : after + 2].lstrip(" \t")[:1] in ("\r", "\n")
            case "thought_end":
                return _EMPTY_LINE.match(text, after) is not None
            case _:
                while after < len(text) and text[after] in " \t":
                    after += 1
                return after == len(text) or text[after] in "\r\n"

    def _keep(self, mark: re.Match[str], until: int | None = None) -> None:
        end = mark.end() if until is None else until
        self._literal.add(mark.start())
        self._said.append(self._text[self._at : end])
        self._at = end

    def _take_out(self, until: int) -> None:
        self._at = self._block_end = until

    def _forget(self) -> None:
        """All that was read so far was thinking."""
        self._said.clear()
        self._calls.clear()

    def _code(self, mark: re.Match[str], kind: str) -> None:
        """Code stays as it is, but for a call that is fenced as if it were code."""
        text, size = self._text, len(mark[0].strip())
        if kind == "tick":
            starts = self._ticks[size]
            place = bisect_left(starts, mark.end())
            line_end = text.find("\n", mark.end())
            closed = place < len(starts) and (line_end < 0 or starts[place] < line_end)
            self._keep(mark, starts[place] + size if closed else None)
            return
        fence = mark[0].strip()
        info_end = text.find("\n", mark.end())
        closing = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{size},}}[ \t]*\r?$", re.MULTILINE)
        close = closing.search(text, info_end) if info_end >= 0 else None
        if close is None:
            self._keep(mark, len(text))
            return
        info, body = text[mark.end() : info_end].strip().lower(), text[info_end : close.start()]
        read = json_at(body, 0) if info in _CODE_OF_CALLS else None
        value: object = None if read is None or body[read[1] :].strip() else read[0]
        if looks_like_calls(value):
            self._called(calls_in(value, self._offered))
            self._take_out(close.end())
        else:
            self._keep(mark, close.end())

    def _thought_ended(self, mark: re.Match[str]) -> None:
        """An end without a beginning, which the template swallowed: all before was thinking."""
        is_literal = self._opening.get(mark.start()) in self._literal
        if is_literal or not self._is_mark(mark):
            self._keep(mark)
            return
        if not self._has_thought or mark.end() < self._last:
            self._forget()
        self._has_thought = True
        self._take_out(mark.end())

    def _harmony(self, mark: re.Match[str]) -> None:
        """One message of a channel: thinking, a call, or what is said."""
        header = mark["header"]
        end = _HARMONY_END.search(self._text, mark.end())
        until = len(self._text) if end is None else end.start()
        body = self._text[mark.end() : until]
        channel = header.strip().lower()
        if not self._is_harmony and channel.startswith("final"):
            self._forget()  # its beginning was swallowed
        self._is_harmony = True
        if "to=" in header or (mark[0].startswith("<|start|>") and "to=" in mark[0]):
            self._called(harmony_call(mark[0], body, self._offered))
        elif not channel.startswith("analysis"):
            self._said.append(body)
        self._take_out(until)

    def _block(self, mark: re.Match[str], kind: str) -> None:
        """What a template puts around calls; at the end of a text it may lack its end."""
        text = self._text
        if kind == "function":
            end = _FUNCTION_END.search(text, mark.end())
            until = len(text) if end is None else end.end()
            self._called(calls_in_block(text[mark.start() : until], self._offered))
        else:
            read = json_at(text, mark.end())  # an argument may hold the mark of the end
            after = mark.end() if read is None else read[1]
            inside_end, until = _next_mark(text, self._block_ends, after)
            self._called(calls_in_block(text[mark.end() : inside_end], self._offered))
        self._take_out(until)

    def _called(self, calls: list[ToolCall] | None) -> None:
        if calls is None:
            self._unread += 1
        else:
            self._calls += calls


def _next_mark(text: str, starts: list[int], at: int) -> tuple[int, int]:
    """Where the first of the marks that begin at `starts` begins and ends; else the text's end."""
    place = bisect_left(starts, at)
    mark = _MARK.match(text, starts[place]) if place < len(starts) else None
    return (len(text), len(text)) if mark is None else mark.span()
