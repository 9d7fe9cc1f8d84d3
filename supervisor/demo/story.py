"""The people of the demo: what they push, and what has to become of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME, user_actor
from state.log.stamps import format_instant, instant_of
from supervisor.demo.client import Change

WAITED = "skipped-concurrency"
RAN = "ran"


class DemoMission(msgspec.Struct, frozen=True):
    """One mission, and the last decision it has to end with."""

    user: str
    agent: str
    id: str
    title: str
    objective: str
    expected: str
    goal: str | None = None


class Push(msgspec.Struct, frozen=True):
    """What one person's client sends to one app."""

    user: str
    app: str
    changes: Sequence[Change]


MISSIONS = (
    DemoMission(
        "anna", DEFAULT_AGENT_ID, "week", "Plan my week", "Plan tasks for the coming week", RAN
    ),
    DemoMission(
        "anna", "coach", "reading", "Keep reading", "Create a task that gets me on", RAN, "books"
    ),
    DemoMission(
        "anna", "coach", "running", "Keep running", "Create a task that gets me on", RAN, "km"
    ),
    DemoMission(
        "bela", DEFAULT_AGENT_ID, "flat", "Tidy the flat", "Write a note of what to tidy", RAN
    ),
    DemoMission(
        "bela", "old", "taxes", "Collect receipts", "Create a task for April", "skipped-archived"
    ),
    DemoMission(
        "cleo",
        DEFAULT_AGENT_ID,
        "garden",
        "The garden",
        "Put a planting day into the calendar",
        RAN,
    ),
    DemoMission(
        "cleo", "resting", "letters", "Write letters", "Create a task for Sunday", "skipped-paused"
    ),
    DemoMission(
        "cleo", "thrifty", "market", "Market day", "Create a task for Friday", "skipped-budget"
    ),
)
ONE_AT_A_TIME = ("anna", "coach")
"""An agent that runs one mission at a time and has two due at once."""

_AGENTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("anna", DEFAULT_AGENT_ID): {"name": DEFAULT_AGENT_NAME},
    ("anna", "coach"): {"name": "Coach", "role": "Keeps goals moving"},
    ("bela", DEFAULT_AGENT_ID): {"name": DEFAULT_AGENT_NAME},
    ("bela", "old"): {"name": "Bookkeeper", "state": "archived"},
    ("cleo", DEFAULT_AGENT_ID): {"name": DEFAULT_AGENT_NAME},
    ("cleo", "resting"): {"name": "Scribe", "state": "paused"},
    ("cleo", "thrifty"): {"name": "Shopper", "maxTokensPerDay": 0},
}
_GOALS: Mapping[str, Mapping[str, Any]] = {
    "books": {
        "title": "Read 12 books",
        "currentValue": 7,
        "target": {"value": 12, "period": "year"},
    },
    "km": {"title": "Run 20 km", "currentValue": 5, "target": {"value": 20, "period": "week"}},
}
_USERS = ("anna", "bela", "cleo")


def pushes(now: datetime, due: datetime) -> list[Push]:
    """Everything the three clients send: goals, agents, missions, and one row that is poison."""
    sent = [Push("anna", "companion", [_goal(goal, now) for goal in _GOALS])]
    for user in _USERS:
        agents = [_agent(owner, agent, now) for owner, agent in _AGENTS if owner == user]
        missions = [_mission(mission, now, due) for mission in MISSIONS if mission.user == user]
        sent.append(Push(user, "ai", agents + missions))
    return [*sent, Push("bela", "ai", [_poison(now)])]


def _goal(goal: str, now: datetime) -> Change:
    return _insert("anna", "companionGoals", goal, dict(_GOALS[goal]), now)


def _agent(user: str, agent: str, now: datetime) -> Change:
    defaults: dict[str, Any] = {
        "role": "",
        "state": "active",
        "maxConcurrentMissions": 1,
        "policy": {"tools": {}, "defaultForAi": "propose"},
    }
    return _insert(user, "agents", agent, {**defaults, **_AGENTS[user, agent]}, now)


def _mission(mission: DemoMission, now: datetime, due: datetime) -> Change:
    inputs = [{"module": "goals", "table": "companionGoals", "id": mission.goal}]
    record = {
        "title": mission.title,
        "conceptMarkdown": "",
        "objective": mission.objective,
        "inputs": inputs if mission.goal else [],
        "cadence": {"kind": "daily", "atHour": 7, "atMinute": 0},
        "state": "active",
        "nextRunAt": _text(due),
        "iterations": [],
        "agentId": mission.agent,
    }
    return _insert(mission.user, "aiMissions", mission.id, record, now)


def _poison(now: datetime) -> Change:
    """An update whose data is a list; its mission carries on as if it had not come."""
    change = _insert("bela", "aiMissions", "flat", {}, now)
    return change | {"op": "update", "data": ["not", "an", "object"]}


def _insert(user: str, table: str, record: str, fields: dict[str, Any], now: datetime) -> Change:
    space = f"_personal:{user}"
    whole = {
        "id": record,
        "createdAt": _text(now),
        "spaceId": space,
        "authorId": user,
        "visibility": "space",
    }
    return {
        "table": table,
        "id": record,
        "op": "insert",
        "spaceId": space,
        "data": whole | fields,
        "actor": user_actor(user),
        "origin": "user",
    }


def _text(at: datetime) -> str:
    return format_instant(instant_of(at))
