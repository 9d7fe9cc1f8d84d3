"""Why an answer does not count or could not be carried out, in the reader's language. Pure.

Rows and programs have these reasons in English; one that is not known here is told as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

from state.runs.reasons import Language
from supervisor.gateway.pages.translations import translations_of

_NAME = re.compile(r"%\((\w+)\)s")
Texts = Callable[[Callable[[str], str]], list[str]]
"""All sentences of a kind, each as some translation says it."""
Patterns = list[tuple[int, re.Pattern[str]]]
"""A sentence's place, and what fits it."""


def refusal_said(why: str, language: Language) -> str:
    """A reason as its reader says it."""
    return translated(why, language, _compiled(), _all, _states(language)) or why


def translated(
    english: str,
    language: Language,
    patterns: Patterns,
    known: Texts,
    of_values: Mapping[str, str],
) -> str | None:
    """A sentence of rows or programs as its reader says it; None for one that is not known.

    `known` are the sentences, in one order, with names where values stand, and `patterns` what
    `patterns_of` makes of them; `of_values` says those values that are words themselves.
    """
    if language == "en":
        return english
    for place, pattern in patterns:
        if found := pattern.fullmatch(english):
            words = known(translations_of(language).gettext)[place]
            values = {name: of_values.get(text, text) for name, text in found.groupdict().items()}
            return words % values if values else words
    return None


@cache
def _compiled() -> Patterns:
    return patterns_of(_all)


def patterns_of(known: Texts) -> Patterns:
    """Each as rows have it, with its place; the one with the most words of its own first."""
    found: list[tuple[int, int, re.Pattern[str]]] = []
    for number, mine in enumerate(known(translations_of("en").gettext)):
        parts = _NAME.split(mine)
        text = "".join(
            f"(?P<{part}>.{{1,600}})" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )
        found.append((-len("".join(parts[::2])), number, re.compile(text, re.DOTALL)))
    return [(number, pattern) for _, number, pattern in sorted(found, key=_own_words)]


def _own_words(known: tuple[int, int, re.Pattern[str]]) -> int:
    return known[0]


def _states(language: Language) -> dict[str, str]:
    _ = translations_of(language).gettext
    return {
        "paused": _("paused"),
        "archived": _("archived"),
        "active": _("active"),
        "done": _("done"),
        "rejected": _("rejected"),
        "expired": _("expired"),
        "undone": _("taken back"),
        "pending": _("waits for you"),
        "waiting-for-device": _("waits for a device"),
        "refused": _("could not be done"),
    }


def _all(_: Callable[[str], str]) -> list[str]:
    """All of them, in one order."""
    return [
        _("a device of yours is carrying it out just now"),
        _("a device of yours carried it out itself"),
        _("another device is carrying it out"),
        _("this device has not claimed it"),
        _("it has expired"),
        _("it is sealed: only your own device can change it"),
        _("until is in the past"),
        _("until is more than a year ahead"),
        _("it expires before that"),
        _("there is no room for more words on this plan"),
        _("nothing was written here to take back"),
        _("a record it needs is gone"),
        _("its mission is deleted"),
        _("its agent is gone"),
        _("its mission belongs to another agent now"),
        _("its standing approval was revoked"),
        _("it says nothing that changes"),
        _("content says nothing"),
        _("tag says nothing"),
        _("no open task has such a title"),
        _("there is no calendar"),
        _("there is no drink to remove"),
        _("amount must be above 0: the type says which way the money went"),
        _("feedback is over %(count)s characters"),
        _("it is %(state)s already"),
        _("it is %(state)s"),
        _("its agent is %(state)s"),
        _("its agent may not use %(tool)s any more"),
        _("the tool %(tool)s is not known here"),
        _("there is no such record in %(table)s: %(record)s"),
        _("there are too many records in %(table)s to look through"),
        _("%(field)s must be from %(least)s to %(most)s"),
        _("%(record)s was deleted since"),
        _("%(record)s was changed since: %(field)s"),
        _("the mission is %(state)s"),
        _("the run is %(state)s"),
        _("the agent is %(state)s"),
        _("nobody has more than %(count)s agents"),
        _("only the owner of a mission runs it"),
        _("only the owner of a mission ends its runs"),
        _("the record is too large, or holds what cannot be kept"),
        _("the Idempotency-Key was used for another request"),
        _("the Idempotency-Key is too long, or has letters that do not print"),
    ]
