"""Field stamps: when a value was written, as text on the wire and as an instant in here.

An instant is an `int` of nanoseconds since 1970-01-01T00:00:00Z. Stamps are compared as instants,
never as text, since clients write one moment in several forms.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, cast

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)  # prints without an offset

_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))?)?"
)
_LONGEST = len("2026-04-15T10:00:00.123456789+02:00")
_CANONICAL = len("2026-04-15T10:00:00.000Z")


class Stamp(NamedTuple):
    """An instant in ns and the one text we store for it."""

    instant: int
    text: str


def instant_of(moment: datetime) -> int:
    """The instant, in ns, of an aware `datetime`."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * NS_PER_US


MIN_INSTANT = instant_of(datetime.min.replace(tzinfo=UTC))
MAX_INSTANT = instant_of(datetime.max.replace(tzinfo=UTC)) + NS_PER_US - 1
_MAX_WHOLE_MS = MAX_INSTANT // NS_PER_MS * NS_PER_MS


def clamp(instant: int) -> int:
    """The nearest instant (ns) that a four-digit year can write."""
    return min(max(instant, MIN_INSTANT), MAX_INSTANT)


def datetime_of(instant: int) -> datetime:
    """The UTC `datetime` of an instant in ns, rounded up to whole µs so that nothing is early."""
    return EPOCH + timedelta(microseconds=min(-(-instant // NS_PER_US), MAX_INSTANT // NS_PER_US))


def format_instant(ns: int) -> str:
    """UTC text with 3 fractional digits, or 6 or 9 where fewer would lose the order."""
    seconds, fraction = divmod(clamp(ns), NS_PER_S)
    whole = (_NAIVE_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    if fraction % NS_PER_MS == 0:
        return f"{whole}.{fraction // NS_PER_MS:03d}Z"
    if fraction % NS_PER_US == 0:
        return f"{whole}.{fraction // NS_PER_US:06d}Z"
    return f"{whole}.{fraction:09d}Z"


def whole_ms(moment: datetime) -> datetime:
    """The moment without what its text does not hold, so that a column and a text can be equal."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def text_of(moment: datetime) -> str:
    """A moment as we write it, and as every client does: UTC with exactly three digits."""
    return format_instant(instant_of(whole_ms(moment)))


def parse_instant(text: str) -> int | None:
    """The instant in ns that `text` names (ISO 8601: a date, or date and time), or None."""
    stamp = read_text(text)
    return None if stamp is None else stamp.instant


def stamp_text(raw: object) -> str | None:
    """The non-empty text of a stamp, or None; a client may keep it plain or under `at`."""
    if isinstance(raw, dict):
        raw = cast("dict[str, Any]", raw).get("at")
    return raw if isinstance(raw, str) and raw else None


def read_stamp(raw: object) -> Stamp | None:
    """The stamp that a slot of `field_meta` holds, or None where it holds nothing usable."""
    text = stamp_text(raw)
    return None if text is None else read_text(text)


def winning_stamp(now_ns: int, current: str | None) -> str:
    """`max(now, current + 1 ms)` as text, rounded up to whole ms.

    So our write wins even where the current value came from a clock that runs ahead.
    """
    held = parse_instant(current) if current else None
    wanted = now_ns if held is None else max(now_ns, held + NS_PER_MS)
    rounded = -(-wanted // NS_PER_MS) * NS_PER_MS
    last = (
        _MAX_WHOLE_MS if held is None else max(_MAX_WHOLE_MS, held)
    )  # a tie goes to the later row
    return format_instant(min(rounded, last))


def read_text(text: str) -> Stamp | None:
    """The stamp that `text` names, or None; the common forms are remembered."""
    return _read(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _read(text: str) -> Stamp | None:
    looks_canonical = len(text) == _CANONICAL and text[4] == text[7] == "-" and text[10] == "T"
    # Newer Pythons take 24:00, which clients do not write.
    if looks_canonical and text[19] == "." and text[23] == "Z" and text[11:13] <= "23":
        with suppress(ValueError):  # most stamps by far, in the form that we store
            return Stamp(instant_of(datetime.fromisoformat(text)), text)
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    *numbers, fraction, sign, off_hour, off_minute = match.groups()
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    hours, minutes = int(off_hour or 0), int(off_minute or 0)
    try:
        moment = datetime.combine(date(year, month, day), time(hour, minute, second), UTC)
    except ValueError:
        return None
    if hours > 23 or minutes > 59:
        return None
    offset = (hours * 3_600 + minutes * 60) * NS_PER_S
    instant = instant_of(moment) + int((fraction or "0").ljust(9, "0"))
    instant += offset if sign == "-" else -offset
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        return None
    return Stamp(instant, format_instant(instant))
