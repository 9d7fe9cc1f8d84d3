"""Missions and agents as their records describe them; whatever is wrong there only ever restricts.

Reading never raises: each fault becomes one `problem` that names the field and never its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from state.log.cadence import Cadence, parse_cadence
from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME
from state.log.stamps import datetime_of, parse_instant
from state.rules.policy import DEFAULT_POLICY, AiPolicy, parse_policy

ENCRYPTED_PREFIX = "enc:1:"
MISSION_STATES = frozenset({"active", "paused", "done", "archived"})
AGENT_STATES = frozenset({"active", "paused", "archived"})
MISSED_RUNS = frozenset({"one", "none"})
UNNAMED = "Unnamed"
_MAX_INT = 2**63 - 1

Record = Mapping[str, Any]


class InputRef(msgspec.Struct, frozen=True):
    """A record that a mission reads."""

    module: str
    table: str
    id: str


class Mission(msgspec.Struct, frozen=True):
    """One mission of one user; `next_run_at` is UTC, None where it is not scheduled."""

    id: str
    user_id: str
    title: str = ""
    objective: str = ""
    concept_markdown: str = ""
    inputs: tuple[InputRef, ...] = ()
    cadence: Cadence | None = None
    state: str = "paused"
    next_run_at: datetime | None = None
    missed_runs: str = "one"  # what becomes of due times that nobody looked at: one run, or "none"
    iterations: tuple[dict[str, Any], ...] = ()
    agent_id: str | None = None
    grant: dict[str, Any] | None = None
    space_id: str | None = None
    deleted: bool = False
    readable: bool = True  # False where title, objective or concept arrived as ciphertext
    problems: tuple[str, ...] = ()


class Agent(msgspec.Struct, frozen=True):
    """One agent of one user; a token cap of None is the operator's default, 0 lets nothing run."""

    id: str
    user_id: str
    name: str = UNNAMED
    role: str = ""
    avatar: str | None = None
    system_prompt: str | None = None
    memory: str | None = None
    policy: AiPolicy = DEFAULT_POLICY
    max_tokens_per_day: int | None = None
    max_concurrent: int = 1
    state: str = "active"
    deleted: bool = False
    problems: tuple[str, ...] = ()


class ToolCallIntent(msgspec.Struct, frozen=True, rename="camel", tag_field="kind", tag="toolCall"):
    """A step that calls a tool."""

    tool_name: str
    params: dict[str, Any]


class NoteIntent(msgspec.Struct, frozen=True, tag_field="kind", tag="note"):
    """A step that only says something."""

    body: str


