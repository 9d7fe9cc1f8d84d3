"""What follows from a failed call: who gets the blame, and whether another entry may serve."""

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError
from mana_actors.llm.router.chain.circuits import Trouble

RATE_LIMIT_WAIT_S = 15.0
_ELSEWHERE_CODES = frozenset({"context_length_exceeded"})
_NOT_OURS = frozenset({"capability", "exposure"})
_ACCOUNT_STATUS = frozenset({401, 402, 403})


class Consequence(msgspec.Struct, frozen=True):
    """`next_entry`: another entry may serve; `trouble`: what the failure says, None = nothing."""

    reason: str
    next_entry: bool
    trouble: Trouble | None = None


def consequence_of(error: ProviderError) -> Consequence:
    """What a failed call leads to; `reason` is a code, never a text of the provider."""
    kind, reason = error.kind, f"http_{error.status}" if error.kind == "unknown" else error.kind
    if kind == "auth" and error.status == 0:  # the key file is not there: nobody was called
        return Consequence("unconfigured", next_entry=True)
    if kind in _NOT_OURS or error.code in _ELSEWHERE_CODES:
        return Consequence("capability", next_entry=True)
    if kind == "truncated":  # an answer, if half of one
        return Consequence(kind, next_entry=True)
    if kind != "blocked" and (kind == "auth" or error.status in _ACCOUNT_STATUS):
        return Consequence("auth", next_entry=True, trouble=Trouble("auth", at_once=True))
    if kind == "unknown" and error.status == 404:
        trouble = Trouble("missing_model", "only-model", at_once=True)
        return Consequence("missing_model", next_entry=True, trouble=trouble)
    if isinstance(error, ProviderBusy) or kind == "invalid_answer":
        asked_s = error.retry_after_s or None
        wait_s = asked_s or (RATE_LIMIT_WAIT_S if kind == "rate_limit" else None)
        trouble = Trouble(reason, "model", at_once=asked_s is not None, wait_s=wait_s)
        if kind == "network":  # nobody was reached, so it is no fault of the model
            trouble = Trouble(reason)
        return Consequence(reason, next_entry=True, trouble=trouble)
    return Consequence(reason, next_entry=False)
