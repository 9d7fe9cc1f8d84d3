"""Time zones: which names are one, and whose clock a person's times are meant by."""

from __future__ import annotations

from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo


def is_time_zone(name: str) -> bool:
    """Whether this names an IANA time zone, spelt as IANA does.

    The folder that zones are read from holds more: the machine's own (`localtime`), rules for
    others (`posixrules`), clocks that count leap seconds (`right/…`), a stand-in for none set.
    """
    return name in time_zones()


def zone_of(name: str | None, otherwise: str) -> ZoneInfo:
    """The zone of this name, else the other: a row may hold what was a zone once."""
    return ZoneInfo(name if name is not None and is_time_zone(name) else otherwise)


@cache
def time_zones() -> frozenset[str]:
    """The names of all of them."""
    listed = resources.files("tzdata").joinpath("zones").read_text("utf-8").split()
    return frozenset(listed) - {"Factory"}
