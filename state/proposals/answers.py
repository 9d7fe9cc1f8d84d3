"""What an owner may answer to a proposal, and when an answer still counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from state.proposals.proposal import OPEN, Proposal

MAX_FEEDBACK_CHARS = 2000
LONGEST_LATER = timedelta(days=365)


class Approve(msgspec.Struct, frozen=True):
    """Carry it out, with the parameters as they are or with these in their place."""

    params: dict[str, Any] | None = None


class Reject(msgspec.Struct, frozen=True):
    """Do not, and perhaps in words why: the agent reads them before its next plan."""

    feedback: str = ""


class NotNow(msgspec.Struct, frozen=True):
    """Ask again at that time."""

    until: datetime


Answer = Approve | Reject | NotNow


class AnswerRefused(Exception):
    """An answer that does not count any more, or not so; `code` is for programs."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code, why)
        self.code, self.why = code, why

    def __str__(self) -> str:
        return self.why


def is_expired(proposal: Proposal, now: datetime) -> bool:
    """Whether nobody answered in time."""
    ends = proposal.expires_at
    return proposal.state in OPEN and ends is not None and ends <= now


def is_repeated(proposal: Proposal, answer: Answer) -> bool:
    """Whether the same was answered before: asking again changes nothing."""
    match answer:
        case Approve(params=params):
            was_approved = proposal.state in ("done", "waiting-for-device")
            return was_approved and (params is None or params == proposal.effective)
        case Reject():
            return proposal.state == "rejected"
        case NotNow(until=until):
            return proposal.state == "pending" and proposal.not_before == until


def check_answer(proposal: Proposal, answer: Answer, now: datetime) -> None:
    """Raises AnswerRefused where `answer` does not count for `proposal` as it is."""
    may_reject = proposal.state == "waiting-for-device" and isinstance(answer, Reject)
    if may_reject and proposal.claimed_until is not None and proposal.claimed_until > now:
        raise AnswerRefused("claimed", "a device of yours is carrying it out just now")
    if proposal.state not in OPEN and not may_reject:
        raise AnswerRefused("answered", f"it is {proposal.state} already")
    match answer:
        case Approve(params=params) if params is not None and proposal.params is None:
            raise AnswerRefused("sealed", "it is sealed: only your own device can change it")
        case NotNow(until=until) if until <= now:
            raise AnswerRefused("past", "until is in the past")
        case NotNow(until=until) if until > now + LONGEST_LATER:
            raise AnswerRefused("too-late", "until is more than a year ahead")
        case NotNow(until=until) if proposal.expires_at and until >= proposal.expires_at:
            raise AnswerRefused("expires", "it expires before that")
        case Reject(feedback=feedback) if len(feedback) > MAX_FEEDBACK_CHARS:
            raise AnswerRefused("too-long", f"feedback is over {MAX_FEEDBACK_CHARS} characters")
        case _:
            return
