"""Missions as people write them, with the tools that a good plan of each needs.

The rubric of an offer: every tool that is needed is offered at first, or the one question `asks`
brings it in. What a mission needs was written down from its text, before any offer was computed.
"""

from __future__ import annotations

import msgspec

from mana_actors.agent.planner.loop import LoopInput, opening
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.agent.planner.subagents import with_sub_agents
from mana_actors.agent.tools.catalogue import FIND_TOOLS, proposing_tools
from mana_actors.agent.tools.offer import Offered
from mana_actors.agent.tools.reading.readers import READERS
from state.log.records import Agent, InputRef, Mission
from state.rules.policy import DEFAULT_POLICY, AiPolicy

PROPOSE = AiPolicy()


class Wanted(msgspec.Struct, frozen=True):
    """A mission, what its plan needs, and the words it asks for what is missing, if anything is."""

    name: str
    title: str
    objective: str
    needs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    concept: str = ""
    policy: AiPolicy = DEFAULT_POLICY
    asks: str = ""


DEMO = (
    Wanted(
        "demo week",
        "Plan my week",
        "Plan tasks for the coming week",
        ("create_task",),
        policy=PROPOSE,
    ),
    Wanted(
        "demo reading",
        "Keep reading",
        "Create a task that gets me on",
        ("create_task",),
        ("goals",),
        policy=PROPOSE,
    ),
    Wanted(
        "demo flat",
        "Tidy the flat",
        "Write a note of what to tidy",
        ("create_note",),
        policy=PROPOSE,
    ),
    Wanted(
        "demo garden",
        "The garden",
        "Put a planting day into the calendar",
        ("create_event",),
        policy=PROPOSE,
    ),
)
"""Those of `mana demo` that run."""

