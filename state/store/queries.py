"""The statements of queries.sql, and of the files beside it, by name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)


def statements() -> dict[str, str]:
    """Every statement of queries.sql, by the name in its heading."""
    return statements_of("queries.sql")


@cache
def statements_of(file: str) -> dict[str, str]:
    """Every statement of one file beside this one, by the name in its heading."""
    text = resources.files("state.store").joinpath(file).read_text("utf-8")
    _, *parts = _HEADING.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def sql(name: str) -> str:
    """One statement; a KeyError is a typing mistake in the caller."""
    return statements()[name]
