#!/usr/bin/env python3
"""Refuse `provider/model` outside the alias file; part of `make check`, FOLDER arguments optional.

Code asks for `mana/<purpose>`; which model that is, is an operator's decision.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mana_actors.llm.router.aliases.alias_file import read_registry

ROOT = Path(__file__).resolve().parents[1]
ALIAS_FILE = ROOT / "mana_actors" / "llm" / "router" / "aliases" / "aliases.yaml"
PACKAGES = ("state", "mana_actors", "supervisor")
TEXTS = {".yaml", ".yml", ".toml", ".json", ".sql", ".html", ".js", ".css", ".txt"}
# Words of an image tool's own parameter, which say nothing about who answers our calls.
ALLOWED = {ALIAS_FILE, ROOT / "mana_actors" / "agent" / "tools" / "tools.json"}
Found = tuple[int, str]


def model_name() -> re.Pattern[str]:
    """What a literal model of one of our providers looks like."""
    providers = read_registry(ALIAS_FILE.read_text("utf-8")).providers
    return re.compile(rf"(?<![\w./:@-])(?:{'|'.join(providers)})/[\w.:/-]*\w", re.IGNORECASE)


def python_strings(source: str) -> Iterator[Found]:
    """Every string of a module except docstrings, with its line."""
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str):
                yield node.lineno, value


def texts(path: Path) -> Iterator[Found]:
    """The strings of a file where a model could be named, with their lines."""
    if path.suffix == ".py":
        yield from python_strings(path.read_text("utf-8"))
    elif path.suffix in TEXTS and path not in ALLOWED:
        yield from enumerate(path.read_text("utf-8").splitlines(), 1)


def hits(folder: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """Each place below `folder` that names a model."""
    for path in sorted(folder.rglob("*")):
        for line, text in texts(path):
            for found in pattern.finditer(text):
                yield f"{path}:{line}: {found[0]}"


def main(folders: list[str]) -> int:
    """1 when a model is named anywhere, with one line for each place."""
    pattern = model_name()
    chosen = [Path(each) for each in folders] or [ROOT / name for name in PACKAGES]
    found = [hit for folder in chosen for hit in hits(folder, pattern)]
    for hit in found:
        sys.stderr.write(f"{hit}: a model is named here; name an alias (mana/…) instead\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
