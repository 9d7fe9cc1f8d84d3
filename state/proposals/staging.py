"""Which steps of a mission become proposals, and how its record shows what became of them.

The proposals are the truth. The record's `iterations` mirror them, so that every device sees the
states; whatever a device wrote there about a step that is still open counts as its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from state.log.iterations import Author, Iteration, started_at
from state.log.records import ENCRYPTED_PREFIX, Mission
from state.log.stamps import MIN_INSTANT, datetime_of
from state.proposals.answers import MAX_FEEDBACK_CHARS, AnswerRefused
from state.proposals.proposal import Decision, Proposal, State, proposal_id, shown_instant
from state.sealing.derived_text import SHOWN

EXPIRES_AFTER = timedelta(days=30)
MAX_RATIONALE_CHARS = 2000
MOST_FEEDBACK_CHARS = 8000
"""All words on one plan together: the prompts of three more runs hold them."""

STEP_STATUS: dict[State, str] = {
    "pending": "staged",
    "waiting-for-device": "staged",
    "done": "approved",
    "rejected": "rejected",
    "expired": "skipped",
    "refused": "failed",
    "undone": "skipped",
}
"""The word of the record for each state."""

OPEN_STATES: frozenset[State] = frozenset({"pending", "waiting-for-device"})

Steps = Mapping[str, Proposal]
"""The proposals of a mission by step id."""


def state_of_step(step: Mapping[str, Any]) -> State | None:
    """What a record says of a step's proposal, None without one; what was undone looks expired."""
    if step.get("status") == "staged":
        return "waiting-for-device" if step.get("waitsFor") == "device" else "pending"
    told: dict[str, State] = {
        "approved": "done",
        "rejected": "rejected",
        "skipped": "expired",
        "failed": "refused",
    }
    return told.get(str(step.get("status")))


def new_proposals(mission: Mission, author: Author, known: Steps, now: datetime) -> list[Proposal]:
    """A proposal for each planned tool call of a server iteration that has none.

    A step that its record links already was staged elsewhere. `known` are staged ones: a record
    that a device overwrote is linked to them again.
    """
    if mission.deleted:
        return []
    found: list[Proposal] = []
    for iteration in mission.iterations:
        iteration_id = iteration.get("id")
        if iteration.get("source") != "server" or not isinstance(iteration_id, str):
            continue
        for step in _steps(iteration):
            step_id, intent = step.get("id"), _object(step.get("intent"))
            tool = intent.get("toolName")
            is_call = intent.get("kind") == "toolCall" and isinstance(tool, str) and tool
            is_open = step.get("status") == "planned" and not step.get("proposalId")
            if not (is_call and is_open and isinstance(step_id, str) and step_id):
                continue
            if step_id in known or any(step_id == one.step_id for one in found):
                continue
            is_sealed = "sealedFor" in iteration
            params = intent.get("params")
            began = started_at(iteration)  # a plan of long ago is not put to anybody anew
            ends = (now if began == MIN_INSTANT else datetime_of(began)) + EXPIRES_AFTER
            is_over = ends <= now
            found.append(
                Proposal(
                    id=proposal_id(mission.user_id, mission.id, iteration_id, step_id),
                    user_id=mission.user_id,
                    mission_id=mission.id,
                    iteration_id=iteration_id,
                    step_id=step_id,
                    agent_id=author.id,
                    agent_name=author.name,
                    tool=cast("str", tool),
                    params=None if is_sealed else _object(params),
                    rationale=SHOWN if is_sealed else _why(step, iteration, mission),
                    created_at=now,
                    expires_at=ends,
                    state="expired" if is_over else "pending",
                    decision=Decision("auto-expire", now) if is_over else None,
                )
            )
    return found


def mirrored(iterations: Sequence[Iteration], known: Steps) -> list[Iteration]:
    """The iterations with the state of every proposal of theirs; others stay as they are."""
    return [_mirrored(iteration, known) for iteration in iterations]


