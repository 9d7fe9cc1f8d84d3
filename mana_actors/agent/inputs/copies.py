"""Whether the sealed copies that a run needs are there, and what its owner hears if not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from state.log.merge import Snapshot
from state.runs.reason_words import ReasonCode
from state.runs.reasons import told
from state.sealing.copies import KeptCopy, filled_in, is_current

RecordKey = tuple[str, str]
"""Table and record id."""

Lack = Literal["no-sealed-copy", "stale-copy", "not-opened"]
"""Why copies cannot be used; handing them over again mends each of these."""

_TOLD: dict[Lack, ReasonCode] = {
    "no-sealed-copy": "copies-absent",
    "stale-copy": "copies-stale",
    "not-opened": "copies-not-opened",
}
_ADVICE = {
    "zero-knowledge": "in zero-knowledge mode only your own device can: open the app once",
    "grant-refused": "the grant cannot be used: grant them anew",
    "grant-outdated": "the grant is older than your key: grant them anew",
    "not-opened": "they are not sealed with your key: open the app once",
    "too-large": "some are too large to be handed over",
}
"""What helps, by the issuer's last answer to a request for copies."""


class CopiesLacking(msgspec.Struct, frozen=True):
    """How many copies cannot be used, and why."""

    why: Lack
    count: int

    def told(self, answer: str | None) -> str:
        """For the owner; `answer` is what came of the last request for copies, None: no answer."""
        usual = "grant them anew" if self.why == "not-opened" else "open the app once"
        advice = _ADVICE.get(answer or "", usual)
        return told(_TOLD[self.why], count=self.count, advice=advice)


def with_copies(
    sources: Mapping[RecordKey, Snapshot], copies: Mapping[RecordKey, KeptCopy]
) -> dict[RecordKey, dict[str, Any]] | CopiesLacking:
    """Each source with the sealed fields of its copy, if all copies are there and current.

    A stale copy is not used, although it could be opened: its owner wrote something else since.
    """
    absent = sum(key not in copies for key in sources)
    if absent:
        return CopiesLacking("no-sealed-copy", absent)
    stale = sum(not is_current(copies[key], source) for key, source in sources.items())
    if stale:
        return CopiesLacking("stale-copy", stale)
    return {key: filled_in(source.fields, copies[key]) for key, source in sources.items()}