class PlanStep(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One step of a plan; its id is `<iteration id>-<index>`."""

    id: str
    summary: str
    intent: ToolCallIntent | NoteIntent
    status: Literal["planned", "staged", "approved", "rejected", "skipped", "failed"]
    proposal_id: str | UnsetType = UNSET
    rationale: str | UnsetType = UNSET  # ours: why the model proposes it


class ErrorDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an iteration failed."""

    name: str
    message: str
    phase: str | UnsetType = UNSET
    stack: str | UnsetType = UNSET


class MissionIteration(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One run of a mission on the wire; instants are text."""

    id: str
    started_at: str
    plan: list[PlanStep]
    overall_status: Literal["running", "awaiting-review", "approved", "rejected", "failed"]
    finished_at: str | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    user_feedback: str | UnsetType = UNSET
    source: Literal["browser", "server"] | UnsetType = UNSET
    error_details: ErrorDetails | UnsetType = UNSET
    current_phase: str | UnsetType = UNSET
    phase_started_at: str | UnsetType = UNSET
    phase_detail: str | UnsetType = UNSET
    cancel_requested: bool | UnsetType = UNSET


def mission_from_record(user_id: str, mission_id: str, record: Record) -> Mission:
    """The mission a merged record describes, tolerant and restrictive, with its problems."""
    problems: list[str] = []
    title = _shown_text(record, "title", problems)
    objective = _shown_text(record, "objective", problems)
    concept = _shown_text(record, "conceptMarkdown", problems)
    readable = not any(text.startswith(ENCRYPTED_PREFIX) for text in (title, objective, concept))
    if not readable:
        problems.append("title, objective or conceptMarkdown: encrypted, unreadable here")
    inputs = _inputs(record.get("inputs"), problems)
    cadence = parse_cadence(record.get("cadence"))
    if isinstance(cadence, str):
        problems.append(cadence)
    return Mission(
        id=mission_id,
        user_id=user_id,
        title=title,
        objective=objective,
        concept_markdown=concept,
        inputs=inputs,
        cadence=None if isinstance(cadence, str) else cadence,
        state=_state(record.get("state"), MISSION_STATES, problems),
        next_run_at=_next_run_at(record.get("nextRunAt"), problems),
        missed_runs=_missed_runs(record.get("missedRuns"), problems),
        iterations=_objects(record.get("iterations"), "iterations", problems),
        agent_id=_text_or_none(record, "agentId", problems),
        grant=_grant(record.get("grant"), problems),
        space_id=_text_or_none(record, "spaceId", problems),
        deleted=is_deleted(record),
        readable=readable,
        problems=tuple(problems),
    )


def agent_from_record(user_id: str, agent_id: str, record: Record) -> Agent:
    """The agent a merged record describes, tolerant and restrictive, with its problems."""
    problems: list[str] = []
    policy, policy_problems = parse_policy(record.get("policy"))
    problems.extend(policy_problems)
    return Agent(
        id=agent_id,
        user_id=user_id,
        name=_shown_text(record, "name", problems) or UNNAMED,
        role=_shown_text(record, "role", problems),
        avatar=_text_or_none(record, "avatar", problems),
        system_prompt=_text_or_none(record, "systemPrompt", problems),
        memory=_text_or_none(record, "memory", problems),
        policy=policy,
        max_tokens_per_day=_token_cap(record.get("maxTokensPerDay"), problems),
        max_concurrent=_concurrency(record.get("maxConcurrentMissions"), problems),
        state=_state(record.get("state"), AGENT_STATES, problems, missing="active"),
        deleted=is_deleted(record),
        problems=tuple(problems),
    )


def input_refs(raw: object) -> tuple[InputRef, ...]:
    """The well-formed input references of a record's `inputs`."""
    return _inputs(raw, [])


def default_agent(user_id: str) -> Agent:
    """The agent a mission without `agentId` belongs to, where its record is absent."""
    return Agent(id=DEFAULT_AGENT_ID, user_id=user_id, name=DEFAULT_AGENT_NAME)


def is_deleted(record: Record) -> bool:
    """Whether `deletedAt` is set; an empty text is not."""
    return record.get("deletedAt") not in (None, "")


def is_due(mission: Mission, now: datetime) -> bool:
    """Whether an active, undeleted mission's `next_run_at` has come; `now` is aware."""
    if mission.state != "active" or mission.deleted or mission.next_run_at is None:
        return False
    return mission.next_run_at <= now


# --- one reader per kind of field -----------------------------------------------------------------


def _shown_text(record: Record, field: str, problems: list[str]) -> str:
    """Text to show; numbers and booleans as JavaScript prints them, anything else is empty."""
    value = record.get(field)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if value == value // 1 and abs(value) < 1e21 else repr(value)
    if value is not None:
        problems.append(f"{field}: not text")
    return ""


def _text_or_none(record: Record, field: str, problems: list[str]) -> str | None:
    value = record.get(field)
    if value is None or isinstance(value, str):
        return value or None
    problems.append(f"{field}: not text, ignored")
    return None


def _objects(raw: object, field: str, problems: list[str]) -> tuple[dict[str, Any], ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        problems.append(f"{field}: not a list, taken as empty")
        return ()
    entries = cast("list[Any]", raw)
    kept = tuple(cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict))
    if len(kept) < len(entries):
        problems.append(f"{field}: {len(entries) - len(kept)} entries are not objects, ignored")
    return kept


def _inputs(raw: object, problems: list[str]) -> tuple[InputRef, ...]:
    entries = _objects(raw, "inputs", problems)
    named: list[tuple[Any, Any, Any]] = [
        (e.get("module"), e.get("table"), e.get("id")) for e in entries
    ]
    refs = tuple(
        InputRef(*parts) for parts in named if all(isinstance(p, str) and p for p in parts)
    )
    if len(refs) < len(entries):
        problems.append(f"inputs: {len(entries) - len(refs)} entries without module, table or id")
    return refs


def _state(
    raw: object, known: frozenset[str], problems: list[str], *, missing: str | None = None
) -> str:
    if isinstance(raw, str) and raw in known:
        return raw
    if raw is None and missing is not None:
        return missing
    problems.append("state: unknown, taken as paused")
    return "paused"


def _next_run_at(raw: object, problems: list[str]) -> datetime | None:
    if raw is None or raw == "":
        return None
    instant = parse_instant(raw) if isinstance(raw, str) else None
    if instant is None:
        problems.append("nextRunAt: not an instant, never due")
        return None
    return datetime_of(instant)


def _missed_runs(raw: object, problems: list[str]) -> str:
    if raw is None:
        return "one"
    if isinstance(raw, str) and raw in MISSED_RUNS:
        return raw
    problems.append("missedRuns: unknown, taken as one")
    return "one"


def _grant(raw: object, problems: list[str]) -> dict[str, Any] | None:
    if raw is None or isinstance(raw, dict):
        return cast("dict[str, Any] | None", raw)
    problems.append("grant: not an object, ignored")
    return None


def _number(raw: object) -> float | None:
    """A finite number, or None; a boolean is not a number here."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        return raw if math.isfinite(raw) else None
    except OverflowError:
        return None


def _token_cap(raw: object, problems: list[str]) -> int | None:
    if raw is None:
        return None
    number = _number(raw)
    if number is None or number < 0:
        problems.append("maxTokensPerDay: must be a number of at least 0, taken as 0")
        return 0
    return min(int(number), _MAX_INT)


def _concurrency(raw: object, problems: list[str]) -> int:
    if raw is None:
        return 1
    number = _number(raw)
    if number is None or number < 0 or number != int(number):
        problems.append("maxConcurrentMissions: must be a whole number, 0 or more, taken as 1")
        return 1
    return min(int(number), _MAX_INT)
