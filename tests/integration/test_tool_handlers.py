"""Each tool that is carried out here, once: what a client reads afterwards, and what undo does."""

import json
from typing import Any

import pytest

from mana_actors.agent.tools.catalogue import catalogue
from state.proposals.answers import Approve
from state.proposals.tool_handlers import HANDLERS
from state.store.gateway.proposals import ProposalStore
from tests.inbox import ME, NOW, call, mission_with, plan, records, staged
from tests.integration.support import Json, World

pytestmark = pytest.mark.one_postgres

BEFORE: dict[tuple[str, str], Json] = {
    ("todo", "tasks"): {"id": "t1", "title": "Steuer machen", "isCompleted": False},
    ("notes", "notes"): {"id": "n1", "title": "Alt", "content": "eins"},
    ("calendar", "calendars"): {"id": "c1", "name": "Mein", "isDefault": True},
    ("companion", "companionGoals"): {"id": "g1", "title": "Lesen", "status": "active"},
    ("places", "places"): {"id": "p1", "name": "Bad", "visitCount": 2},
    ("quiz", "quizzes"): {"id": "q1", "title": "Flüsse", "questionCount": 1},
    ("quiz", "questions"): {"id": "qq1", "quizId": "q1", "questionText": "Aare?", "order": 0},
    ("library", "libraryEntries"): {"id": "l1", "kind": "book", "status": "planned"},
    ("augur", "augurEntries"): {"id": "s1", "claim": "Regen", "outcome": "open"},
    ("lasts", "lasts"): {"id": "la1", "title": "Rauchen", "status": "suspected"},
    ("drink", "drinkEntries"): {"id": "d1", "date": "2026-11-27", "time": "09:00"},
}
PARAMS: dict[str, tuple[Json, str, Json]] = {
    "create_task": ({"title": "Neu"}, "tasks", {"title": "Neu", "isCompleted": False, "order": 1}),
    "complete_task": ({"taskId": "t1"}, "tasks", {"id": "t1", "isCompleted": True}),
    "complete_tasks_by_title": ({"titleMatch": "STEUER"}, "tasks", {"isCompleted": True}),
    "create_event": (
        {"title": "Chor", "startTime": "2026-12-01T19:00:00Z", "endTime": "2026-12-01T21:00:00Z"},
        "events",
        {"title": "Chor", "calendarId": "c1"},
    ),
    "create_note": ({"content": "x"}, "notes", {"content": "x", "title": "", "isPinned": False}),
    "update_note": ({"noteId": "n1", "content": "zwei"}, "notes", {"content": "zwei"}),
    "append_to_note": ({"noteId": "n1", "content": "zwei"}, "notes", {"content": "eins\nzwei"}),
    "add_tag_to_note": ({"noteId": "n1", "tag": "a b"}, "notes", {"content": "eins\n\n#a_b"}),
    "create_journal_entry": (
        {"content": "Ein guter Tag"},
        "journalEntries",
        {"wordCount": 3, "mood": None},
    ),
    "pause_goal": ({"goalId": "g1"}, "companionGoals", {"status": "paused"}),
    "resume_goal": ({"goalId": "g1"}, "companionGoals", {"status": "active"}),
    "complete_goal": ({"goalId": "g1"}, "companionGoals", {"status": "completed"}),
    "create_contact": ({"firstName": "Ada"}, "contacts", {"firstName": "Ada"}),
    "create_place": (
        {"name": "See", "latitude": 46.9, "longitude": 7.4},
        "places",
        {"name": "See", "visitCount": 0, "category": "other"},
    ),
    "visit_place": ({"placeId": "p1"}, "places", {"visitCount": 3}),
    "undo_drink": ({}, "drinkEntries", {}),
    "create_habit": (
        {"title": "Tee", "icon": "leaf", "color": "#00ff00"},
        "habits",
        {"title": "Tee", "isArchived": False},
    ),
    "log_mood": ({"level": 7, "emotion": "calm"}, "moodEntries", {"level": 7, "withWhom": ""}),
    "add_transaction": (
        {"type": "expense", "amount": 4.5, "description": "Brot"},
        "transactions",
        {"amount": 4.5, "categoryId": None},
    ),
    "create_quiz": ({"title": "Seen"}, "quizzes", {"title": "Seen", "questionCount": 0}),
    "update_quiz": ({"quizId": "q1", "isPinned": True}, "quizzes", {"isPinned": True}),
    "add_quiz_question": (
        {"quizId": "q1", "type": "truefalse", "questionText": "Tief?", "optionsJson": "true"},
        "questions",
        {"quizId": "q1", "order": 1, "type": "truefalse", "explanation": None},
    ),
    "update_quiz_question": (
        {"questionId": "qq1", "questionText": "Rhein?"},
        "questions",
        {"questionText": "Rhein?", "quizId": "q1"},
    ),
    "delete_quiz_question": ({"questionId": "qq1"}, "quizzes", {"id": "q1", "questionCount": 0}),
    "create_library_entry": (
        {"kind": "series", "title": "Dark", "creators": "bo Odar, Friese", "rating": 5},
        "libraryEntries",
        {"creators": ["bo Odar", "Friese"], "details": {"kind": "series", "watched": []},
         "status": "planned", "times": 0},
    ),
    "update_library_entry_status": (
        {"entryId": "l1", "status": "dropped"},
        "libraryEntries",
        {"status": "dropped"},
    ),
    "rate_library_entry": ({"entryId": "l1", "rating": 4}, "libraryEntries", {"rating": 4}),
    "capture_sign": (
        {"kind": "omen", "source": "Katze", "claim": "Glück", "probability": 0.7},
        "augurEntries",
        {"outcome": "open", "vibe": "mysterious", "visibility": "private", "probability": 0.7},
    ),
    "resolve_sign": (
        {"entryId": "s1", "outcome": "fulfilled"},
        "augurEntries",
        {"outcome": "fulfilled"},
    ),
    "create_last": (
        {"title": "Schule", "status": "confirmed", "date": "2026-07-01T00:00:00Z"},
        "lasts",
        {"status": "confirmed", "confidence": "certain", "date": "2026-07-01"},
    ),
    "confirm_last": ({"lastId": "la1", "tenderness": 3}, "lasts", {"tenderness": 3}),
    "reclaim_last": ({"lastId": "la1"}, "lasts", {"status": "reclaimed"}),
}  # fmt: skip
WANTED_BEFORE: dict[str, tuple[str, Json]] = {
    "resume_goal": ("companionGoals", {"status": "paused"}),
    "reclaim_last": ("lasts", {"status": "confirmed"}),
}
"""Records that have to be otherwise for a tool."""


