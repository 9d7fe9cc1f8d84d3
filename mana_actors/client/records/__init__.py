"""Records in their declared shapes: `client.table(TASKS)` gives each as a struct of its own."""

from typing import Any

from mana_actors.client.records.ai import AGENTS, MISSIONS, AgentRecord, MissionRecord
from mana_actors.client.records.collections import LASTS, LIBRARY, QUESTIONS, QUIZZES, SIGNS
from mana_actors.client.records.daily import (
    CALENDARS,
    CONTACTS,
    DRINKS,
    EVENTS,
    GOALS,
    HABITS,
    JOURNAL,
    KONTEXT,
    MOODS,
    NOTES,
    PLACES,
    PROFILE,
    TASKS,
    TIME_BLOCKS,
    TRANSACTIONS,
    ProfileRecord,
)
from mana_actors.client.records.shape import TypedRecord
from mana_actors.client.table_names import TypedTableName

ALL: tuple[TypedTableName[Any], ...] = (
    AGENTS,
    MISSIONS,
    CALENDARS,
    CONTACTS,
    DRINKS,
    EVENTS,
    GOALS,
    HABITS,
    JOURNAL,
    KONTEXT,
    LASTS,
    LIBRARY,
    MOODS,
    NOTES,
    PLACES,
    PROFILE,
    QUESTIONS,
    QUIZZES,
    SIGNS,
    TASKS,
    TIME_BLOCKS,
    TRANSACTIONS,
)
"""Every table of which a shape is known."""

__all__ = [
    "AGENTS",
    "ALL",
    "CALENDARS",
    "CONTACTS",
    "DRINKS",
    "EVENTS",
    "GOALS",
    "HABITS",
    "JOURNAL",
    "KONTEXT",
    "LASTS",
    "LIBRARY",
    "MISSIONS",
    "MOODS",
    "NOTES",
    "PLACES",
    "PROFILE",
    "QUESTIONS",
    "QUIZZES",
    "SIGNS",
    "TASKS",
    "TIME_BLOCKS",
    "TRANSACTIONS",
    "AgentRecord",
    "MissionRecord",
    "ProfileRecord",
    "TypedRecord",
]
