"""What an order can end in, and what follows from each ending; the only place that says so. Pure.

An ending travels in the report of an agent's process. That report only informs: a decision that a
transaction caused was noted in that transaction, since a report can be lost with its process.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, assert_never

import msgspec

from state.runs.decision import Decision


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """A plan was written; `reason` says what it lacks, if anything."""

    due_at: datetime
    iteration_id: str
    steps: int
    reason: str = ""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last try failed: the owner sees a failed iteration, and the mission moves on."""

    due_at: datetime
    iteration_id: str
    reason: str


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """Its owner wants it no longer, or a browser served it; `is_news` False: closed by another."""

    due_at: datetime
    reason: str
    is_news: bool = True


class SkippedForGrant(msgspec.Struct, frozen=True, tag="skipped-grant"):
    """Its encrypted inputs have no usable grant; `is_news`: the mission's decision changed."""

    due_at: datetime
    reason: str
    look_at: datetime | None
    is_news: bool


class WaitsForRoom(msgspec.Struct, frozen=True, tag="waits-for-room"):
    """No budget for its first call; the database knows when to look again."""

    due_at: datetime
    reason: str
    is_news: bool


class Waits(msgspec.Struct, frozen=True, tag="waiting"):
    """It comes again: after a back-off, or since its run waits already."""

    due_at: datetime | None
    look_at: datetime
    reason: str = ""


class Skipped(msgspec.Struct, frozen=True, tag="skip"):
    """A gate or a full agent refused it, and nothing has noted that yet."""

    decision: Decision
    reason: str
    due_at: datetime | None
    look_at: datetime | None


class Later(msgspec.Struct, frozen=True, tag="later"):
    """There was nothing to run, or no process to run it in."""

    look_at: datetime | None


class NotWanted(msgspec.Struct, frozen=True, tag="unwanted"):
    """The mission is gone, paused or another agent's."""

    look_at: datetime | None = None


class Held(msgspec.Struct, frozen=True, tag="held"):
    """Another process has the run."""

    look_at: datetime


class Early(msgspec.Struct, frozen=True, tag="early"):
    """It is not due by the database's clock."""

    look_at: datetime


class Served(msgspec.Struct, frozen=True, tag="served"):
    """The occurrence was served already."""


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    """The occurrence is not the mission's next one any more."""


class Moves(msgspec.Struct, frozen=True, tag="move"):
    """Nobody has to serve the slot: the supervisor writes the next one."""


class TakenOver(msgspec.Struct, frozen=True, tag="superseded"):
    """Another attempt took the run over, or somebody closed it."""


class CapabilityRefused(msgspec.Struct, frozen=True, tag="capability-invalid"):
    """The database did not take the process's capability."""


class Interrupted(msgspec.Struct, frozen=True, tag="interrupted"):
    """Database or process was gone: the lease, or the look set with the order, covers it."""

    reason: str = ""


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """A bug; `reason` is the error's type."""

    reason: str


class Healed(msgspec.Struct, frozen=True, tag="healed"):
    """What a client's write erased is back."""


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """Nothing had to be healed."""


Outcome = (
    Ran
    | Failed
    | Withdrawn
    | SkippedForGrant
    | WaitsForRoom
    | Waits
    | Skipped
    | Later
    | NotWanted
    | Held
    | Early
    | Served
    | Stale
    | Moves
    | TakenOver
    | CapabilityRefused
    | Interrupted
    | Broken
    | Healed
    | Whole
)


class LookAt(msgspec.Struct, frozen=True):
    """Look again at this time, or None: when a new row comes; unless the record changed since."""

    at: datetime | None


NextLook = Literal["as-set", "now", "now-if-put-off"] | LookAt
"""When to look at the mission again.

`as-set`: its transaction, or the order, said when. `now-if-put-off`: at once though the record
changed meanwhile, since a look while it was under way may have put it off.
"""

Counted = Literal["plan", "error", "failure"]
"""What metrics and ticks count: plans written, orders that met an error, tries that failed."""


class FollowUp(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever gave the order does about its ending."""

    look: NextLook = "as-set"
    decision: Decision | None = None
    due_at: datetime | None = None
    reason: str = ""
    notes: bool = False  # the decision is to be noted: no transaction did
    is_news: bool = False  # its transaction noted the decision, and it counts
    counts: tuple[Counted, ...] = ()
    wakes_next: bool = True  # a mission that was told to wait for a place may have it
    rechecks: bool = False  # a pause may have been folded just before it began to wait


def after(outcome: Outcome) -> FollowUp:  # noqa: PLR0911 - a table: one row per ending
    """What an ending leads to."""
    match outcome:
        case Ran(due_at=due, reason=why):
            return FollowUp(decision="ran", due_at=due, reason=why, is_news=True, counts=("plan",))
        case Failed(due_at=due, reason=why):
            counts = "error", "failure"
            return FollowUp(decision="failed", due_at=due, reason=why, is_news=True, counts=counts)
        case Withdrawn(due_at=due, reason=why, is_news=news):
            decision = "withdrawn" if news else None
            return FollowUp(
                look="now-if-put-off", decision=decision, due_at=due, reason=why, is_news=news
            )
        case SkippedForGrant(due_at=due, reason=why, look_at=at, is_news=news):
            return FollowUp(
                look=LookAt(at), decision="skipped-grant", due_at=due, reason=why, is_news=news
            )
        case WaitsForRoom(due_at=due, reason=why, is_news=news):
            return FollowUp(
                decision="skipped-budget",
                due_at=due,
                reason=why,
                is_news=news,
                counts=("failure",),
                rechecks=True,
            )
        case Waits(due_at=due, look_at=at, reason=why):
            return FollowUp(
                look=LookAt(at), due_at=due, reason=why, counts=("failure",), rechecks=True
            )
        case Skipped(decision=decision, reason=why, due_at=due, look_at=at):
            return FollowUp(
                look=LookAt(at),
                decision=decision,
                due_at=due,
                reason=why,
                notes=True,
                wakes_next=False,  # it would wake itself, for ever
            )
        case Later(look_at=at):
            return FollowUp(look=LookAt(at), wakes_next=False)
        case NotWanted(look_at=at) | Held(look_at=at) | Early(look_at=at):
            return FollowUp(look=LookAt(at))
        case Served() | Stale() | Moves():
            return FollowUp(look="now")
        case TakenOver():
            return FollowUp(look="now-if-put-off")
        case CapabilityRefused():
            return FollowUp(counts=("error",))
        case Interrupted(reason=why) | Broken(reason=why):
            return FollowUp(reason=why, counts=("error",))
        case Healed() | Whole():
            return FollowUp()
        case _:
            assert_never(outcome)


def word(outcome: Outcome) -> str:
    """The ending in a word, for a line of a tick's report."""
    match outcome:
        case SkippedForGrant():
            return "skip"
        case WaitsForRoom():
            return "waiting"
        case _:
            return str(outcome.__struct_config__.tag)
