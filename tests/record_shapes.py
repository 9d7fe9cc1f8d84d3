"""Records as clients of each module really write them, and what a prompt shows of them."""

from typing import Any

import msgspec

from state.log.tables import INPUT_APPS

Json = dict[str, Any]


class Shape(msgspec.Struct, frozen=True):
    """One module's record; `title` and `content` are what the planner reads of it."""

    module: str
    table: str
    record: Json
    title: str
    content: str

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def app(self) -> str:
        return INPUT_APPS[self.module]

    @property
    def ref(self) -> Json:
        """How a mission names it."""
        return {"module": self.module, "table": self.table, "id": self.id}


_COMMON: Json = {
    "createdAt": "2026-04-15T10:00:00.000Z",
    "visibility": "private",
    "authorId": "u1",
}

SHAPES = (
    Shape(
        "notes",
        "notes",
        {**_COMMON, "id": "n-1", "title": "Einkauf", "content": "Kuchen für Äpfel ✓",
         "color": None, "isPinned": False, "isArchived": False},
        "Einkauf",
        "Kuchen für Äpfel ✓",
    ),
    Shape(
        "tasks",
        "tasks",
        {**_COMMON, "id": "t-1", "title": "Steuer", "description": "Belege suchen",
         "priority": "high", "isCompleted": False, "dueDate": "2026-05-02", "order": 3,
         "subtasks": [{"id": "s", "title": "Bank", "isCompleted": True, "order": 0}],
         "metadata": {"energy": 2}, "scheduledBlockId": "b-1"},
        "Steuer",
        "[open] Steuer — Belege suchen (faellig: 2026-05-02)",
    ),
    Shape(
        "todo",
        "tasks",
        {**_COMMON, "id": "t-2", "title": "Müll", "priority": "low", "isCompleted": True,
         "completedAt": "2026-04-20T10:00:00.000Z", "dueDate": None, "order": 4},
        "Müll",
        "[done] Müll",
    ),
    Shape(
        "calendar",
        "events",
        {**_COMMON, "id": "e-1", "calendarId": "c-1", "timeBlockId": "b-2", "title": "Zahnarzt",
         "description": "nüchtern", "location": "Bern", "reminders": None, "tagIds": []},
        "Zahnarzt",
        "Zahnarzt in Bern",
    ),
    Shape(
        "calendar",
        "events",
        # as a client hands it over: with the time of its block
        {**_COMMON, "id": "e-2", "calendarId": "c-1", "timeBlockId": "b-3", "title": "Chor",
         "location": None, "startDate": "2026-05-02T19:00"},
        "Chor",
        "Chor @ 2026-05-02T19:00",
    ),
    Shape(
        "journal",
        "journalEntries",
        {**_COMMON, "id": "j-1", "title": "", "content": "Ein guter Tag.", "mood": "good",
         "entryDate": "2026-04-20", "wordCount": 3},
        "Journal-Eintrag",
        "Ein guter Tag.",
    ),
    Shape(
        "kontext",
        "kontextDoc",
        {**_COMMON, "id": "k-1", "content": "# Wir\n\nDrei Leute in Bern."},
        "Mana-Kontext",
        "# Wir\n\nDrei Leute in Bern.",
    ),
    Shape(
        "profile",
        "userContext",
        {"id": "singleton", "userId": "u1", "about": {"name": "Till"},
         "interests": ["Chor", "Äpfel"], "routine": {}, "nutrition": {"diet": "vegan"},
         "leisure": {"sports": ["Velo"]}, "goals": [], "social": {}, "freeform": " Frühaufsteher ",
         "interview": {"answeredIds": ["q1"], "skippedIds": []}},
        "Nutzerprofil",
        'about: {"name":"Till"}\ninterests: ["Chor","Äpfel"]\n'
        'nutrition: {"diet":"vegan"}\nleisure: {"sports":["Velo"]}\nfreeform: Frühaufsteher',
    ),
)  # fmt: skip

GOAL = Shape(
    "goals",
    "companionGoals",
    {**_COMMON, "id": "g-1", "title": "Lesen", "currentValue": 3,
     "target": {"value": 10, "period": "week"}},
    "Lesen",
    "Progress: 3 / 10 per week",
)  # fmt: skip
"""Never encrypted."""