OTHERS = (
    Wanted(
        "Wochenplan",
        "Wochenplan",
        "Sieh dir meine offenen Aufgaben an und plane die Woche mit Terminen",
        ("list_tasks", "create_task", "create_event"),
    ),
    Wanted(
        "Einkauf",
        "Einkaufsliste",
        "Lege für den Samstagseinkauf Aufgaben an und hake erledigte ab",
        ("create_task", "complete_task", "list_tasks"),
    ),
    Wanted(
        "overdue tasks",
        "Clean up overdue tasks",
        "Close what is done and set new dates for the rest",
        ("list_tasks", "complete_task", "create_task"),
    ),
    Wanted(
        "Arzttermine",
        "Vorsorge",
        "Trage die Arzttermine dieses Jahres in den Kalender ein",
        ("create_event",),
    ),
    Wanted(
        "meeting notes",
        "Meeting minutes",
        "Summarise the meeting notes and add the open points as tasks",
        ("list_notes", "create_note", "append_to_note", "create_task"),
        ("notes",),
    ),
    Wanted(
        "Notizen ordnen",
        "Notizen ordnen",
        "Versieh meine Notizen mit passenden Hashtags",
        ("list_notes", "add_tag_to_note"),
    ),
    Wanted(
        "running goal",
        "Marathon",
        "Check my progress on the running goal and adjust the training",
        ("list_goals", "get_goal_progress", "create_task"),
        ("goals",),
    ),
    Wanted(
        "Jahresziele",
        "Jahresziele",
        "Prüfe meine Ziele und schlage ein neues Ziel vor, wenn eines erreicht ist",
        ("list_goals", "complete_goal", "create_goal"),
    ),
    Wanted(
        "Gewohnheiten",
        "Morgenroutine",
        "Schlage eine neue Gewohnheit vor und trage ein, was ich heute geschafft habe",
        ("get_habits", "create_habit", "log_habit"),
    ),
    Wanted(
        "habits",
        "Better sleep",
        "Build an evening habit and remind me of it",
        ("get_habits", "create_habit", "create_task"),
    ),
    Wanted(
        "Monatsbudget",
        "Haushaltsbudget",
        "Fasse Einnahmen und Ausgaben des Monats zusammen und schreibe eine Notiz",
        ("get_month_summary", "list_transactions", "create_note"),
    ),
    Wanted(
        "expenses",
        "Track expenses",
        "Record the expenses from my receipts note",
        ("add_transaction", "list_notes"),
        ("notes",),
    ),
    Wanted(
        "Essensplan",
        "Essensplan",
        "Plane das Essen der Woche und schreibe die Einkaufsliste",
        ("create_note", "create_task"),
    ),
    Wanted(
        "drink water",
        "Drink more",
        "Help me to drink enough water every day",
        ("create_task", "create_habit"),
        asks="habits",
    ),
    Wanted(
        "Kontakte",
        "Kontakte pflegen",
        "Finde Kontakte ohne Telefonnummer und erinnere mich, sie anzurufen",
        ("get_contacts", "create_task"),
    ),
    Wanted(
        "birthdays",
        "Birthdays",
        "Put the birthdays of my contacts into the calendar",
        ("get_contacts", "create_event"),
    ),
    Wanted(
        "Leseliste",
        "Leseliste aufräumen",
        "Archiviere gelesene Artikel und schlage drei für heute vor",
        ("list_articles", "archive_article", "create_task"),
    ),
    Wanted(
        "news digest",
        "Morning news",
        "Research news on heat pumps and keep the best articles",
        ("research_news", "save_article", "save_news_article"),
    ),
    Wanted(
        "Tagebuch",
        "Abendrückblick",
        "Schreibe einen Tagebucheintrag und halte meine Stimmung fest",
        ("create_journal_entry", "log_mood"),
    ),
    Wanted(
        "weekend trip",
        "Weekend trip",
        "Plan a trip to Leipzig: remember two restaurants and block the days",
        ("create_place", "create_event", "create_task"),
    ),
    Wanted(
        "Vokabelquiz",
        "Spanisch",
        "Baue ein Quiz mit zehn Vokabeln",
        ("create_quiz", "add_quiz_question"),
    ),
    Wanted(
        "invoices",
        "Invoices",
        "Draft the invoice for the client of last week and remind me of unpaid ones",
        ("create_invoice", "create_task"),
    ),
    Wanted(
        "Bücher",
        "Bücherregal",
        "Trage die Bücher aus der Notiz in meine Bibliothek ein",
        ("create_library_entry", "list_notes"),
        ("notes",),
    ),
    Wanted(
        "blog",
        "Blog post",
        "Start a draft for a blog post about composting",
        ("create_draft", "generate_draft_content"),
    ),
    Wanted(
        "Newsletter",
        "Vereinsnewsletter",
        "Entwirf den Newsletter für Mai aus meinen Notizen",
        ("create_campaign_draft", "list_notes"),
    ),
    Wanted(
        "only what is allowed",
        "Anything new",
        "Look at what happened and do what is needed",
        ("add_transaction", "list_transactions"),
        policy=AiPolicy(modules={"finance": "auto"}),
    ),
    Wanted(
        "vague",
        "Was fehlt?",
        "Schau, was mir guttun würde",
        ("create_task", "log_mood"),
        asks="Stimmung",
    ),
    Wanted(
        "in other words",
        "Where I have been",
        "Log yesterday's stop at the café by the river",
        ("visit_place", "get_places"),
    ),
)


def conversation(wanted: Wanted, offered: Offered) -> LoopInput:
    """What the run of a mission begins with, with all tools that this product carries out."""
    box = with_sub_agents(proposing_tools().with_tools((), READERS))
    if offered == "fitting":
        box = box.with_tools([FIND_TOOLS], [FIND_TOOLS.name])
    mission = Mission(
        "m",
        "u",
        title=wanted.title,
        objective=wanted.objective,
        concept_markdown=wanted.concept,
        inputs=tuple(InputRef(module, module, "i") for module in wanted.inputs),
    )
    plan = PlanInput(
        mission=mission,
        agent=Agent("a", "u", name="Mana", policy=wanted.policy),
        inputs=(),
        policy=wanted.policy,
        boundary="0123456789abcdef",
        model="mana/reasoning",
        now="2026-04-15T08:00:00+02:00",
        toolbox=box,
        offered=offered,
    )
    return loop_input(plan)


def offered_names(given: LoopInput) -> list[str]:
    """The tools of the first call, in their order."""
    return [spec["function"]["name"] for spec in given.tools]


def first_bytes(given: LoopInput) -> int:
    """How long the first call is on the wire."""
    return len(opening(given).raw)


def missing(wanted: Wanted, given: LoopInput) -> tuple[str, ...]:
    """What is needed and neither offered nor brought in by the one question."""
    names = offered_names(given)
    if given.offer is not None and wanted.asks:
        names += given.offer.found(wanted.asks, names)
    return tuple(name for name in wanted.needs if name not in names)
