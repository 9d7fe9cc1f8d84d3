"""What each proposing tool does to records: one table, which the offer asks too.

Records look as the owner's own clients write them. A tool that is not here is not offered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from state.proposals.effects import (
    Append,
    CannotCarryOut,
    Create,
    Custom,
    Effect,
    Handler,
    Now,
    P,
    Scene,
    SetFields,
    TablePlace,
)

TASKS = TablePlace("todo", "tasks")
NOTES = TablePlace("notes", "notes")
CALENDARS = TablePlace("calendar", "calendars")
EVENTS = TablePlace("calendar", "events")
TIME_BLOCKS = TablePlace("timeblocks", "timeBlocks")
JOURNAL = TablePlace("journal", "journalEntries")
GOALS = TablePlace("companion", "companionGoals")


def _line_after(before: Any, added: Any) -> str:
    """The text with one more line."""
    old, new = str(before or ""), str(added).strip()
    if not new:
        raise CannotCarryOut("content says nothing")
    return f"{old}\n{new}" if old and not old.endswith("\n") else f"{old}{new}"


def _tag_after(before: Any, added: Any) -> str:
    """The text with a hashtag in a paragraph of its own, unless it has it in whatever case."""
    old, tag = str(before or ""), "_".join(str(added).lstrip("#").split())
    if not tag:
        raise CannotCarryOut("tag says nothing")
    if re.search(rf"(^|\s)#{re.escape(tag)}(\s|$)", old, re.IGNORECASE):
        return old
    return f"{old}\n\n#{tag}" if old and not old.endswith("\n") else f"{old}#{tag}"


_DONE = {"isCompleted": True, "completedAt": Now.INSTANT}


def _tasks_done_by_title(scene: Scene) -> list[Effect]:
    wanted = str(scene.params["titleMatch"]).strip().lower()
    found = [
        task
        for task in scene.found[TASKS]
        if task.get("isCompleted") is not True
        and wanted
        and wanted in scene.text(task, "title").lower()
    ]
    if not found:
        raise CannotCarryOut("no open task has such a title")
    return [effect for task in found for effect in scene.filled(TASKS, str(task["id"]), _DONE)]


def _event_made(scene: Scene) -> list[Effect]:
    """An event and the block of time it takes, in the default calendar."""
    calendars = scene.found[CALENDARS]
    if not calendars:
        raise CannotCarryOut("there is no calendar")
    calendar = next((c for c in calendars if c.get("isDefault") is True), calendars[0])
    event, block, params = scene.new_id(), scene.new_id(1), scene.params
    said: Mapping[str, Any] = {
        "title": params["title"],
        "description": params.get("description"),
    }
    time: dict[str, Any] = {
        **said,
        "startDate": params["startTime"],
        "endDate": params["endTime"],
        "allDay": params.get("isAllDay", False),
        "isLive": False,
        "timezone": None,
        "recurrenceRule": None,
        "kind": "scheduled",
        "type": "event",
        "sourceModule": "calendar",
        "sourceId": event,
        "linkedBlockId": None,
        "color": None,
        "icon": None,
        "projectId": None,
    }
    about: dict[str, Any] = {
        **said,
        "calendarId": calendar["id"],
        "timeBlockId": block,
        "location": params.get("location"),
        "color": None,
        "reminders": None,
    }
    return [Effect(TIME_BLOCKS, block, "insert", time), Effect(EVENTS, event, "insert", about)]


HANDLERS: Mapping[str, Handler] = {
    "create_task": Create(
        TASKS,
        {
            "title": P("title"),
            "description": P("description"),
            "priority": P("priority", "medium"),
            "isCompleted": False,
            "dueDate": P("dueDate", None),
            "scheduledBlockId": None,
            "estimatedDuration": None,
            "order": Now.COUNT,
        },
    ),
    "complete_task": SetFields(TASKS, "taskId", _DONE),
    "complete_tasks_by_title": Custom((TASKS,), _tasks_done_by_title),
    "create_event": Custom((CALENDARS,), _event_made),
    "create_note": Create(
        NOTES,
        {
            "title": P("title", ""),
            "content": P("content"),
            "color": None,
            "isPinned": False,
            "isArchived": False,
        },
    ),
    "update_note": SetFields(NOTES, "noteId", {"title": P("title"), "content": P("content")}),
    "append_to_note": Append(NOTES, "noteId", "content", "content", _line_after),
    "add_tag_to_note": Append(NOTES, "noteId", "content", "tag", _tag_after),
}