def commented(
    iterations: Sequence[Iteration], iteration_id: str, words: str
) -> list[Iteration] | None:
    """The iterations with an owner's words on one of them; None where it is not there.

    Raises AnswerRefused for words that are too long, or would make too many.
    """
    if len(words) > MAX_FEEDBACK_CHARS:
        raise AnswerRefused("too-long", f"feedback is over {MAX_FEEDBACK_CHARS} characters")
    shown: list[Iteration] = []
    is_there = False
    for iteration in iterations:
        if iteration.get("id") != iteration_id or is_there:
            shown.append(iteration)
            continue
        is_there = True
        told = _joined(iteration.get("userFeedback"), [words])
        if len(told) > MOST_FEEDBACK_CHARS:
            raise AnswerRefused("too-long", "there is no room for more words on this plan")
        shown.append({**iteration, "userFeedback": told})
    return shown if is_there else None


def told_by_device(iterations: Sequence[Iteration], known: Steps) -> dict[str, str]:
    """By step id, what a device wrote of a step whose proposal nobody has answered here.

    Devices that know no proposals carry planned steps out themselves.
    """
    words = {"approved", "rejected", "failed", "skipped"}
    return {
        step["id"]: step["status"]
        for iteration in iterations
        for step in _steps(iteration)
        if isinstance(step.get("id"), str)
        and step["id"] in known
        and known[step["id"]].iteration_id == iteration.get("id")
        and known[step["id"]].state in ("pending", "waiting-for-device")
        and step.get("status") in words
    }


def _mirrored(iteration: Iteration, known: Steps) -> Iteration:
    plan: list[Any] = []
    changed: list[Proposal] = []
    raw = iteration.get("plan")
    for step in cast("list[Any]", raw) if isinstance(raw, list) else []:
        fields = _object(step)
        proposal = known.get(str(fields.get("id")))
        if proposal is None or proposal.iteration_id != iteration.get("id"):
            plan.append(step)
            continue
        changed.append(proposal)
        shown = {
            **fields,
            "status": STEP_STATUS[proposal.state],
            "proposalId": proposal.id,
        }
        for name in ("waitsFor", "claimedBy", "claimedUntil"):
            shown.pop(name, None)
        if proposal.state == "waiting-for-device":
            shown["waitsFor"] = "device"
            if proposal.claimed_until is not None:
                shown["claimedBy"] = proposal.claimed_by
                shown["claimedUntil"] = shown_instant(proposal.claimed_until)
        if proposal.edited is not None:
            shown["editedParams"] = proposal.edited
        plan.append(shown)
    if not changed:
        return iteration
    if not any(proposal.state in OPEN_STATES for proposal in changed):
        plan = [_skipped_note(step) for step in plan]
    shown = {**iteration, "plan": plan, "overallStatus": _overall(plan)}
    words = [f"{p.tool}: {p.feedback}" for p in changed if p.feedback]
    if words:
        shown["userFeedback"] = _joined(iteration.get("userFeedback"), words)
    return shown


def _skipped_note(step: Any) -> Any:
    """A step that only says something is over once nothing of its plan is open."""
    fields = _object(step)
    is_note = _object(fields.get("intent")).get("kind") == "note"
    is_over = is_note and fields.get("status") == "planned"
    return {**fields, "status": "skipped"} if is_over else step


def _joined(before: object, words: Sequence[str]) -> str:
    """Several reasons in one text, each once, as clients join them."""
    said = before.split("\n· ") if isinstance(before, str) and before else []
    return "\n· ".join(dict.fromkeys((*said, *words)))


def _overall(plan: Sequence[Any]) -> str:
    """What became of an iteration: open while one step is, approved if anything was done."""
    states = [str(_object(step).get("status")) for step in plan]
    if any(state in ("planned", "staged") for state in states):
        return "awaiting-review"
    if "approved" in states:
        return "approved"
    return "failed" if "failed" in states and "rejected" not in states else "rejected"


def _why(step: Mapping[str, Any], iteration: Iteration, mission: Mission) -> str:
    """Why it is proposed: the model's reason, else the step's, the plan's, the mission's words."""
    for text in (
        step.get("rationale"),
        step.get("summary"),
        iteration.get("summary"),
        mission.objective,
    ):
        if isinstance(text, str) and text and not text.startswith(ENCRYPTED_PREFIX):
            return text[:MAX_RATIONALE_CHARS]
    return ""


def _steps(iteration: Mapping[str, Any]) -> list[dict[str, Any]]:
    raw = iteration.get("plan")
    steps = cast("list[Any]", raw) if isinstance(raw, list) else []
    return [fields for step in steps if (fields := _object(step))]


def _object(raw: object) -> dict[str, Any]:
    return cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)
