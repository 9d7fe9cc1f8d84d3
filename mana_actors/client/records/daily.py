"""What people keep of their days: tasks, notes, events, a journal, goals, people, places, money."""

from __future__ import annotations

from msgspec import UNSET

from mana_actors.client.records.shape import (
    Flag,
    Number,
    Object,
    Objects,
    Text,
    Texts,
    TypedRecord,
    Whole,
    table_of,
)
from mana_actors.client.table_names import TableName, TypedTableName
from state.proposals import tool_handlers as places
from state.proposals.effects import TablePlace


class TaskRecord(TypedRecord):
    """Something to do."""

    title: Text = UNSET
    description: Text = UNSET
    priority: Text = UNSET
    is_completed: Flag = UNSET
    completed_at: Text = UNSET
    due_date: Text = UNSET
    scheduled_block_id: Text = UNSET
    estimated_duration: Number = UNSET
    order: Number = UNSET
    subtasks: Objects = UNSET
    metadata: Object = UNSET


class NoteRecord(TypedRecord):
    """A note, in Markdown."""

    title: Text = UNSET
    content: Text = UNSET
    color: Text = UNSET
    is_pinned: Flag = UNSET
    is_archived: Flag = UNSET


class CalendarRecord(TypedRecord):
    """A calendar that events are in."""

    name: Text = UNSET
    color: Text = UNSET
    is_default: Flag = UNSET


class EventRecord(TypedRecord):
    """An appointment; its time is its block's."""

    calendar_id: Text = UNSET
    time_block_id: Text = UNSET
    title: Text = UNSET
    description: Text = UNSET
    location: Text = UNSET
    color: Text = UNSET
    reminders: Objects = UNSET
    tag_ids: Texts = UNSET
    start_date: Text = UNSET


class TimeBlockRecord(TypedRecord):
    """A time that something takes; `source_module` and `source_id` say what."""

    title: Text = UNSET
    description: Text = UNSET
    start_date: Text = UNSET
    end_date: Text = UNSET
    all_day: Flag = UNSET
    is_live: Flag = UNSET
    timezone: Text = UNSET
    recurrence_rule: Text = UNSET
    kind: Text = UNSET
    type: Text = UNSET
    source_module: Text = UNSET
    source_id: Text = UNSET
    linked_block_id: Text = UNSET
    color: Text = UNSET
    icon: Text = UNSET
    project_id: Text = UNSET


class JournalRecord(TypedRecord):
    """An entry of a journal."""

    title: Text = UNSET
    content: Text = UNSET
    entry_date: Text = UNSET
    mood: Text = UNSET
    tags: Texts = UNSET
    word_count: Whole = UNSET
    is_pinned: Flag = UNSET
    is_archived: Flag = UNSET
    is_favorite: Flag = UNSET


class GoalRecord(TypedRecord):
    """A goal and how far it is."""

    title: Text = UNSET
    description: Text = UNSET
    current_value: Number = UNSET
    target: Object = UNSET
    status: Text = UNSET


class ContactRecord(TypedRecord):
    """A person one knows."""

    first_name: Text = UNSET
    last_name: Text = UNSET
    email: Text = UNSET
    phone: Text = UNSET
    company: Text = UNSET
    notes: Text = UNSET
    is_favorite: Flag = UNSET
    is_archived: Flag = UNSET


class PlaceRecord(TypedRecord):
    """A place one goes to."""

    name: Text = UNSET
    description: Text = UNSET
    latitude: Number = UNSET
    longitude: Number = UNSET
    address: Text = UNSET
    category: Text = UNSET
    visit_count: Whole = UNSET
    last_visited_at: Text = UNSET
    tag_ids: Texts = UNSET
    is_favorite: Flag = UNSET
    is_archived: Flag = UNSET


class HabitRecord(TypedRecord):
    """A habit to keep."""

    title: Text = UNSET
    icon: Text = UNSET
    color: Text = UNSET
    target_per_day: Number = UNSET
    default_duration: Number = UNSET
    schedule: Object = UNSET
    order: Number = UNSET
    is_archived: Flag = UNSET


class TransactionRecord(TypedRecord):
    """Money that came or went: `type` says which, `amount` is above 0."""

    type: Text = UNSET
    amount: Number = UNSET
    category_id: Text = UNSET
    description: Text = UNSET
    date: Text = UNSET
    note: Text = UNSET


class MoodRecord(TypedRecord):
    """How one felt, from 1 to 10."""

    date: Text = UNSET
    time: Text = UNSET
    level: Number = UNSET
    emotion: Text = UNSET
    secondary_emotions: Texts = UNSET
    activity: Text = UNSET
    with_whom: Text = UNSET
    notes: Text = UNSET
    tags: Texts = UNSET


class DrinkRecord(TypedRecord):
    """Something drunk."""

    date: Text = UNSET
    time: Text = UNSET
    name: Text = UNSET
    drink_type: Text = UNSET
    quantity_ml: Number = UNSET
    preset_id: Text = UNSET
    note: Text = UNSET


class KontextRecord(TypedRecord):
    """What agents are told of a space, in Markdown."""

    content: Text = UNSET


class ProfileRecord(TypedRecord):
    """What agents are told of their owner; the one record's id is `singleton`."""

    about: Object = UNSET
    interests: Texts = UNSET
    routine: Object = UNSET
    nutrition: Object = UNSET
    leisure: Object = UNSET
    goals: Texts = UNSET
    social: Object = UNSET
    freeform: Text = UNSET
    interview: Object = UNSET


TASKS = table_of(places.TASKS, TaskRecord)
NOTES = table_of(places.NOTES, NoteRecord)
CALENDARS = table_of(places.CALENDARS, CalendarRecord)
EVENTS = table_of(places.EVENTS, EventRecord)
TIME_BLOCKS = table_of(places.TIME_BLOCKS, TimeBlockRecord)
JOURNAL = table_of(places.JOURNAL, JournalRecord)
GOALS = table_of(places.GOALS, GoalRecord)
CONTACTS = table_of(places.CONTACTS, ContactRecord)
PLACES = table_of(places.PLACES, PlaceRecord)
HABITS = table_of(places.HABITS, HabitRecord)
TRANSACTIONS = table_of(places.TRANSACTIONS, TransactionRecord)
MOODS = table_of(places.MOODS, MoodRecord)
DRINKS = table_of(places.DRINKS, DrinkRecord)
KONTEXT = table_of(TablePlace("kontext", "kontextDoc"), KontextRecord)
PROFILE = TypedTableName(TableName("profile", "userContext", "user"), ProfileRecord)
