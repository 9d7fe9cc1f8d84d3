"""May this occurrence run now? Pure; asked by the supervisor and again by the agent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from state.log.principals import DEFAULT_AGENT_ID
from state.runs.decision import Decision
from state.runs.occurrence import RunState
from state.runs.reasons import told

CONCURRENCY_FALLBACK = timedelta(seconds=60)
"""A freed place wakes the next mission at once; this is for a wake-up that got lost."""

PLACE_PATIENCE = timedelta(seconds=20)
"""After so long in its process without a place, an order's owner is told that the agent is busy."""

DISK_FALLBACK = timedelta(minutes=5)
"""Room wakes what waits for it at once; this is for a wake-up that got lost."""

BROWSER_RUN_GRACE = timedelta(minutes=15)
"""A browser iteration older than this is taken for abandoned."""


MISSED_AFTER = timedelta(minutes=15)
"""A slot that nobody began to serve for this long was missed, for missions that say so of them."""


class Full(msgspec.Struct, frozen=True):
    """A limit with nothing left: of the `agent`, `user` or `installation`, in `tokens` or `money`.

    `back_at` is when something of it returns.
    """

    scope: str
    unit: str
    back_at: datetime | None


class GateFacts(msgspec.Struct, frozen=True):
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
    max_concurrent: int | None = None
    cap: int | None = None
    used: int = 0
    back_at: datetime | None = None
    full: Full | None = None
    running: int = 0
    run_state: RunState | None = None
    run_due_at: datetime | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    slot_served: bool = False
    slots_from: datetime | None = None
    has_left_space: bool = False  # its owner is no member of its space any more
    agent_of_another: bool = False  # of a member of its space, while its owner has none of the id
    leaves_missed: bool = False  # its owner wants no run for slots that were missed
    browser_since: datetime | None = None
    has_room: bool = True  # on the disks that a run writes to

    @property
    def places(self) -> int:
        """How many missions of it may run at once; one where its record is absent or deleted."""
        known = self.max_concurrent if self.agent_known else None
        return 1 if known is None else known


class GateAnswer(msgspec.Struct, frozen=True):
    """The occurrence to run, or a decision with its reason and when to look again.

    `look_at` None means: only a new row can change this.
    """

    action: Literal["run", "skip", "move", "later"]
    due_at: datetime | None = None
    decision: Decision | None = None
    reason: str = ""
    look_at: datetime | None = None


def gate(at: GateFacts) -> GateAnswer:
    """Whether to run, and which occurrence; or what to tell its owner instead."""
    if at.state != "active" or at.hidden or not at.complete:
        return GateAnswer("later")
    # A run under way keeps its occurrence while that is still asked for; else the first comes.
    occurrences = [when for when in (at.requested_at, at.next_run_at) if when is not None]
    due = at.run_due_at if at.run_due_at in occurrences else min(occurrences, default=None)
    if due is None or due > at.now:
        return GateAnswer("later", look_at=due)
    busy_until = {"open": at.lease_until, "waiting": at.not_before}.get(at.run_state or "")
    if busy_until is not None and busy_until > at.now:
        return GateAnswer("later", due, look_at=busy_until)
    is_from_before = at.slots_from is not None and due < at.slots_from  # this installation
    is_missed = at.leaves_missed and due + MISSED_AFTER < at.now
    if at.requested_at != due and at.run_state is None:
        if at.slot_served or is_from_before:
            return GateAnswer("move", due)
        if is_missed:
            return GateAnswer("move", due, "skipped-missed", told("slot-missed"))
    refused = _refusal(at)
    return GateAnswer("run", due) if refused is None else GateAnswer("skip", due, *refused)


def _refusal(at: GateFacts) -> tuple[Decision, str, datetime | None] | None:
    """The first reason against a run that is due, and when it may be over; None: it may run."""
    refused: tuple[Decision, str, datetime | None] | None = None
    if at.has_left_space:
        refused = "skipped-left-space", told("left-space"), None
    elif not at.readable:
        refused = "skipped-unreadable", told("unreadable"), None
    elif not at.agent_known and at.agent_id != DEFAULT_AGENT_ID:
        why = told("agent-of-another" if at.agent_of_another else "missing-agent")
        refused = "skipped-missing-agent", why, None
    elif at.agent_known and at.agent_state == "archived":
        refused = "skipped-archived", told("agent-archived"), None
    elif at.agent_known and at.agent_state != "active":
        refused = "skipped-paused", told("agent-paused"), None
    elif at.running >= at.places:
        reason = told("agent-busy", running=at.running, places=at.places)
        refused = "skipped-concurrency", reason, at.now + CONCURRENCY_FALLBACK
    elif at.cap == 0:
        refused = "skipped-budget", told("budget-zero"), None
    elif at.cap is not None and at.used >= at.cap:
        reason = told("budget-used", used=at.used, most=at.cap)
        refused = "skipped-budget", reason, at.back_at
    elif at.full is not None:
        reason = told("limit-used", scope=at.full.scope, unit=at.full.unit)
        refused = "skipped-budget", reason, at.full.back_at
    elif at.browser_since is not None and at.browser_since + BROWSER_RUN_GRACE > at.now:
        again = at.browser_since + BROWSER_RUN_GRACE
        refused = "deferred-browser-run", told("browser-runs"), again
    elif not at.has_room:
        refused = "deferred-disk-full", told("disk-full"), at.now + DISK_FALLBACK
    return refused
