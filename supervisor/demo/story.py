"""The people of the demo: what they write, and what has to become of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from state.log.principals import DEFAULT_AGENT_ID, DEFAULT_AGENT_NAME
from state.log.stamps import text_of
from state.store.sync_log import LogRow

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


class DemoRecord(msgspec.Struct, frozen=True):
    """A record that one person's client makes."""

    user: str
    table: str
    id: str
    fields: Mapping[str, Any]


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
USERS = ("anna", "bela", "cleo")
POISONED = "bela"
POISON = LogRow(
    app_id="ai",
    table_name="aiMissions",
    record_id="flat",
    op="update",
    data=["not", "an", "object"],
    field_meta={},
)
"""A row as only a faulty client writes it: its mission carries on as if it had not come."""


def written(due: datetime) -> list[DemoRecord]:
    """Everything the three people write: goals, agents, missions."""
    goals = [DemoRecord("anna", "companionGoals", goal, fields) for goal, fields in _GOALS.items()]
    agents = [
        DemoRecord(user, "agents", agent, {**_DEFAULTS, **fields})
        for (user, agent), fields in _AGENTS.items()
    ]
    return [*goals, *agents, *(_mission(mission, due) for mission in MISSIONS)]


def _mission(mission: DemoMission, due: datetime) -> DemoRecord:
    inputs = [{"module": "goals", "table": "companionGoals", "id": mission.goal}]
    fields = {
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
    return DemoRecord(mission.user, "aiMissions", mission.id, fields)
