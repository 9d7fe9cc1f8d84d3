"""Judging one case: what it expects, or what our rules make of it, against what we give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

Case = dict[str, Any]
View = Callable[[Any, Case], Any]


class Override(msgspec.Struct, frozen=True):
    """Inputs for which a rule of ours wins over the original, and the value it gives instead."""

    name: str
    rule: str
    applies: Callable[[Any], bool]  # to the case's input
    value: Callable[[Any], Any]  # the expected value by the rule


class Outcome(msgspec.Struct, frozen=True):
    """`passed` as the original, `overridden` as our rules say, or `failed` with a difference."""

    status: str
    overrides: tuple[str, ...] = ()
    difference: str = ""


def as_is(value: Any, case: Case) -> Any:
    """The view of suites whose values compare as they are."""
    return value


def judge(
    case: Case, give: Callable[[Any], Any], overrides: tuple[Override, ...], view: View = as_is
) -> Outcome:
    """The outcome of one case; `view` brings both sides into a form that compares."""
    try:
        return _judge(case, give, overrides, view)
    except Exception as exc:  # noqa: BLE001 - a case that breaks us is a failed case, not a broken run
        return Outcome("failed", (), f"raised {type(exc).__name__}: {exc}")


def _judge(
    case: Case, give: Callable[[Any], Any], overrides: tuple[Override, ...], view: View
) -> Outcome:
    given = case["input"]
    matching = [override for override in overrides if override.applies(given)]
    original = view(case["expected"], case)
    expected = view(matching[0].value(given), case) if matching else original
    actual = view(give(given), case)
    names = tuple(override.name for override in matching)
    if actual != expected:
        return Outcome("failed", names, difference(expected, actual))
    return Outcome("overridden", names) if expected != original else Outcome("passed")


def difference(expected: Any, actual: Any, path: str = "value", limit: int = 6) -> str:
    """The first places where two JSON values differ, one per line."""
    return "\n".join(_differences(expected, actual, path)[:limit])


def _differences(expected: Any, actual: Any, path: str) -> list[str]:
    if expected == actual:
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _in_objects(cast("Case", expected), cast("Case", actual), path)
    if isinstance(expected, list) and isinstance(actual, list):
        one, two = cast("list[Any]", expected), cast("list[Any]", actual)
        if len(one) == len(two):
            pairs = enumerate(zip(one, two, strict=True))
            return [line for at, (x, y) in pairs for line in _differences(x, y, f"{path}[{at}]")]
    return [f"{path}: expected {_short(expected)}, got {_short(actual)}"]


def _in_objects(expected: Case, actual: Case, path: str) -> list[str]:
    absent = "(absent)"
    return [
        line
        for key in dict.fromkeys([*expected, *actual])
        for line in _differences(
            expected.get(key, absent), actual.get(key, absent), f"{path}.{key}"
        )
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
