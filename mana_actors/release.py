"""Which code this is: in actor names, because `get_if_exists` after a deploy returns old code."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

PACKAGES = ("state", "mana_actors", "supervisor")


@cache
def release() -> str:
    """Eight hex digits over the Python and SQL sources of the three packages."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(_sources(package)):
            digest.update(path.encode())
            digest.update(resources.files(package).joinpath(path).read_bytes())
    return digest.hexdigest()[:8]


def _sources(package: str, folder: str = "") -> list[str]:
    found: list[str] = []
    for entry in resources.files(package).joinpath(folder).iterdir():
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir() and entry.name != "__pycache__":
            found += _sources(package, path)
        elif entry.name.endswith((".py", ".sql", ".json")):
            found.append(path)
    return found
