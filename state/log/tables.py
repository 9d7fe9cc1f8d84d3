"""Where records live in the log: the app of an input's module, the table of a reading tool."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from state.log.records import InputRef
from state.rules.policy import DENY_ALL, AiPolicy, decide

INPUT_APPS = {
    "goals": "companion",
    "notes": "notes",
    "tasks": "todo",
    "todo": "todo",
    "calendar": "calendar",
    "journal": "journal",
    "kontext": "kontext",
    "profile": "profile",
}

INPUT_TABLES = {
    "goals": "companionGoals",
    "notes": "notes",
    "tasks": "tasks",
    "todo": "tasks",
    "calendar": "events",
    "journal": "journalEntries",
    "kontext": "kontextDoc",
    "profile": "userContext",
}
"""The table that a module's records are in, where an input does not say."""


class ReadTable(msgspec.Struct, frozen=True):
    """The table that a reading tool of `module` reads."""

    module: str
    app: str
    table: str


_TASKS = ReadTable("todo", "todo", "tasks")
_GOALS = ReadTable("goals", "companion", "companionGoals")
_TRANSACTIONS = ReadTable("finance", "finance", "transactions")

READ_TABLES = {
    "list_tasks": _TASKS,
    "get_task_stats": _TASKS,
    "list_notes": ReadTable("notes", "notes", "notes"),
    "list_goals": _GOALS,
    "get_goal_progress": _GOALS,
    "get_habits": ReadTable("habits", "habits", "habits"),
    "get_contacts": ReadTable("contacts", "contacts", "contacts"),
    "get_places": ReadTable("places", "places", "places"),
    "list_articles": ReadTable("articles", "articles", "articles"),
    "list_transactions": _TRANSACTIONS,
    "get_month_summary": _TRANSACTIONS,
}
"""By tool. A tool that is not listed cannot be carried out by an agent and is never offered.

The tables of tasks, notes and goals are known from their records. The others are guesses: what the
module's clients call the things they keep. A wrong guess reads nothing.
"""


def scope_of(inputs: Iterable[InputRef], policy: AiPolicy = DENY_ALL) -> list[str]:
    """The capability's scope, sorted: `app/table/record` of each input, and `app/table/*`.

    A whole table is listed where `policy` lets a tool read it without asking; its records are then
    not listed one by one.
    """
    tables = {
        f"{of.app}/{of.table}/"
        for tool, of in READ_TABLES.items()
        if decide(tool, of.module, "auto", policy) == "auto"
    }
    listed = {
        (f"{INPUT_APPS[ref.module]}/{ref.table}/", ref.id)
        for ref in inputs
        if ref.module in INPUT_APPS
    }
    records = {table + record for table, record in listed if table not in tables}
    return sorted(records | {f"{table}*" for table in tables})


def is_shared_space(space: str | None) -> bool:
    """Whether a space has other members; rows there are never sealed."""
    return bool(space) and not space.startswith("_personal:")
