"""What is tried: each pattern as it is used, and each function that reads texts of strangers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from tests.growth.inputs import atoms_of, shapes
from tests.growth.patterns import Used, used_patterns
from tests.growth.readers import READERS


class Subject(NamedTuple):
    """Something that reads a text, and the shapes of text that may be its worst."""

    name: str
    read: Callable[[str], object]
    shapes: list[tuple[str, str, str]]


def subjects() -> Iterator[Subject]:
    """All of them, patterns first."""
    for used in used_patterns():
        if isinstance(used, Used):
            own, fitting = atoms_of(used.pattern)
            name = f"{used.name} {used.method}"
            yield Subject(name, partial(_read, used), list(shapes(own, fitting)))
    for name, reader in READERS.items():
        yield Subject(
            name, reader.read, list(shapes(reader.atoms, reader.fitting, len(reader.atoms)))
        )


def _read(used: Used, text: str) -> object:
    """What the code does with the pattern."""
    pattern: Any = used.pattern
    asked: Any = text.encode("utf-8", "replace") if isinstance(pattern.pattern, bytes) else text
    if used.method == "sub":
        return pattern.sub(asked[:0], asked)
    found = getattr(pattern, used.method)(asked)
    return list(found) if used.method == "finditer" else found
