"""Looking into JSON that somebody else wrote, without trusting its shape."""

from typing import Any, cast

import msgspec

JsonObject = dict[str, Any]

_sorted_encoder = msgspec.json.Encoder(order="sorted")


def canonical_json(value: object) -> str:
    """`value` as JSON text that is equal for equal values: keys sorted, no spaces."""
    return _sorted_encoder.encode(value).decode()


def as_object(value: object) -> JsonObject | None:
    """`value` if it is a JSON object, else None."""
    return cast("JsonObject", value) if isinstance(value, dict) else None


def as_text(value: object) -> str:
    """`value` if it is text, else ""."""
    return value if isinstance(value, str) else ""


def as_list(value: object) -> list[Any]:
    """`value` as a list if it is a list or tuple, else []."""
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []


def objects_in(value: object) -> list[JsonObject]:
    """The JSON objects of `value` if it is a list, in order; everything else is left out."""
    return [cast("JsonObject", item) for item in as_list(value) if isinstance(item, dict)]


def texts_in(value: object) -> list[str]:
    """Every string inside a JSON value, in order; object keys are not values."""
    found: list[str] = []
    todo: list[object] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            todo.extend(reversed(list(cast("JsonObject", item).values())))
        else:
            todo.extend(reversed(as_list(item)))
    return found
