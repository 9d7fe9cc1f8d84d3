"""What a run's last transaction writes: its iteration and the next run, or that it is withdrawn.

Decided on the mission as that transaction sees it, with the rows that are not folded yet. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from state.log import merge
from state.log.cadence import next_run
from state.log.iterations import Author, append_iteration, row_actor
from state.log.merge import Snapshot
from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME
from state.log.records import mission_from_record
from state.log.stamps import MIN_INSTANT, parse_instant, text_of, winning_stamp
from state.runs.occurrence import Closed, Occurrence
from state.runs.reasons import told
from state.runs.withdrawal import is_served_by_browser, why_unwanted

Iteration = dict[str, Any]


class CommitFacts(msgspec.Struct, frozen=True):
    """Everything a commit is decided on; `seen` are ids of iterations from before the run."""

    occurrence: Occurrence
    snapshot: Snapshot
    agent: dict[str, Any] | None
    agent_name: str
    zone: ZoneInfo
    now: datetime
    seen: frozenset[str] = frozenset()


class Commit(msgspec.Struct, frozen=True):
    """What closes a run: the row's data (JSON text), its author, and when it runs next.

    `floor` is the least stamp that wins: the database stamps later where its clock is later.
    """

    state: Closed
    data: str
    floor: str
    actor: str
    next_run_at: datetime | None
    iteration_id: str
    steps: int
    reason: str | None


class Withdrawal(msgspec.Struct, frozen=True):
    """The owner no longer wants this occurrence, or somebody else served it."""

    reason: str


def commit_of(
    at: CommitFacts, iteration: Iteration, *, state: Closed, steps: int, reason: str | None
) -> Commit | Withdrawal:
    """The commit that carries `iteration`, or the reason to withdraw."""
    ours = at.occurrence
    mission = mission_from_record(ours.user_id, ours.mission_id, at.snapshot.fields)
    unwanted = why_unwanted(
        hidden=merge.hidden(at.snapshot),
        state=mission.state,
        is_ours=(mission.agent_id or DEFAULT_AGENT_ID) == ours.agent_id,
        agent_hidden=at.agent is not None and bool(at.agent["hidden"]),
        agent_state=None if at.agent is None else at.agent["state"],
    )
    if unwanted is not None:
        return Withdrawal(unwanted)
    is_our_slot = not ours.requested and mission.next_run_at == ours.due_at
    # A browser that finishes a run moves the next one: where ours stands, it did not serve it.
    if not (ours.requested or is_our_slot) and is_served_by_browser(
        mission.iterations, ours.due_at, at.seen
    ):
        return Withdrawal(told("browser-served"))
    data: Iteration = {"iterations": append_iteration(mission.iterations, iteration)}
    following = mission.next_run_at
    # We say when it runs next, but not where its owner moved that, or a due slot waits its turn.
    if is_our_slot or (ours.requested and (following is None or following > at.now)):
        following = next_run(mission.cadence, at.now, at.zone) if mission.cadence else None
        data["nextRunAt"] = None if following is None else text_of(following)
    # The later of this and the database's clock wins, also against a client that runs ahead.
    before = at.snapshot.stamps
    floors = [winning_stamp(MIN_INSTANT, before.get(field)) for field in data]
    author = Author(ours.agent_id, at.agent_name or DEFAULT_AGENT_NAME)
    return Commit(
        state=state,
        data=msgspec.json.encode(data).decode(),
        floor=max(floors, key=lambda text: parse_instant(text) or 0),
        actor=msgspec.json.encode(
            row_actor(mission.id, iteration["id"], author, mission.objective)
        ).decode(),
        next_run_at=following,
        iteration_id=iteration["id"],
        steps=steps,
        reason=reason,
    )
