"""The inputs that cost a pattern most, made of its own atoms: literals, classes, branches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from typing import Any

END = "\x00!"
"""What hardly a pattern takes, behind each input: only what fails at the end has to go back."""
MOST_ATOMS, _MOST_SPANS = 9, 30
_BY_CATEGORY = {
    "CATEGORY_DIGIT": "0",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "w",
    "CATEGORY_NOT_DIGIT": "x",
    "CATEGORY_NOT_SPACE": "x",
    "CATEGORY_NOT_WORD": "-",
}


def atoms_of(pattern: re.Pattern[Any]) -> tuple[list[str], list[str]]:
    """What the pattern is made of, and one text that fits it, in pieces."""
    text = pattern.pattern
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    parsed = import_module("re._parser").parse(text, pattern.flags & ~re.LOCALE)
    pieces = _merged(_pieces(parsed))
    atoms = dict.fromkeys(each for piece in pieces for each in piece if each)
    return list(atoms), [piece[0] for piece in pieces if piece[0]]


def shapes(
    atoms: Sequence[str], fitting: Sequence[str], most: int = MOST_ATOMS
) -> Iterator[tuple[str, str, str]]:
    """Of the first `most` atoms, each as (head, what is repeated, what stands at the end)."""
    few = list(islice(atoms, most))
    repeated = [*few, *(one + other for one in few for other in few if one != other)]
    spans = [
        "".join(fitting[first:last])
        for first in range(len(fitting))
        for last in range(first + 1, len(fitting) + 1)
    ]
    repeated += list(islice(dict.fromkeys(spans), _MOST_SPANS))
    heads = [""] + ["".join(fitting[:length]) for length in range(1, len(fitting) + 1)]
    for text in dict.fromkeys(repeated):
        yield "", text, END
    for head in heads[1:]:
        for text in few:
            yield head, text, END
            yield "", head + text, END


def made(shape: tuple[str, str, str], size: int) -> str:
    """A text of about `size` characters."""
    head, text, tail = shape
    return head + text * ((size - len(head)) // len(text) + 1) + tail


class _Letter(tuple[str, ...]):
    """A literal character: with its neighbours it is a word."""

    __slots__ = ()


def _merged(pieces: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """With literals that follow one another as one word, and each word's first character too."""
    merged: list[tuple[str, ...]] = []
    word = ""
    for piece in [*pieces, ("",)]:
        if isinstance(piece, _Letter):
            word += piece[0]
            continue
        if word:
            merged.append((word, word[0]) if len(word) > 1 else (word,))
            word = ""
        if piece != ("",):
            merged.append(piece)
    return merged


def _pieces(parsed: Any) -> list[tuple[str, ...]]:
    """What may stand at each place in turn: first what fits there, then its alternatives."""
    found: list[tuple[str, ...]] = []
    for op, value in parsed:
        match str(op):
            case "LITERAL":
                found.append(_Letter((chr(value),)))
            case "NOT_LITERAL":
                found.append(("x" if chr(value) != "x" else "y", chr(value)))
            case "ANY":
                found.append(("x", "\n"))
            case "IN":
                found.append(_members(value))
            case "BRANCH":
                ways = [_merged(_pieces(way)) for way in value[1]]
                words = ["".join(piece[0] for piece in way) for way in ways]
                others = [each for way in ways for piece in way for each in piece[1:]]
                found.append(tuple(dict.fromkeys([*words, *others])) or ("",))
            case "SUBPATTERN":
                found += _pieces(value[3])
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                inner = _merged(_pieces(value[2]))
                least = "".join(piece[0] for piece in inner) * max(1, min(value[0], 400))
                found.append(tuple(dict.fromkeys([least, *(a for p in inner for a in p)])))
            case "ASSERT" | "ASSERT_NOT":
                found += [("", *(each for p in _pieces(value[1]) for each in p if each))]
            case "ATOMIC_GROUP":
                found += _pieces(value)
            case _:
                pass  # places such as ^ and \b, and what a group had, take no character
    return found


def _members(members: Any) -> tuple[str, ...]:
    """A class: a few of its characters; a negated one: something else, then what ends it."""
    negated, found = False, list[str]()
    for op, value in members:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.append(chr(value))
            case "RANGE":
                found += [chr(value[0]), chr(value[1])]
            case _:
                found.append(_BY_CATEGORY.get(str(value), "x"))
    if negated:
        other = next(each for each in "xX5\u00e9\u4e2d" if each not in found)
        return (other, *found[:6])
    return tuple(found[:8])
