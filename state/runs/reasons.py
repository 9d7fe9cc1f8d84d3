"""Why something did not run, or is not whole, in words for its owner or an operator. Pure.

A row keeps what happened, in English, and that is enough to find the rest of it: the code for
programs, what happens next, what can be done, and all of it in German. Words of an owner or of a
model are in no reason.
"""

import re
from functools import cache
from typing import Literal, get_args

import msgspec

from state.runs.reason_words import GERMAN, LABELS, NEXT, WORDS, ReasonCode

Language = Literal["en", "de"]

AND = "; "
"""Between reasons, where a row has several."""

_AMOUNT = r"[\d.]+ (?:tokens|in money)"
_PATTERNS = {
    **dict.fromkeys(("running", "places", "used", "most", "count", "size"), r"-?\d+"),
    **dict.fromkeys(("need", "most_amount", "left"), _AMOUNT),
    **dict.fromkeys(("scope", "unit"), r"[a-z-]+"),
    **dict.fromkeys(("tool", "field"), r"[\w.:-]+"),
    **dict.fromkeys(("state", "trouble", "advice"), r".{1,200}"),
}
_WORD = re.compile(r"[a-z]+")
_FIELD = re.compile(r"\{(\w+)\}")


class Reason(msgspec.Struct, frozen=True):
    """What happened, what happens next, what can be done; `code` is for programs, "" if unknown."""

    code: str
    what: str
    then: str = ""
    can: str = ""

    @property
    def text(self) -> str:
        """All of it, in sentences."""
        is_name = "_" in self.what.partition(" ")[0]
        what = self.what if is_name else self.what[:1].upper() + self.what[1:]
        parts = [what if what.endswith((".", "!", "?")) else f"{what}.", self.then, self.can]
        return " ".join(filter(None, parts))


def told(code: ReasonCode, **values: object) -> str:
    """What happened, as rows keep it."""
    return WORDS[code][0].format(**values)


def reasons_of(text: str | None, language: Language = "en") -> list[Reason]:
    """What a row keeps, in words; what is none of our reasons comes back as it is."""
    return [_reason(each, language) for each in (text or "").split(AND) if each]


def in_words(text: str | None, language: Language = "en") -> str:
    """What happened, in sentences with what happens next and what can be done.

    What several reasons share is said once, at the end.
    """
    found = reasons_of(text, language)
    happened = [msgspec.structs.replace(each, then="", can="").text for each in found]
    then = dict.fromkeys(each.then for each in found if each.then)
    can = dict.fromkeys(each.can for each in found if each.can)
    return " ".join((*happened, *then, *can))


def in_short(text: str | None, language: Language = "en") -> str:
    """What happened and no more."""
    return AND.join(each.what for each in reasons_of(text, language))


def written_as(words: str) -> str | None:
    """What a row would keep of a reason that was written in words, in either language.

    None where they are no reason's, or of one that is filled in.
    """
    return _written().get(words)


def codes_of(text: str | None) -> list[str]:
    """The codes of a row's reasons, for programs."""
    return [each.code for each in reasons_of(text) if each.code]


def label(word: str | None, language: Language = "en") -> str:
    """A decision or a run's state in two or three words; any other word as it is."""
    return LABELS[word][_place(language)] if word in LABELS else word or ""


def language_of(header: str | None, default: Language = "en") -> Language:
    """The first language of an Accept-Language header that there are words in."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate((header or "")[:500].split(",")):
        name, _, rest = part.strip().partition(";")
        weight = re.fullmatch(r"\s*q\s*=\s*(0(?:\.\d{1,3})?|1(?:\.0{1,3})?)\s*", rest)
        if not rest or weight:
            wanted.append((-float(weight[1]) if weight else -1.0, place, name.lower()))
    for weight, _, name in sorted(wanted):
        for known in get_args(Language):
            if weight < 0 and name.partition("-")[0] == known:
                return known
    return default


def _reason(text: str, language: Language) -> Reason:
    place = _place(language)
    for code, pattern in _compiled():
        found = pattern.fullmatch(text)
        if found:
            english, german, then, can = WORDS[code]
            values: dict[str, str] = found.groupdict()
            if language == "de":
                values = {name: _german(value) for name, value in values.items()}
            what = (english if language == "en" else german).format(**values)
            return Reason(code, what, NEXT[then][place], can[place])
    return Reason("", text)


def _german(value: str) -> str:
    words = value.replace(" in money", " (money)")
    return GERMAN.get(value) or _WORD.sub(lambda word: GERMAN.get(word[0], word[0]), words)


def _place(language: Language) -> int:
    return 0 if language == "en" else 1


@cache
def _written() -> dict[str, str]:
    return {
        in_words(entry[0], language): entry[0]
        for entry in WORDS.values()
        if not _FIELD.search(entry[0])
        for language in get_args(Language)
    }


@cache
def _compiled() -> list[tuple[ReasonCode, re.Pattern[str]]]:
    """Each reason as rows keep it; one that fits anything comes after those that say more."""
    patterns: list[tuple[ReasonCode, re.Pattern[str]]] = []
    for code, entry in WORDS.items():
        parts = _FIELD.split(entry[0])
        text = "".join(
            rf"(?P<{part}>{_PATTERNS[part]})" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )
        patterns.append((code, re.compile(text, re.DOTALL)))
    return sorted(patterns, key=lambda each: "state" in each[1].groupindex)
