"""Token budgets: the most that a call may cost, and what a cap leaves over the last 24 hours."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import ceil

import msgspec

WINDOW = timedelta(hours=24)


def hold_size(request_bytes: int, max_output: int, bytes_per_token: float = 2) -> int:
    """The tokens to hold before a call: its request, estimated high, and the most it may answer."""
    return -int(-request_bytes // bytes_per_token) + max_output


def room(cap: int | None, used: int, held: int) -> int | None:
    """The tokens that may still be held under `cap`, at least 0; None without a cap."""
    return None if cap is None else max(0, cap - used - held)


class Hold(msgspec.Struct, frozen=True):
    """The most one model call may cost: tokens, and micro-units of money."""

    tokens: int
    micros: int = 0


class Shortfall(msgspec.Struct, frozen=True):
    """By how much a hold did not fit; `scope` is whose cap, `unit` is tokens or money (micros).

    `until` says what can make room: `change` of a cap that is below this one call, the `window`
    moving on, or `holds` being settled. Numbers are None where they are not this owner's business.
    """

    scope: str
    unit: str
    until: str
    asked: int
    cap: int | None = None
    used: int | None = None
    held: int | None = None


def cost_micros(prompt: int, output: int, per_prompt: float, per_output: float) -> int:
    """What these tokens cost in micro-units, at these prices for each; rounded up."""
    return ceil(prompt * per_prompt + output * per_output)


def shortfall_reason(no: Shortfall) -> str:
    """Why there was no room, for a person."""
    asked = f"one call needs up to {amount(no.asked, no.unit)}"
    whose = f"the {no.scope}'s"
    if no.cap is None:
        return f"{asked}, more than is left of {whose} limit"
    if no.until == "change":
        return f"{asked}, {whose} cap is {amount(no.cap, no.unit)}"
    left = max(0, no.cap - (no.used or 0) - (no.held or 0))
    return f"{asked}, {amount(left, no.unit)} left of {whose} {amount(no.cap, no.unit)} in 24 hours"


def amount(number: int, unit: str) -> str:
    """Tokens, or money in whole units of its currency."""
    return f"{number / 1_000_000:.4f} in money" if unit == "money" else f"{number} tokens"


MICROS = 1_000_000
MOST = 2**53 - 1
"""The largest number JSON readers keep exactly."""


def limit_of(text: str, per_unit: int) -> int:
    """What somebody typed as a limit, in whole units; raises ValueError, which says why not."""
    try:
        given = Decimal(text)
    except InvalidOperation:
        raise ValueError("is no number") from None
    if not (given.is_finite() and 0 <= given <= MOST // per_unit):
        raise ValueError("is negative or too large")
    whole = int(given * per_unit)
    if whole != given * per_unit:
        raise ValueError("is finer than can be counted")
    return whole


class Charge(msgspec.Struct, frozen=True):
    """What was spent, and when; by which call, where that is known."""

    at: datetime
    tokens: int
    call_id: str | None = None


class OpenHold(msgspec.Struct, frozen=True):
    """What a call under way reserved; past its deadline it is charged whole."""

    call_id: str
    tokens: int
    opened_at: datetime
    deadline: datetime


class TokenWindow:
    """What was spent and when, and what is reserved; a charge counts for less than 24 hours."""

    def __init__(
        self, spent: Iterable[tuple[datetime, int]] = (), holds: Iterable[OpenHold] = ()
    ) -> None:
        self._spent = sorted(spent)
        self._holds = {hold.call_id: hold for hold in holds}

    def add(self, at: datetime, tokens: int) -> None:
        """Note tokens spent at an aware time; entries may come in any order."""
        insort(self._spent, (at, tokens))

    def hold(self, hold: OpenHold) -> None:
        """Note what a call reserves."""
        self._holds[hold.call_id] = hold

    def settle(self, call_id: str, at: datetime, tokens: int) -> None:
        """Note what a call came to; its hold is gone."""
        self._holds.pop(call_id, None)
        self.add(at, tokens)

    def used(self, now: datetime) -> int:
        """The tokens that count at `now`."""
        return sum(tokens for _, tokens in self._counted(now))

    def held(self, now: datetime) -> int:
        """The tokens that calls under way reserve at `now`."""
        return sum(hold.tokens for hold in self._holds.values() if hold.deadline > now)

    def back_at(self, cap: int, now: datetime) -> datetime | None:
        """When the first of what is used leaves room below a used-up cap; None: never by itself."""
        need = max(1, self.used(now) - cap + 1)
        for at, tokens in self._counted(now):
            need -= tokens
            if need <= 0:
                return at + WINDOW
        return None

    def forget(self, now: datetime) -> None:
        """Drop the entries that no longer count, so that memory stays bounded."""
        self._spent = [(at, tokens) for at, tokens in self._spent if at > now - WINDOW]

    def _counted(self, now: datetime) -> list[tuple[datetime, int]]:
        overdue = [(h.opened_at, h.tokens) for h in self._holds.values() if h.deadline <= now]
        return [entry for entry in sorted(self._spent + overdue) if entry[0] > now - WINDOW]
