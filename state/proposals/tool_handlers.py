"""What each proposing tool does to records: one table, for all that is carried out here.

Records look as the owner's own clients write them. What is not here takes what only a
device of the owner's has (the web, a model, a picture), or knows: a device carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from state.proposals.collection_handlers import COLLECTIONS
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
    filled,
)

TASKS = TablePlace("todo", "tasks")
NOTES = TablePlace("notes", "notes")
CALENDARS = TablePlace("calendar", "calendars")
EVENTS = TablePlace("calendar", "events")
TIME_BLOCKS = TablePlace("timeblocks", "timeBlocks")
JOURNAL = TablePlace("journal", "journalEntries")
GOALS = TablePlace("companion", "companionGoals")
CONTACTS = TablePlace("contacts", "contacts")
PLACES = TablePlace("places", "places")
HABITS = TablePlace("habits", "habits")
TRANSACTIONS = TablePlace("finance", "transactions")
MOODS = TablePlace("mood", "moodEntries")
DRINKS = TablePlace("drink", "drinkEntries")


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
    if f"#{tag}".casefold() in old.casefold().split():
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


def _place_visited(scene: Scene) -> list[Effect]:
    place = scene.record(PLACES, str(scene.params["placeId"]))
    before = place.get("visitCount")
    count = before + 1 if isinstance(before, int) and not isinstance(before, bool) else 1
    return scene.filled(PLACES, place["id"], {"visitCount": count, "lastVisitedAt": Now.INSTANT})


def _last_drink_removed(scene: Scene) -> list[Effect]:
    """The newest entry by day and time, as its client sorts them."""
    entries = scene.found[DRINKS]
    if not entries:
        raise CannotCarryOut("there is no drink to remove")
    newest = max(entries, key=_when_drunk)
    return [Effect(DRINKS, str(newest["id"]), "delete")]


def _when_drunk(entry: Mapping[str, Any]) -> list[str]:
    return [str(entry.get(name) or "") for name in ("date", "time", "createdAt")]


def _words_counted(scene: Scene) -> list[Effect]:
    """A journal entry of today."""
    made = filled(_ENTRY, JOURNAL, scene) | {"wordCount": len(str(scene.params["content"]).split())}
    return [Effect(JOURNAL, scene.new_id(), "insert", made)]


def _mood_logged(scene: Scene) -> list[Effect]:
    if not 1 <= scene.params["level"] <= 10:
        raise CannotCarryOut("level must be from 1 to 10")
    time = scene.now.astimezone(scene.zone).strftime("%H:%M")
    return [Effect(MOODS, scene.new_id(), "insert", filled(_MOOD, MOODS, scene) | {"time": time})]


def _transaction_added(scene: Scene) -> list[Effect]:
    if scene.params["amount"] <= 0:
        raise CannotCarryOut("amount must be above 0: the type says which way the money went")
    made = filled(_TRANSACTION, TRANSACTIONS, scene)
    return [Effect(TRANSACTIONS, scene.new_id(), "insert", made)]


_ENTRY: Mapping[str, Any] = {
    "title": P("title", None),
    "content": P("content"),
    "entryDate": Now.DAY,
    "mood": P("mood", None),
    "tags": [],
    "isPinned": False,
    "isArchived": False,
    "isFavorite": False,
}
_MOOD: Mapping[str, Any] = {
    "date": Now.DAY,
    "level": P("level"),
    "emotion": P("emotion"),
    "secondaryEmotions": [],
    "activity": P("activity", None),
    "withWhom": "",
    "notes": P("notes", ""),
    "tags": [],
}
_TRANSACTION: Mapping[str, Any] = {
    "type": P("type"),
    "amount": P("amount"),
    "categoryId": None,
    "description": P("description"),
    "date": P("date", Now.DAY),
    "note": None,
}


HANDLERS: Mapping[str, Handler] = {
    **COLLECTIONS,
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
    "create_journal_entry": Custom((), _words_counted),
    "pause_goal": SetFields(
        GOALS, "goalId", {"status": "paused"}, ("status", ("active", None), "it is not active")
    ),
    "resume_goal": SetFields(
        GOALS, "goalId", {"status": "active"}, ("status", ("paused",), "it is not paused")
    ),
    "complete_goal": SetFields(GOALS, "goalId", {"status": "completed"}),
    "create_contact": Create(
        CONTACTS,
        {
            "firstName": P("firstName"),
            "lastName": P("lastName"),
            "email": P("email"),
            "phone": P("phone"),
            "company": P("company"),
            "notes": P("notes"),
            "isFavorite": False,
            "isArchived": False,
        },
    ),
    "create_place": Create(
        PLACES,
        {
            "name": P("name"),
            "latitude": P("latitude"),
            "longitude": P("longitude"),
            "address": P("address"),
            "category": P("category", "other"),
            "isFavorite": False,
            "isArchived": False,
            "visitCount": 0,
            "tagIds": [],
        },
    ),
    "visit_place": Custom((PLACES,), _place_visited),
    "undo_drink": Custom((DRINKS,), _last_drink_removed),
    "create_habit": Create(
        HABITS,
        {
            "title": P("title"),
            "icon": P("icon"),
            "color": P("color"),
            "targetPerDay": None,
            "defaultDuration": None,
            "schedule": None,
            "order": Now.COUNT,
            "isArchived": False,
        },
    ),
    "log_mood": Custom((), _mood_logged),
    "add_transaction": Custom((), _transaction_added),
    "append_to_note": Append(NOTES, "noteId", "content", "content", _line_after),
    "add_tag_to_note": Append(NOTES, "noteId", "content", "tag", _tag_after),
}
