"""May this occurrence run now? Pure, asked by the supervisor and again by the agent (tick §4)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from state.log.principals import DEFAULT_AGENT_ID

CONCURRENCY_FALLBACK = timedelta(seconds=60)
"""A freed place wakes the next mission at once; this is for a wake-up that got lost."""

BROWSER_RUN_GRACE = timedelta(minutes=15)
"""A browser iteration older than this is taken for abandoned."""

Action = Literal["run", "skip", "move", "later"]


class Full(msgspec.Struct, frozen=True):
    """A limit with nothing left: of the `agent`, `user` or `installation`, in `tokens` or `money`.

    `back_at` is when something of it returns.
    """

    scope: str
    unit: str
    back_at: datetime | None


class Standing(msgspec.Struct, frozen=True):
    """Everything the gate looks at; instants are aware, tokens are those of the last 24 h."""

    now: datetime
    state: str
    agent_id: str
    hidden: bool = False
    complete: bool = True
    readable: bool = True
    next_run_at: datetime | None = None
    requested_at: datetime | None = None
    agent_known: bool = False
    agent_state: str | None = None
    max_concurrent: int = 1
    cap: int | None = None
    used: int = 0
    back_at: datetime | None = None
    full: Full | None = None
    running: int = 0
    run_state: str | None = None
    run_due_at: datetime | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    slot_served: bool = False
    slots_from: datetime | None = None
    browser_since: datetime | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The occurrence to run, or a decision with its reason and when to look again.

    `look_at` None means: only a new row can change this.
    """

    action: Action
    due_at: datetime | None = None
    decision: str | None = None
    reason: str = ""
    look_at: datetime | None = None


def verdict(at: Standing) -> Verdict:
    """The gate's answer, conditions in the order of tick §4."""
    if at.state != "active" or at.hidden or not at.complete:
        return Verdict("later")
    due = _occurrence(at)
    if due is None or due > at.now:
        return Verdict("later", look_at=due)
    busy = _live_run(at)
    if busy is not None:
        return Verdict("later", due, look_at=busy)
    if at.requested_at != due and at.run_state is None and _is_past(at):
        return Verdict("move", due)
    return _gated(at, due)


def _occurrence(at: Standing) -> datetime | None:
    """The slot or request that comes first; a run under way keeps its own while it is wanted."""
    wanted = [when for when in (at.requested_at, at.next_run_at) if when is not None]
    if at.run_due_at in wanted:
        return at.run_due_at
    return min(wanted, default=None)


def _live_run(at: Standing) -> datetime | None:
    """When to look again because a run holds or waits for this mission."""
    if at.run_state == "open" and at.lease_until is not None and at.lease_until > at.now:
        return at.lease_until
    if at.run_state == "waiting" and at.not_before is not None and at.not_before > at.now:
        return at.not_before
    return None


def _is_past(at: Standing) -> bool:
    """The slot was served, or fell due before this installation: it moves on instead of running."""
    return at.slot_served or (
        at.slots_from is not None and at.next_run_at is not None and at.next_run_at < at.slots_from
    )


def _gated(at: Standing, due: datetime) -> Verdict:
    if not at.readable:
        return Verdict(
            "skip",
            due,
            "skipped-unreadable",
            "title, objective or concept is encrypted and cannot be read here",
        )
    if not at.agent_known and at.agent_id != DEFAULT_AGENT_ID:
        return Verdict(
            "skip", due, "skipped-missing-agent", "the mission's agent is deleted or unknown"
        )
    if at.agent_known and at.agent_state == "archived":
        return Verdict("skip", due, "skipped-archived", "the agent is archived")
    if at.agent_known and at.agent_state != "active":
        return Verdict("skip", due, "skipped-paused", "the agent is paused")
    if at.running >= at.max_concurrent:
        reason = f"{at.running} of {at.max_concurrent} missions of this agent are running"
        return Verdict("skip", due, "skipped-concurrency", reason, at.now + CONCURRENCY_FALLBACK)
    over = _over_budget(at, due)
    if over is not None:
        return over
    if at.browser_since is not None and at.browser_since + BROWSER_RUN_GRACE > at.now:
        return Verdict(
            "skip",
            due,
            "deferred-browser-run",
            "a browser is running this mission",
            at.browser_since + BROWSER_RUN_GRACE,
        )
    return Verdict("run", due)


def _over_budget(at: Standing, due: datetime) -> Verdict | None:
    if at.cap is not None and at.used >= at.cap:
        reason = (
            f"{at.used} of {at.cap} tokens of the last 24 hours are used"
            if at.cap
            else "the agent's daily token budget is 0"
        )
        look_at = at.back_at if at.cap else None
    elif at.full is not None:
        reason = f"the {at.full.scope}'s limit in {at.full.unit} is used up for these 24 hours"
        look_at = at.full.back_at
    else:
        return None
    return Verdict("skip", due, "skipped-budget", reason, look_at)
