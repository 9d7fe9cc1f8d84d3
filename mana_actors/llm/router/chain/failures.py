"""What follows from a failed call for its chain: who gets the blame, and whether to go on."""

import msgspec

from mana_actors.errors import ProviderError
from mana_actors.llm.failures.cause import Cause
from mana_actors.llm.router.chain.circuits import ProviderTrouble

_SHOWN_BY_STATUS = frozenset({"broken", "overloaded", "refused", "too_large"})
_SHOWN_AS_CAPABILITY = frozenset({"too_long", "too_large"})

_NAMED: frozenset[Cause] = frozenset({"settings", "unreachable"})


class Consequence(msgspec.Struct, frozen=True):
    """`next_entry`: another entry may serve; `trouble`: what the failure says, None = nothing."""

    reason: str
    next_entry: bool
    trouble: ProviderTrouble | None = None


def consequence_of(error: ProviderError) -> Consequence:
    """What a failed call leads to; `reason` is a code, never a text of the provider."""
    meaning, reason = error.meaning, str(error.cause)
    if error.cause in _SHOWN_BY_STATUS and error.status:
        reason = f"http_{error.status}"
    if error.cause in _SHOWN_AS_CAPABILITY:
        reason = "capability"
    if meaning.closes == "nobody":
        return Consequence(reason, meaning.next_entry)
    asked_s = error.retry_after_s or None
    trouble = ProviderTrouble(
        fault_shown(error) if error.cause in _NAMED else reason,
        meaning.closes,
        at_once=meaning.at_once or asked_s is not None,
        wait_s=asked_s or meaning.wait_s,
    )
    return Consequence(reason, meaning.next_entry, trouble)


def fault_shown(error: ProviderError) -> str:
    """What kept a call from being made: the setting, or the kind of trouble."""
    code = error.code
    word = code.upper() if code.endswith(("_proxy", "_file")) else code.replace("_", " ")
    return f"{error.cause}: {word}"
