"""JSON as services send it: read where strict readers refuse it, and fit to be sent on."""

import json
import re
from typing import Any, cast

import msgspec

from mana_actors.json_values import JsonObject, as_object

_LONE = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 18


def decoded_value(body: bytes) -> Any:
    """The JSON value of `body`, None where it has none.

    Text that is no Unicode gets U+FFFD in its place: bytes, and halves of surrogate pairs, which
    models do utter. Numbers that are none (NaN, infinities) are null. The result can always be
    encoded again.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # the usual way is fast and strict; what follows is for the few that need it
    except RecursionError:
        return None
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        value = json.loads(
            text, strict=False, parse_int=_whole, parse_float=_real, parse_constant=_no_number
        )
        return _whole_text(value)
    except (ValueError, RecursionError):
        return None


def decoded_object(body: bytes) -> JsonObject | None:
    """The JSON object of `body`, as `decoded_value` reads it, None where it has none."""
    return as_object(decoded_value(body))


def _whole(digits: str) -> int | float | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else _real(digits)


def _real(digits: str) -> float | None:
    value = float(digits)
    return value if abs(value) < float("inf") else None


def _no_number(_: str) -> None:
    return None


def _whole_text(value: Any) -> Any:
    """`value` with U+FFFD for each half of a pair, in keys too."""
    if isinstance(value, str):
        return _LONE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_whole_text(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {_whole_text(name): _whole_text(each) for name, each in pairs}
    return value
