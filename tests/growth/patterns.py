"""Every pattern that the product's code has, found in the code, and how each is used."""

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).parents[2]
PACKAGES = ("state", "mana_actors", "supervisor")
METHODS = ("search", "match", "fullmatch", "sub", "split", "findall", "finditer")

OF_OURS = {
    "state/rules/reach.py": "reads the functions of the database's catalogue, which are ours",
    "state/store/catalogue.py": "reads files of this repository",
    "state/store/dump_schema.py": "reads what pg_dump says of our schema",
    "state/store/embedded/binaries.py": "reads a version that Postgres' program prints",
    "state/store/sql/__init__.py": "reads files of this repository",
    "supervisor/node/settings.py": "reads what an operator writes",
}
"""Files whose patterns read no text of an owner, a model, a tool or a provider, with the reason."""

MADE_LATER = {
    ("mana_actors/agent/planner/spoken/text.py", "closing"): "what a model says",
    ("mana_actors/llm/rehearsal/briefing.py", "found"): "rehearsal",
    ("mana_actors/agent/tools/seen_ids.py", "word"): "was_seen",
    ("state/rules/injection.py", "search"): "injection_marker",
}
"""Patterns that are made from values while the code runs: the reader that tries each."""

HELD = {
    "mana_actors/llm/failures/wordings.py": ("WORDINGS", "search"),
    "state/runs/reasons.py": ("_compiled", "fullmatch"),
    "supervisor/gateway/pages/owner/parts/refusal_words.py": ("_compiled", "fullmatch"),
}
"""Files whose patterns a function makes, what then holds all of them, and how they are used."""


class Used(NamedTuple):
    """A pattern, where it stands, and the method of `re` that is called with it."""

    name: str
    pattern: re.Pattern[Any]
    method: str


class Unlisted(NamedTuple):
    """A call of `re` whose pattern could not be found: what it is, and where."""

    path: str
    line: int
    name: str


def used_patterns() -> Iterator[Used | Unlisted]:
    """All of them; one that nobody could find is a reason for the test to be red."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            place = str(path.relative_to(ROOT))
            text = path.read_text("utf-8")
            if place not in OF_OURS and re.search(
                r"^\s*(import re\b|from re\b)", text, re.MULTILINE
            ):
                yield from _of_module(place, ast.parse(text))


def _of_module(place: str, tree: ast.Module) -> Iterator[Used | Unlisted]:
    module = import_module(place.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    short = place.removeprefix("mana_actors/")
    if place in HELD:
        held, how = HELD[place]
        for pattern in _patterns_in(getattr(module, held)):
            yield Used(f"{short} {held}", pattern, how)
    targets = _targets(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "re":
            yield Unlisted(place, node.lineno, "from re import")
        if not _is_of(node, "re") or not isinstance(node, ast.Call):
            continue
        method = cast("ast.Attribute", node.func).attr
        target = targets.get(id(node), "")
        if method == "escape" or (place, target) in MADE_LATER:
            continue
        if method == "compile" and isinstance(found := getattr(module, target, None), re.Pattern):
            pattern = cast("re.Pattern[Any]", found)
            for used in _methods_of(target, tree):
                yield Used(f"{short} {target}", pattern, used)
        elif method == "compile" and place in HELD:
            continue
        elif (constant := _constant(node, method, module)) is not None:
            yield Used(f"{short} {constant.pattern!r}", constant, method)
        else:
            yield Unlisted(place, node.lineno, ast.unparse(node))


def _targets(tree: ast.Module) -> dict[int, str]:
    """The name that a value is assigned to, by the value's identity."""
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value  # `re.compile(…)`, or its method at once: `re.compile(…).search`
            value = value.value if isinstance(value, ast.Attribute) else value
            found[id(value)] = node.targets[0].id
    return found


def _is_of(node: ast.AST, name: str) -> bool:
    """Whether it is a call of something of `name`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == name
    )


def _methods_of(target: str, tree: ast.Module) -> list[str]:
    """How the module uses it; where that is not to be seen, by `search`, which tries hardest."""
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == target
        and node.attr in METHODS
    }
    return sorted(used) or ["search"]


def _constant(node: ast.Call, method: str, module: Any) -> re.Pattern[Any] | None:
    """The pattern that a call of `re` has written out, or as a constant of its module."""
    flags = 0
    places = {"sub": 4, "split": 3}
    if len(node.args) > (place := places.get(method, 2)):
        flags = eval(ast.unparse(node.args[place]), {"re": re})  # noqa: S307 - our own code
    try:
        text = eval(ast.unparse(node.args[0]), cast("dict[str, Any]", vars(module)))  # noqa: S307 - our own code
    except NameError:  # of a value that is there only while the function runs
        return None
    return re.compile(text, flags) if isinstance(text, str | bytes) else None


def _patterns_in(value: Any) -> Iterator[re.Pattern[Any]]:
    """Patterns inside tuples, lists and structs, or in what a function answers."""
    if isinstance(value, re.Pattern):
        yield value
    elif callable(value):
        yield from _patterns_in(value())
    elif isinstance(value, tuple | list):
        for each in cast("Iterable[Any]", value):
            yield from _patterns_in(each)
    else:
        for name in getattr(value, "__struct_fields__", ()):
            yield from _patterns_in(getattr(value, name))
