"""SQL of the store, read once.

Statements stand under headings in `<file>.sql`. `functions/<name>.sql` holds the present text of
each function in the database, with its reason, its owner and who may call it.
"""

from __future__ import annotations

import re
from functools import cache
from graphlib import TopologicalSorter
from importlib import resources

_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)
_CALL = re.compile(r"\bmana_ai\.(\w+)\(")


@cache
def statements_of(file: str) -> dict[str, str]:
    """Every statement of one file, by the name in its heading."""
    text = resources.files("state.store.sql").joinpath(file).read_text("utf-8")
    _, *parts = _HEADING.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


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
