"""Runs of a mission as its record keeps them: from plan to iteration to row."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from state.log.principals import (
    DEFAULT_AGENT_ID,
    DEFAULT_AGENT_NAME,
    SYSTEM_MISSION_RUNNER,
    Actor,
    agent_actor,
    system_actor,
)
from state.log.records import ErrorDetails, MissionIteration, PlanStep, ToolCallIntent
from state.log.stamps import MIN_INSTANT, parse_instant

ITERATION_NAMESPACE = uuid.UUID("5d1a6a5e-6c0f-5b0e-9f43-7a1f1f0c2b11")
KEEP_ITERATIONS = 200
KEEP_BYTES = 262_144
CUT_SHORT = "plan-cut-short"

Iteration = dict[str, Any]


class PlannedStep(msgspec.Struct, frozen=True):
    """A tool call the planner kept; without a summary it is called after its tool."""

    tool_name: str
    params: dict[str, Any]
    summary: str | None = None
    rationale: str = ""


class Author(msgspec.Struct, frozen=True):
    """The agent that signs a row."""

    id: str
    name: str


DEFAULT_AUTHOR = Author(DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME)


def iteration_id(user_id: str, mission_id: str, due_at_us: int) -> str:
    """The id of the one iteration of an occurrence (due time in µs), so that a retry adds none."""
    # Lengths keep two pairs of ids apart whatever characters they hold.
    name = f"{len(user_id)}:{user_id}{len(mission_id)}:{mission_id}{due_at_us}"
    return str(uuid.uuid5(ITERATION_NAMESPACE, name))


def iteration_from_plan(
    steps: Sequence[PlannedStep], summary: str, id_: str, now: str, cut_short: str = ""
) -> Iteration:
    """A finished iteration of ours; without steps there is nothing to review.

    `cut_short` says why the plan is not whole; its owner finds it under `errorDetails`.
    """
    plan = [
        PlanStep(
            id=f"{id_}-{index}",
            summary=step.tool_name if step.summary is None else step.summary,
            intent=ToolCallIntent(step.tool_name, step.params),
            status="planned",
            rationale=step.rationale or UNSET,
        )
        for index, step in enumerate(steps)
    ]
    iteration = MissionIteration(
        id=id_,
        started_at=now,
        finished_at=now,
        plan=plan,
        summary=summary,
        overall_status="awaiting-review" if plan else "approved",
        source="server",
        error_details=ErrorDetails(CUT_SHORT, cut_short) if cut_short else UNSET,
    )
    return msgspec.to_builtins(iteration)


def failed_iteration(id_: str, now: str, name: str, message: str) -> Iteration:
    """The iteration that shows the owner why the last try failed; `message` is not secret."""
    iteration = MissionIteration(
        id=id_,
        started_at=now,
        finished_at=now,
        plan=[],
        summary=message,
        overall_status="failed",
        source="server",
        error_details=ErrorDetails(name, message),
    )
    return msgspec.to_builtins(iteration)


def append_iteration(
    existing: Sequence[Iteration],
    new: Iteration,
    keep: int = KEEP_ITERATIONS,
    max_bytes: int = KEEP_BYTES,
) -> list[Iteration]:
    """`existing` with `new` last, cut to the newest; a finished iteration is never replaced."""
    held = next((old for old in existing if old.get("id") == new.get("id")), None)
    if held is not None and held.get("overallStatus") not in ("failed", "running"):
        return keep_newest(existing, keep, max_bytes)  # a client may have executed its steps since
    others = [old for old in existing if old.get("id") != new.get("id")]
    return keep_newest([*others, new], keep, max_bytes)


def keep_newest(
    iterations: Sequence[Iteration], keep: int = KEEP_ITERATIONS, max_bytes: int = KEEP_BYTES
) -> list[Iteration]:
    """The last `keep` that fit `max_bytes` of JSON together; the very last one always stays."""
    kept: list[Iteration] = []
    size = len("[]")
    for iteration in reversed(iterations):
        size += len(msgspec.json.encode(iteration)) + len(",")
        if kept and (len(kept) >= keep or size > max_bytes):
            break
        kept.append(iteration)
    return kept[::-1]


def merge_iterations(versions: Iterable[Sequence[Iteration]]) -> list[Iteration]:
    """Every iteration of the versions, each from the newest that has it, in order of their start.

    Versions come oldest logged first. So status and feedback of a step are the newest that was
    logged, and an original plan never hides what was done with it since.
    """
    by_id: dict[object, Iteration] = {}
    nameless: list[Iteration] = []
    for version in versions:
        nameless = [item for item in version if not isinstance(item.get("id"), str)]
        by_id.update({item["id"]: item for item in version if isinstance(item.get("id"), str)})
    return sorted([*nameless, *by_id.values()], key=started_at)


def row_actor(
    mission_id: str, iteration_id: str | None, author: Author | None, rationale: str | None
) -> Actor:
    """Who signs the row: the agent, the default agent, or the runner if there is no iteration."""
    if not iteration_id:
        return system_actor(SYSTEM_MISSION_RUNNER)
    agent = author or DEFAULT_AUTHOR
    return agent_actor(
        agent.id,
        agent.name,
        mission_id=mission_id,
        iteration_id=iteration_id,
        rationale=rationale or "",
    )


def started_at(iteration: Iteration) -> int:
    """When it began, in ns; the earliest instant where it does not say."""
    text = iteration.get("startedAt")
    instant = parse_instant(text) if isinstance(text, str) else None
    return MIN_INSTANT if instant is None else instant
