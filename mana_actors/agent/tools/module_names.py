"""Which modules a text is about, by words in German and English; no model is asked.

Data: `module_words.json`. A word stands for all that begin with it, `=word` for itself alone, and
`*word` for all that hold it, since German writes compounds as one.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import msgspec

MOST_CHARS = 8000
"""How much of a text is looked at: what a mission is about stands at its beginning."""
_LONGEST_WORD = 40


class _Words(msgspec.Struct, frozen=True):
    """Modules by word, and the lengths that those words have."""

    whole: dict[str, tuple[str, ...]]
    begins: dict[str, tuple[str, ...]]
    within: dict[str, tuple[str, ...]]


def modules_named(text: str) -> list[str]:
    """Modules that words of `text` stand for: those with most words first, then as in the data."""
    known = _words()
    hits = dict.fromkeys(module_words(), 0)
    for word in dict.fromkeys(words_of(text)):
        named = {module for found in _stems(known, word) for module in found}
        for module in named:
            hits[module] += 1
    return sorted((module for module in hits if hits[module]), key=lambda module: -hits[module])


def words_of(text: str) -> Iterator[str]:
    """The words of a text in one spelling: small letters, compounds without hyphens."""
    plain = unicodedata.normalize("NFKC", text[:MOST_CHARS]).casefold().replace("-", "")
    return (word[:_LONGEST_WORD] for word in re.findall(r"\w+", plain))


@cache
def module_words() -> dict[str, tuple[str, ...]]:
    """The words of each module, as the data has them."""
    raw = (files("mana_actors.agent.tools") / "module_words.json").read_bytes()
    return msgspec.json.decode(raw, type=dict[str, tuple[str, ...]])


@cache
def _words() -> _Words:
    words = _Words({}, {}, {})
    for module, listed in module_words().items():
        for entry in listed:
            word = next(words_of(entry))
            of = {"=": words.whole, "*": words.within}.get(entry[0], words.begins)
            of[word] = (*of.get(word, ()), module)
    return words


def _stems(known: _Words, word: str) -> Iterator[tuple[str, ...]]:
    """The modules of each entry that `word` fits; as many look-ups as it has parts, at most."""
    yield known.whole.get(word, ())
    for first in range(len(word)):
        for last in range(first + 1, len(word) + 1):
            part = word[first:last]
            yield known.within.get(part, ())
            if first == 0:
                yield known.begins.get(part, ())
