"""The command `mana`, and what has to hold before anything of ours is imported.

`state` and `supervisor` are common words: another distribution may have put its own files there.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata, util
from pathlib import Path

DISTRIBUTION = "mana-actors"
OTHERS_USE = ("state", "supervisor")
MARK = f'DISTRIBUTION = "{DISTRIBUTION}"'
"""A line of each package's `__init__.py`."""


def main() -> None:
    """Run the command line and exit with its code."""
    problem = names_taken()
    if problem is not None:
        sys.stderr.write(f"mana: {problem}\n")
        sys.exit(1)
    # By name: nothing of mana_actors imports supervisor, and this comes before both.
    importlib.import_module("supervisor.cli").main()


def names_taken() -> str | None:
    """One line that says whose files stand where ours should be; None where all is well."""
    for package in OTHERS_USE:
        spec = util.find_spec(package)
        origin = None if spec is None else spec.origin
        if origin is None:
            return f"the package {package} is damaged or missing: install {DISTRIBUTION} again"
        try:
            is_ours = MARK in Path(origin).read_text("utf-8", "replace")
        except OSError:
            is_ours = False
        if not is_ours:
            others = owners_of(package)
            whose = f" of {' and '.join(others)}" if others else ""
            problem = f"the package {package} is not ours but that{whose} ({origin})"
            return f"{problem}: give {DISTRIBUTION} an environment of its own"
    return None


def owners_of(package: str) -> list[str]:
    """The other distributions that installed files into a package."""
    found = metadata.packages_distributions().get(package, [])
    return sorted({name for name in found if name.lower().replace("_", "-") != DISTRIBUTION})
