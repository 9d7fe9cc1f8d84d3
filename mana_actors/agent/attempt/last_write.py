"""How a run ends: the row to write, or why it is withdrawn; pure (P2, tick §12)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from state.log import merge
from state.log.cadence import next_run
from state.log.iterations import Author, append_iteration, iteration_id, row_actor
from state.log.merge import Snapshot
from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME
from state.log.records import Mission, mission_from_record
from state.log.stamps import format_instant, instant_of, parse_instant, winning_stamp
from state.runs.wanted import why_unwanted
from state.store.agent import Commit

Iteration = dict[str, Any]


class Run(msgspec.Struct, frozen=True):
    """What a run knows of itself; `seen` are ids of iterations that were there when it began."""

    user_id: str
    agent_id: str
    mission_id: str
    due_at: datetime
    requested: bool
    seen: frozenset[str] = frozenset()

    @property
    def iteration_id(self) -> str:
        """The id of its iteration: derived from the occurrence, so that retries collapse."""
        return iteration_id(self.user_id, self.mission_id, instant_of(self.due_at) // 1000)


class Withdrawal(msgspec.Struct, frozen=True):
    """The owner no longer wants this occurrence, or somebody else served it."""

    reason: str


class Closing(msgspec.Struct, frozen=True):
    """Everything a closing decides on."""

    run: Run
    snapshot: Snapshot
    agent: dict[str, Any] | None
    agent_name: str
    zone: ZoneInfo
    now: datetime


def close(
    at: Closing, iteration: Iteration, *, failed: bool, steps: int, reason: str | None
) -> Commit | Withdrawal:
    """The commit that carries `iteration`, or the reason to withdraw."""
    mission = mission_from_record(at.run.user_id, at.run.mission_id, at.snapshot.fields)
    unwanted = _unwanted(at, mission)
    if unwanted is not None:
        return Withdrawal(unwanted)
    data: dict[str, Any] = {"iterations": append_iteration(mission.iterations, iteration)}
    following = mission.next_run_at
    if _keeps_slot(at, mission):
        following = next_run(mission.cadence, at.now, at.zone) if mission.cadence else None
        data["nextRunAt"] = None if following is None else format_instant(instant_of(following))
    return Commit(
        state="failed" if failed else "committed",
        data=msgspec.json.encode(data).decode(),
        stamp=_stamp(at, data),
        actor=_actor(at, mission, iteration["id"]),
        next_run_at=following,
        iteration_id=iteration["id"],
        steps=steps,
        reason=reason,
    )


def _unwanted(at: Closing, mission: Mission) -> str | None:
    reason = why_unwanted(
        hidden=merge.hidden(at.snapshot),
        state=mission.state,
        is_ours=(mission.agent_id or DEFAULT_AGENT_ID) == at.run.agent_id,
        agent_hidden=at.agent is not None and bool(at.agent["hidden"]),
        agent_state=None if at.agent is None else at.agent["state"],
    )
    if reason is None and _served_by_browser(at, mission):
        return "a browser served this occurrence"
    return reason


def _served_by_browser(at: Closing, mission: Mission) -> bool:
    if at.run.requested or mission.next_run_at == at.run.due_at:
        return False  # a browser that finishes a run moves the next one
    return any(_is_browser_run_since(iteration, at.run) for iteration in mission.iterations)


def _is_browser_run_since(iteration: Iteration, run: Run) -> bool:
    if iteration.get("source") == "server" or iteration.get("id") in run.seen:
        return False
    finished = iteration.get("finishedAt")
    instant = parse_instant(finished) if isinstance(finished, str) else None
    return (
        instant is not None
        and instant >= instant_of(run.due_at)
        and iteration.get("overallStatus") not in ("failed", "running")
    )


def _keeps_slot(at: Closing, mission: Mission) -> bool:
    """Whether we say when it runs next: not where the owner moved it or a due slot stands."""
    if at.run.requested:
        return mission.next_run_at is None or mission.next_run_at > at.now
    return mission.next_run_at == at.run.due_at


def _stamp(at: Closing, data: dict[str, Any]) -> str:
    """A stamp that wins for every field we write, also against a client clock that runs ahead."""
    now = instant_of(at.now)
    stamps: Sequence[str] = [winning_stamp(now, at.snapshot.stamps.get(field)) for field in data]
    return max(stamps, key=lambda text: parse_instant(text) or 0)


def _actor(at: Closing, mission: Mission, iteration_id: str) -> str:
    author = Author(at.run.agent_id, at.agent_name or DEFAULT_AGENT_NAME)
    return msgspec.json.encode(
        row_actor(mission.id, iteration_id, author, mission.objective)
    ).decode()


def now_text(now: datetime) -> str:
    """The instant as every component writes it: UTC with three fractional digits."""
    return format_instant(instant_of(now) // 1_000_000 * 1_000_000)
