"""Text that reads like instructions to a model: flagged, never blocked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

SHORTEST = 16
"""Strings of fewer UTF-16 code units hold no instruction worth a warning."""

_LINE_END = re.compile("[\n\r\u2028\u2029]")
_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def _contains(pattern: str) -> Callable[[str], bool]:
    # Texts are lowered by ASCII alone: re.IGNORECASE also takes the long s for an s.
    search = re.compile(pattern).search
    return lambda text: search(text) is not None


def _has_template(text: str) -> bool:
    r"""Whether a line matches `\{\{.+\}\}`, in linear time."""
    lines = ((line.find("{{"), line.rfind("}}")) for line in _LINE_END.split(text))
    return any(0 <= opened <= closed - 3 for opened, closed in lines)


_FAMILIES: dict[str, Callable[[str], bool]] = {
    "ignore-previous": _contains("ignore (?:all |the )?previous (?:instructions|messages)"),
    "role-change": _contains(
        "you are now [^\n\r\u2028\u2029]{0,40}(?:assistant|gpt|claude|gemini)"
    ),
    "system-tag": _contains(r"<[\s\ufeff]*system(?![a-z0-9_])"),
    "template-braces": _has_template,
    "fenced-system": _contains(r"```[\s\ufeff]*system"),
}


def injection_marker(value: object) -> str | None:
    """The family of the first suspicious string inside a JSON value, or None; keys are not read."""
    stack = [value]  # no recursion: what is looked at comes from a model
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(reversed(list(cast("dict[str, Any]", node).values())))
        elif isinstance(node, list):
            stack.extend(reversed(cast("list[Any]", node)))
        elif (
            isinstance(node, str)
            and len(node.encode("utf-16-le", "surrogatepass")) // 2 >= SHORTEST
        ):
            lowered = node.translate(_LOWER)
            for family, matches in _FAMILIES.items():
                if matches(lowered):
                    return family
    return None
