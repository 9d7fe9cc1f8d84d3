"""What follows from a failed call; the only place that says so."""

from typing import Literal

import msgspec

from mana_actors.llm.failures.cause import Cause

Closes = Literal["nobody", "provider", "model", "only-model"]
"""Whom a failure speaks against: nobody, the provider, a model (and when others of its provider
fail too, the provider), or a model alone."""
_RATE_LIMIT_WAIT_S = 15.0
_QUOTA_WAIT_S = 600.0


class Meaning(msgspec.Struct, frozen=True):
    """What follows from a cause.

    `next_entry`: another entry of the chain may do better; without it the request is at fault
    everywhere. `closes`: who is passed by after it, after two in a row or, with `at_once`, after
    one; for `wait_s` seconds, None = as long as always. `may_have_spent`: the service may have
    counted tokens although there is no answer.
    """

    next_entry: bool = True
    closes: Closes = "nobody"
    at_once: bool = False
    wait_s: float | None = None
    may_have_spent: bool = False


MEANINGS: dict[Cause, Meaning] = {
    "unconfigured": Meaning(),
    "settings": Meaning(closes="provider", at_once=True),
    "unreachable": Meaning(closes="provider"),
    "network": Meaning(closes="provider", may_have_spent=True),
    "timeout": Meaning(closes="model", may_have_spent=True),
    "broken": Meaning(closes="model"),
    "overloaded": Meaning(closes="model"),
    "rate_limit": Meaning(closes="model", wait_s=_RATE_LIMIT_WAIT_S),
    "auth": Meaning(closes="provider", at_once=True),
    "quota": Meaning(closes="provider", at_once=True, wait_s=_QUOTA_WAIT_S),
    "missing_model": Meaning(closes="only-model", at_once=True),
    "capability": Meaning(),
    "too_long": Meaning(),
    "too_large": Meaning(),
    "refused": Meaning(),
    "malformed": Meaning(next_entry=False),
    "blocked": Meaning(next_entry=False),
    # What came under a status of 200 closes nobody off, however senseless it is: an answer follows
    # from what was asked, and one caller's words must not take the entry from all the others.
    "invalid_answer": Meaning(may_have_spent=True),
    "failed_answer": Meaning(may_have_spent=True),
    "truncated": Meaning(may_have_spent=True),
    "exposure": Meaning(),
    "no_healthy_provider": Meaning(closes="model"),
}
