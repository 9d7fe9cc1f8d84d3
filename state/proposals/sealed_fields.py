"""Which fields clients keep sealed, by table: what is written there in plain would be read by all.

Fields of people's own words and of their bodies; ids, times, states and numbers stay plain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SEALED_FIELDS: Mapping[str, frozenset[str]] = {
    table: frozenset(fields.split())
    for table, fields in {
        "notes": "title content",
        "tasks": "title description subtasks metadata",
        "events": "title description location",
        "timeBlocks": "title description",
        "journalEntries": "title content",
        "contacts": "firstName lastName email phone mobile birthday street city postalCode country"
        " notes website linkedin twitter instagram github",
        "places": "name description address",
        "transactions": "description note",
        "moodEntries": "withWhom notes",
        "drinkEntries": "name note",
        "quizzes": "title description category tags",
        "questions": "questionText explanation options",  # of quizzes
        "libraryEntries": "title originalTitle creators review tags",
        "augurEntries": "source claim feltMeaning expectedOutcome outcomeNote tags"
        " livingOracleSnapshot",
        "lasts": "title meaning note whatIKnewThen whatIKnowNow reclaimedNote sharedWith",
        "kontextDoc": "content",
        "userContext": "about interests routine nutrition leisure goals social freeform",
        "agents": "systemPrompt memory",
        "aiMissions": "title conceptMarkdown objective",
    }.items()
}


def writes_sealed(table: str, fields: Iterable[str]) -> bool:
    """Whether one of these fields is kept sealed by people who have a vault."""
    return not SEALED_FIELDS.get(table, frozenset()).isdisjoint(fields)
