"""Whether the copies that a run needs are there, and what its owner is told if they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from state.log.merge import Snapshot
from state.sealing.copies import KeptCopy, filled_in, is_current

Key = tuple[str, str]
"""Table and record id."""

Lacking = Literal["no-sealed-copy", "stale-copy", "not-opened"]
"""What is wrong with copies that another hand-over would mend."""

_TOLD: dict[Lacking, str] = {
    "no-sealed-copy": "were not handed over yet",
    "stale-copy": "changed since they were handed over",
    "not-opened": "could not be opened",
}
_ADVICE = {
    "zero-knowledge": "in zero-knowledge mode only your own device can: open the app once",
    "grant-refused": "the grant cannot be used: grant them anew",
    "grant-outdated": "the grant is older than your key: grant them anew",
    "not-opened": "they are not sealed with your key: open the app once",
    "too-large": "some are too large to be handed over",
}
"""By what the issuer answered when it was asked for copies."""


class Missing(msgspec.Struct, frozen=True):
    """How many copies lack, and why."""

    why: Lacking
    count: int


def readable(
    sources: Mapping[Key, Snapshot], copies: Mapping[Key, KeptCopy]
) -> dict[Key, dict[str, Any]] | Missing:
    """Each source with the sealed fields of its copy; Missing where not all are there, and current.

    A stale copy is not used, although it could be opened: its owner wrote something else since.
    """
    absent = sum(key not in copies for key in sources)
    if absent:
        return Missing("no-sealed-copy", absent)
    stale = sum(not is_current(copies[key], source) for key, source in sources.items())
    if stale:
        return Missing("stale-copy", stale)
    return {key: filled_in(source.fields, copies[key]) for key, source in sources.items()}


def reason(missing: Missing, answer: str | None) -> str:
    """For the owner; `answer` is what became of the last request for copies, None: nothing yet."""
    usual = "grant them anew" if missing.why == "not-opened" else "open the app once"
    advice = _ADVICE.get(answer or "", usual)
    return f"{missing.count} of its encrypted inputs {_TOLD[missing.why]}: {advice}"
