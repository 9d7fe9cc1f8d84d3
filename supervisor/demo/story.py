"""The people of the demo: what they push, and what has to become of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME, user_actor
from state.log.stamps import text_of
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
        user="anna",
        agent=DEFAULT_AGENT_ID,
        id="week",
        title="Plan my week",
        objective="Plan tasks for the coming week",
        expected=RAN,
    ),
    DemoMission(
        user="anna",
        agent="coach",
        id="reading",
        title="Keep reading",
        objective="Create a task that gets me on",
        expected=RAN,
        goal="books",
    ),
    DemoMission(
        user="anna",
        agent="coach",
        id="running",
        title="Keep running",
        objective="Create a task that gets me on",
        expected=RAN,
        goal="km",
    ),
    DemoMission(
        user="bela",
        agent=DEFAULT_AGENT_ID,
        id="flat",
        title="Tidy the flat",
        objective="Write a note of what to tidy",
        expected=RAN,
    ),
    DemoMission(
        user="bela",
        agent="old",
        id="taxes",
        title="Collect receipts",
        objective="Create a task for April",
        expected="skipped-archived",
    ),
    DemoMission(
        user="cleo",
        agent=DEFAULT_AGENT_ID,
        id="garden",
        title="The garden",
        objective="Put a planting day into the calendar",
        expected=RAN,
    ),
    DemoMission(
        user="cleo",
        agent="resting",
        id="letters",
        title="Write letters",
        objective="Create a task for Sunday",
        expected="skipped-paused",
    ),
    DemoMission(
        user="cleo",
        agent="thrifty",
        id="market",
        title="Market day",
        objective="Create a task for Friday",
        expected="skipped-budget",
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
_DEFAULTS: Mapping[str, Any] = {
    "role": "",
    "state": "active",
    "maxConcurrentMissions": 1,
    "policy": {"tools": {}, "defaultForAi": "propose"},
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
    goals = [
        _insert("anna", "companionGoals", goal, dict(fields), now)
        for goal, fields in _GOALS.items()
    ]
    sent = [Push("anna", "companion", goals)]
    for user in _USERS:
        agents = [
            _insert(user, "agents", agent, {**_DEFAULTS, **fields}, now)
            for (owner, agent), fields in _AGENTS.items()
            if owner == user
        ]
        missions = [_mission(mission, now, due) for mission in MISSIONS if mission.user == user]
        sent.append(Push(user, "ai", agents + missions))
    # An update whose data is a list; its mission carries on as if it had not come.
    poison = _insert("bela", "aiMissions", "flat", {}, now)
    poison |= {"op": "update", "data": ["not", "an", "object"]}
    return [*sent, Push("bela", "ai", [poison])]


def _mission(mission: DemoMission, now: datetime, due: datetime) -> Change:
    inputs = [{"module": "goals", "table": "companionGoals", "id": mission.goal}]
    record = {
        "title": mission.title,
        "conceptMarkdown": "",
        "objective": mission.objective,
        "inputs": inputs if mission.goal else [],
        "cadence": {"kind": "daily", "atHour": 7, "atMinute": 0},
        "state": "active",
        "nextRunAt": text_of(due),
        "iterations": [],
        "agentId": mission.agent,
    }
    return _insert(mission.user, "aiMissions", mission.id, record, now)


def _insert(user: str, table: str, record: str, fields: dict[str, Any], now: datetime) -> Change:
    space = f"_personal:{user}"
    whole = {
        "id": record,
        "createdAt": text_of(now),
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
