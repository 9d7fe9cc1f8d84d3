"""What templates say things by: the words of a page's reader, and markup around them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from mana_actors.http.paths import segment
from state.runs.reasons import in_words, reasons_of
from supervisor.gateway.pages import words
from supervisor.gateway.pages.owner.parts.field_words import problem_said
from supervisor.gateway.pages.owner.parts.refusal_words import refusal_said
from supervisor.gateway.pages.owner.parts.template_words import role_said
from supervisor.gateway.pages.owner.parts.tool_words import tools_said, verb_of
from supervisor.gateway.pages.reader import Reader

T = TypeVar("T")


def _by_reader(say: Callable[[T, Reader], str]) -> Callable[[Context, T], str]:
    """A filter that says a value in the words of whoever reads the page."""

    @pass_context
    def said(context: Context, value: T) -> str:
        return say(value, _reader(context))

    return said


@pass_context
def _at(context: Context, value: datetime | str | None, how: str = "moment") -> Markup:
    """A time as an element that carries the whole of it; `how` says what of it."""
    reader, at = _reader(context), words.instant(value)
    if at is None:
        return Markup("—")
    ways = {
        "moment": words.moment,
        "ago": words.distance,
        "clock": words.clock,
        "day": words.day,
        "date": words.date_said,
    }
    # By %, which escapes as format does at a twentieth of its time: a page has hundreds of these.
    shown = at.isoformat(timespec="seconds"), words.whole(at, reader), ways[how](at, reader)
    return Markup('<time datetime="%s" title="%s">%s</time>') % shown


@pass_context
def _state(context: Context, word: str | None) -> Markup:
    """A state by shape, word and colour; the word that rows and programs have is its title."""
    mark, tone = words.shape(word)
    shown = tone, word or "", mark, words.said(word, _reader(context))
    return Markup('<span class="state %s" title="%s"><i aria-hidden="true">%s</i>%s</span>') % shown


@pass_context
def _why(context: Context, reason: str | None) -> Markup:
    """What happened, and under it what happens next and what can be done."""
    told = reasons_of(reason, _reader(context).language)
    # By itself in a line, as a sentence begins; a name such as `undo_drink` stays what it is.
    first = told[0].what if told else ""
    began = first if "_" in first.partition(" ")[0] else first[:1].upper() + first[1:]
    what = Markup("; ").join(_commands(each) for each in [began, *(one.what for one in told[1:])])
    rest = dict.fromkeys(part for each in told for part in (each.then, each.can) if part)
    if not rest:
        return what
    return what + Markup('<br><span class="soft">%s</span>') % _commands(" ".join(rest))


def _sentence(reason: str | None, reader: Reader) -> Markup:
    return _commands(in_words(reason, reader.language))


def _commands(text: str) -> Markup:
    """A text in which what stands between two backticks is a command."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them closes nothing
        return escape(text)
    said = (Markup("<code>%s</code>") % part if n % 2 else part for n, part in enumerate(parts))
    return Markup().join(said)


def _problem(problem: str, reader: Reader) -> str:
    return problem_said(problem, reader.language)


def _refusal(why: str, reader: Reader) -> str:
    return refusal_said(why, reader.language)


def _id(text: str) -> Markup:
    """An id, with the whole of it as its title."""
    return Markup('<span class="id" title="%s">%s</span>') % (text, words.short_id(text))


def _reader(context: Context) -> Reader:
    return cast("Reader", context["reader"])


FILTERS: dict[str, Callable[..., Any]] = {
    "at": _at,
    "cadence": _by_reader(words.cadence_said),
    "commands": _commands,
    "compact": _by_reader(words.compact),
    "id": _id,
    "instant": words.instant,
    "lag": _by_reader(words.lag_said),
    "lasted": _by_reader(words.lasted),
    "money": _by_reader(words.money),
    "number": _by_reader(words.number),
    "part": segment,
    "problem": _by_reader(_problem),
    "refusal": _by_reader(_refusal),
    "role": _by_reader(role_said),
    "sentence": _by_reader(_sentence),
    "state": _state,
    "tools": _by_reader(tools_said),
    "verb": _by_reader(verb_of),
    "why": _why,
    "word": _by_reader(words.said),
}
