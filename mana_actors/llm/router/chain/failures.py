"""What a failed call means: who gets the blame, and whether another entry may serve."""

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError
from mana_actors.llm.router.chain.health import Trouble

RATE_LIMIT_WAIT_S = 15.0
_ELSEWHERE_CODES = frozenset({"context_length_exceeded"})
_NOT_OURS = frozenset({"capability", "exposure"})
_ACCOUNT_STATUS = frozenset({401, 402, 403})


class Verdict(msgspec.Struct, frozen=True):
    """`next_entry`: another entry may serve; `trouble`: what the failure says, None = nothing."""

    reason: str
    next_entry: bool
    trouble: Trouble | None = None


def judged(error: ProviderError) -> Verdict:
    """The verdict on a call that failed; `reason` is a code, never a text of the provider."""
    kind, reason = error.kind, f"http_{error.status}" if error.kind == "unknown" else error.kind
    if kind == "auth" and error.status == 0:  # the key file is not there: nobody was called
        return Verdict("unconfigured", next_entry=True)
    if kind in _NOT_OURS or error.code in _ELSEWHERE_CODES:
        return Verdict("capability", next_entry=True)
    if kind == "truncated":  # an answer, if half of one
        return Verdict(kind, next_entry=True)
    if kind != "blocked" and (kind == "auth" or error.status in _ACCOUNT_STATUS):
        return Verdict("auth", next_entry=True, trouble=Trouble("auth", at_once=True))
    if kind == "unknown" and error.status == 404:
        trouble = Trouble("missing_model", "only-model", at_once=True)
        return Verdict("missing_model", next_entry=True, trouble=trouble)
    if isinstance(error, ProviderBusy) or kind == "invalid_answer":
        return Verdict(reason, next_entry=True, trouble=_outage(error, reason))
    return Verdict(reason, next_entry=False)


def _outage(error: ProviderError, reason: str) -> Trouble:
    if error.kind == "network":
        return Trouble(reason)
    asked_s = error.retry_after_s or None
    wait_s = RATE_LIMIT_WAIT_S if error.kind == "rate_limit" else None
    return Trouble(reason, "model", at_once=asked_s is not None, wait_s=asked_s or wait_s)