def test_every_handler_is_of_a_tool_that_proposes_and_is_tried_here():
    proposing = {name for name, tool in catalogue().items() if tool.default_policy == "propose"}
    assert set(HANDLERS) <= proposing
    assert set(PARAMS) == set(HANDLERS)


async def everything(world: World) -> dict[str, dict[str, Json]]:
    tables = {table for _, table in BEFORE} | {table for _, table, _ in PARAMS.values()}
    return {table: await records(world, table) for table in tables | {"timeBlocks"}}


def without_cleared(found: dict[str, dict[str, Json]]) -> Any:
    """As clients read them: null and absent are one."""
    return {
        table: {
            id_: {name: value for name, value in fields.items() if value is not None}
            for id_, fields in by_id.items()
        }
        for table, by_id in found.items()
    }


@pytest.mark.parametrize("tool", PARAMS)
async def test_a_tool_writes_what_clients_read_and_undo_takes_it_back(
    world: World, store: ProposalStore, tool: str
):
    params, table, expected = PARAMS[tool]
    client = await mission_with(world, plan(call(0, tool, **params)))
    for (app, name), record in BEFORE.items():
        table_before, fields = WANTED_BEFORE.get(tool, ("", {}))
        whole = {"createdAt": NOW, **record, **(fields if name == table_before else {})}
        await client.push("insert", record["id"], whole, table=name, app=app)
    before = await everything(world)
    (proposal,) = await staged(store)
    result = await store.answer(ME, proposal.id, Approve())
    assert result is not None
    assert (result.proposal.state, result.proposal.reason) == ("done", "")
    after = (await everything(world))[table]
    if tool == "undo_drink":
        assert after == {}
    else:
        fitting = [
            id_ for id_, found in after.items() if expected.items() <= {**found, "id": id_}.items()
        ]
        assert fitting, after
    rows = await world.sql(
        "SELECT op, field_meta, data, origin, actor, app_id FROM public.sync_changes"
        " WHERE client_id = 'mana-api' AND table_name <> 'aiMissions'"
    )
    assert rows
    for row in rows:
        meta, data = json.loads(row["field_meta"]), json.loads(row["data"])
        assert row["origin"] == "agent"
        assert json.loads(row["actor"])["kind"] == "ai"
        assert all(isinstance(stamp, str) for stamp in meta.values())
        assert row["op"] == "delete" or set(meta) == set(data) - {"id"}
        assert "updatedAt" not in data
    undone = await store.undo(ME, proposal.id)
    assert undone is not None
    assert (undone.proposal.state, undone.refusal) == ("undone", None)
    assert without_cleared(await everything(world)) == without_cleared(before)


@pytest.mark.parametrize("tool", ["publish_website", "research_news", "create_invoice"])
async def test_a_tool_without_a_handler_waits_for_a_device(
    world: World, store: ProposalStore, tool: str
):
    await mission_with(world, plan(call(0, tool)))
    (proposal,) = await staged(store)
    result = await store.answer(ME, proposal.id, Approve())
    assert result is not None
    assert result.proposal.state == "waiting-for-device"
