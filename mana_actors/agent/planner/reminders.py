"""Hints added to one model call and then forgotten."""

from collections.abc import Callable
from typing import Literal

import msgspec

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.agent.planner.fences import without_tags

Severity = Literal["info", "warn", "escalate"]

WARN_AT, STOP_AT = 0.75, 1.0
RETRY_FROM_ROUND = 3


class Reminder(msgspec.Struct, frozen=True):
    """One hint: who made it, how urgent it is, what it says."""

    producer: Literal["compacted", "token-budget", "retry-loop"]
    severity: Severity
    text: str


class RecentCall(msgspec.Struct, frozen=True):
    """A call that was carried out, and whether it succeeded."""

    name: str
    success: bool


class LoopView(msgspec.Struct, frozen=True):
    """What producers see before a call: `round` from 1, `recent` the last 5 calls in order."""

    round: int
    tool_call_count: int = 0
    usage: TokenUsage = TokenUsage()
    recent: tuple[RecentCall, ...] = ()
    compactions_done: int = 0


class Allowance(msgspec.Struct, frozen=True):
    """The token cap of an agent over 24 h, and what was used of it before this run."""

    agent_name: str
    cap: int | None
    used_before: int = 0


RemindChannel = Callable[[LoopView], tuple[Reminder, ...]]


def reminders_for(view: LoopView, allowance: Allowance | None) -> tuple[Reminder, ...]:
    """All reminders due before a call: of folded turns, of the budget, of calls that fail."""
    found = (compacted(view), token_budget(view, allowance), retry_loop(view))
    return tuple(reminder for reminder in found if reminder is not None)


def reminder_channel(
    allowance: Allowance | None, spent_elsewhere: Callable[[], int] = lambda: 0
) -> RemindChannel:
    """`reminders_for` with `allowance`; `spent_elsewhere` counts the tokens of sub-agents."""

    def remind(view: LoopView) -> tuple[Reminder, ...]:
        if allowance is None:
            return reminders_for(view, None)
        used = allowance.used_before + spent_elsewhere()
        return reminders_for(view, Allowance(allowance.agent_name, allowance.cap, used))

    return remind


def compacted(view: LoopView) -> Reminder | None:
    """Older turns were folded: their summary is what counts."""
    if view.compactions_done < 1:
        return None
    text = (
        "Older turns were replaced by the compact summary above. It is authoritative; "
        "do not ask for details that it leaves out."
    )
    return Reminder("compacted", "info", text)


def token_budget(view: LoopView, allowance: Allowance | None) -> Reminder | None:
    """The day's tokens run low (from 75 %), or are used up (from 100 %)."""
    if allowance is None or not allowance.cap or allowance.cap < 0:
        return None
    used = allowance.used_before + view.usage.total_tokens
    ratio = used / allowance.cap
    if ratio < WARN_AT:
        return None
    name = without_tags(allowance.agent_name)
    percent = (200 * used + allowance.cap) // (2 * allowance.cap)  # rounds half up, exactly
    facts = f"{name} has used {percent}% of its tokens for the day ({used} / {allowance.cap})."
    if ratio >= STOP_AT:
        return Reminder("token-budget", "escalate", f"{facts} Finish now with a summary.")
    return Reminder("token-budget", "warn", f"{facts} Be economical.")


def retry_loop(view: LoopView) -> Reminder | None:
    """The last two calls failed, from round 3 on."""
    last_two = view.recent[-2:]
    if view.round < RETRY_FROM_ROUND or len(last_two) < 2 or any(call.success for call in last_two):
        return None
    text = "The last two tool calls failed. Stop retrying and explain the failure in your summary."
    return Reminder("retry-loop", "warn", text)
