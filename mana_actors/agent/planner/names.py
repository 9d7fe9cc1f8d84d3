"""Which tool a model means where it calls one by more than its name."""

import re
from collections.abc import Container

_SEPARATOR = re.compile(r"[.:/=>]")
_PLACE = re.compile(r":\d+$")


def meant_name(name: str, offered: Container[str]) -> str:
    """The tool of `offered` that `name` ends in, or `name` as it is.

    Models write the namespace they were shown tools in (`functions.x`, `default_api:x`), tokens of
    their own format (`x<|channel|>json`) and the number of the call (`x:0`).
    """
    if name in offered:
        return name
    head = name.partition("<|")[0].strip().strip("\"'`").removesuffix("()")
    for tail in (head, _PLACE.sub("", head)):
        last = _SEPARATOR.split(tail)[-1].strip()
        if last in offered:
            return last
    return name
