"""SQL of the store, read once.

Statements stand under headings in `<file>.sql`. `functions/<name>.sql` holds the present text of
each function in the database, with its reason, its owner and who may call it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from importlib import resources
from typing import Any

_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)
_CALL = re.compile(r"\bmana_ai\.(\w+)\(")
_NAMED_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)\b")


class Statements(dict[str, str]):
    """The statements of one file by name, as Postgres takes them.

    A statement that takes many values names them in its file (`:user` for `$1`), so that no caller
    can swap two of them.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._values = {
            name: tuple(dict.fromkeys(_NAMED_VALUE.findall(text))) for name, text in texts.items()
        }
        for name, text in texts.items():
            values = self._values[name]
            self[name] = _NAMED_VALUE.sub(lambda m, of=values: f"${of.index(m[1]) + 1}", text)

    def given(self, name: str, /, **values: Any) -> tuple[str, *tuple[Any, ...]]:
        """A statement and its values in its order; a TypeError where their names differ."""
        names = self._values[name]
        if values.keys() != set(names):
            raise TypeError(name, sorted(values.keys() ^ set(names)))
        return self[name], *(values[each] for each in names)


@cache
def statements_of(file: str) -> Statements:
    """Every statement of one file, by the name in its heading."""
    text = resources.files("state.store.sql").joinpath(file).read_text("utf-8")
    _, *parts = _HEADING.split(text)
    bodies = [body.strip() for body in parts[1::2]]
    return Statements(dict(zip(parts[::2], bodies, strict=True)))


@cache
def function_texts() -> dict[str, str]:
    """Every function's text by its name, each after those that it calls; a cycle is an error."""
    folder = resources.files("state.store.sql").joinpath("functions")
    texts = {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }
    calls = {name: sorted(_called(text, texts) - {name}) for name, text in texts.items()}
    return {name: texts[name] for name in TopologicalSorter(calls).static_order()}


def needed_by(script: str) -> list[str]:
    """The functions that a script calls and those that they call, in the order to make them."""
    texts = function_texts()
    needed = _called(script, texts)
    for name in reversed(texts):
        if name in needed:
            needed |= _called(texts[name], texts)
    return [name for name in texts if name in needed]


def _called(script: str, texts: dict[str, str]) -> set[str]:
    return {name for name in _CALL.findall(script) if name in texts}
