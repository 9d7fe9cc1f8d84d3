"""Ids in the paths of URLs: written, read, and paths that every reader reads alike.

An id may hold a slash, so it is one percent-encoded segment, and routes are matched on paths as
they were sent. Who writes a path uses `path_of`, who serves one `text_of`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

_HALF_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class PathUnclear(ValueError):
    """A path that two programs could read in two ways; `str` says what is wrong with it."""


def segment(text: str) -> str:
    """An id as one part of a path."""
    return quote(text, safe="")


def path_of(base: str, *ids: str) -> str:
    """`base`, and each id as one more part: `path_of("/internal/agents", "org/u1", "ag1")`."""
    return "/".join([base, *map(segment, ids)])


def text_of(part: str) -> str:
    """The id that a part of a path holds; raises PathUnclear."""
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise PathUnclear("is not UTF-8") from None


def checked_path(raw: bytes) -> str:
    """A path as it was sent, for routing; raises PathUnclear.

    A proxy resolves dots and joins slashes before it compares paths. We do neither, so a path in
    which that would matter is refused, and no rule of a proxy can be walked around.
    """
    if not raw.startswith(b"/"):
        raise PathUnclear("must begin with a slash")
    path = raw.decode("latin-1")
    if _HALF_ESCAPE.search(path):
        raise PathUnclear("has a % that is followed by no two hexadecimal digits")
    if "//" in path:
        raise PathUnclear("has an empty part")
    if {b".", b".."} & set(unquote_to_bytes(raw).replace(b"\\", b"/").split(b"/")):
        raise PathUnclear("has a part that is only dots")
    return path
