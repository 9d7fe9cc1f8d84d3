"""Text in tool arguments that reads like instructions: flagged, never blocked (tools-mcp)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

SHORTEST = 16  # UTF-16 units

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
    """The family of the first suspicious string inside a JSON value, keys not read, or None."""
    return next((found for text in _strings(value) if (found := _marker(text))), None)


def _marker(text: str) -> str | None:
    if len(text.encode("utf-16-le", "surrogatepass")) // 2 < SHORTEST:
        return None
    lowered = text.translate(_LOWER)
    return next((name for name, matches in _FAMILIES.items() if matches(lowered)), None)


def _strings(value: object) -> Iterator[str]:
    """Every string inside, in order, without recursion."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            stack.extend(reversed(list(cast("dict[str, Any]", node).values())))
        elif isinstance(node, list):
            stack.extend(reversed(cast("list[Any]", node)))
