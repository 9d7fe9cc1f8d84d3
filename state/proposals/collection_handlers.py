"""What tools do to things that people collect: quizzes, a library, signs, and last times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from state.proposals.effects import (
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

QUIZZES = TablePlace("quiz", "quizzes")
QUESTIONS = TablePlace("quiz", "questions")
LIBRARY = TablePlace("library", "libraryEntries")
SIGNS = TablePlace("augur", "augurEntries")
LASTS = TablePlace("lasts", "lasts")


def _listed(text: Any) -> list[str]:
    """The parts of a text with commas."""
    return [part.strip() for part in str(text).split(",") if part.strip()]


def _day(text: Any) -> str:
    return str(text)[:10]


def _stars(value: Any) -> Any:
    if not 1 <= value <= 5:
        raise CannotCarryOut("rating must be from 1 to 5")
    return value


def _share(value: Any) -> Any:
    if not 0 <= value <= 1:
        raise CannotCarryOut("probability must be from 0 to 1")
    return value


def _tenderness(value: Any) -> int:
    if not 1 <= value <= 5:
        raise CannotCarryOut("tenderness must be from 1 to 5")
    return round(value)


def _details(kind: Any) -> dict[str, Any]:
    """What a library keeps of each kind beside the rest."""
    return {"kind": kind, "watched": []} if kind == "series" else {"kind": kind}


# --- quizzes --------------------------------------------------------------------------------------


class _Choice(msgspec.Struct):
    text: str
    correct: bool = False


def _options(kind: str, raw: str, scene: Scene) -> list[dict[str, Any]]:
    """A question's options; raises CannotCarryOut naming `optionsJson`."""
    text = raw.strip()
    if kind == "truefalse":
        if text.lower() not in ("true", "false"):
            raise CannotCarryOut("optionsJson must be true or false")
        choices = [
            _Choice("Wahr", text.lower() == "true"),
            _Choice("Falsch", text.lower() != "true"),
        ]
    elif kind == "text":
        choices = [_Choice(text, correct=True)]
    else:
        try:
            choices = msgspec.json.decode(text, type=list[_Choice])
        except msgspec.MsgspecError:
            raise CannotCarryOut("optionsJson must be a list of {text, correct}") from None
        right = sum(choice.correct for choice in choices)
        if len(choices) < 2 or right < 1 or (kind == "single" and right > 1):
            raise CannotCarryOut("optionsJson needs two options, as many right as the type says")
    if not all(choice.text.strip() for choice in choices):
        raise CannotCarryOut("optionsJson has an option without text")
    return [
        {"id": scene.new_id(number), "text": choice.text, "isCorrect": choice.correct}
        for number, choice in enumerate(choices, 1)
    ]


def _question_added(scene: Scene) -> list[Effect]:
    params = scene.params
    quiz = scene.record(QUIZZES, str(params["quizId"]))
    count = sum(one.get("quizId") == quiz["id"] for one in scene.found[QUESTIONS])
    made: dict[str, Any] = {
        "quizId": quiz["id"],
        "order": count,
        "type": params["type"],
        "questionText": params["questionText"],
        "options": _options(params["type"], params["optionsJson"], scene),
        "explanation": params.get("explanation"),
    }
    return [
        Effect(QUESTIONS, scene.new_id(), "insert", made),
        Effect(QUIZZES, quiz["id"], "update", {"questionCount": count + 1}),
    ]


def _question_changed(scene: Scene) -> list[Effect]:
    params = scene.params
    question = scene.record(QUESTIONS, str(params["questionId"]))
    fields = {name: params[name] for name in ("questionText", "explanation") if name in params}
    if ("type" in params) != ("optionsJson" in params):
        raise CannotCarryOut("type and optionsJson must be given together")
    if "type" in params:
        fields |= {
            "type": params["type"],
            "options": _options(params["type"], params["optionsJson"], scene),
        }
    if not fields:
        raise CannotCarryOut("it says nothing that changes")
    return [Effect(QUESTIONS, question["id"], "update", fields)]


def _question_dropped(scene: Scene) -> list[Effect]:
    question = scene.record(QUESTIONS, str(scene.params["questionId"]))
    quiz = question.get("quizId")
    left = sum(one.get("quizId") == quiz for one in scene.found[QUESTIONS]) - 1
    effects = [Effect(QUESTIONS, question["id"], "delete")]
    if any(one["id"] == quiz for one in scene.found[QUIZZES]):
        effects.append(Effect(QUIZZES, cast("str", quiz), "update", {"questionCount": left}))
    return effects


# --- a library, and last times --------------------------------------------------------------------


def _status_moved(scene: Scene) -> list[Effect]:
    """How far somebody is with an entry, and since when the first time."""
    entry, status = scene.record(LIBRARY, str(scene.params["entryId"])), scene.params["status"]
    fields: Mapping[str, Any] = {"status": status}
    since = {"active": "startedAt", "completed": "completedAt"}.get(status)
    if since is not None and not entry.get(since):
        fields = {**fields, since: Now.INSTANT}
    return scene.filled(LIBRARY, entry["id"], fields)


def _last_made(scene: Scene) -> list[Effect]:
    """A last time that is suspected, or one that is known for certain."""
    is_sure = scene.params.get("status") == "confirmed"
    certainty: Mapping[str, Any] = (
        {"status": "confirmed", "confidence": "certain", "date": P("date", Now.DAY, _day)}
        if is_sure
        else {
            "status": "suspected",
            "confidence": P("confidence", None),
            "date": P("date", None, _day),
        }
    )
    return [Effect(LASTS, scene.new_id(), "insert", filled({**_LAST, **certainty}, LASTS, scene))]


_LAST: Mapping[str, Any] = {
    "title": P("title"),
    "category": P("category", "other"),
    "inferredFrom": None,
    "meaning": P("meaning", None),
    "note": P("note", None),
    "whatIKnewThen": None,
    "whatIKnowNow": None,
    "tenderness": None,
    "wouldReclaim": None,
    "reclaimedAt": None,
    "reclaimedNote": None,
    "personIds": [],
    "sharedWith": None,
    "mediaIds": [],
    "audioNoteId": None,
    "placeId": None,
    "recognisedAt": Now.INSTANT,
    "isPinned": False,
    "isArchived": False,
}

COLLECTIONS: Mapping[str, Handler] = {
    "create_quiz": Create(
        QUIZZES,
        {
            "title": P("title"),
            "description": P("description", None),
            "category": P("category", None),
            "tags": [],
            "questionCount": 0,
            "isPinned": False,
            "isArchived": False,
        },
    ),
    "update_quiz": SetFields(
        QUIZZES,
        "quizId",
        {name: P(name) for name in ("title", "description", "category", "isPinned", "isArchived")},
    ),
    "add_quiz_question": Custom((QUIZZES, QUESTIONS), _question_added),
    "update_quiz_question": Custom((QUESTIONS,), _question_changed),
    "delete_quiz_question": Custom((QUIZZES, QUESTIONS), _question_dropped),
    "create_library_entry": Create(
        LIBRARY,
        {
            "kind": P("kind"),
            "status": P("status", "planned"),
            "title": P("title"),
            "originalTitle": None,
            "creators": P("creators", [], _listed),
            "year": P("year", None),
            "coverUrl": None,
            "coverMediaId": None,
            "rating": P("rating", None, _stars),
            "review": None,
            "tags": P("tags", [], _listed),
            "genres": P("genres", [], _listed),
            "startedAt": None,
            "completedAt": None,
            "isFavorite": False,
            "times": 0,
            "externalIds": None,
            "details": P("kind", change=_details),
        },
    ),
    "update_library_entry_status": Custom((LIBRARY,), _status_moved),
    "rate_library_entry": SetFields(LIBRARY, "entryId", {"rating": P("rating", change=_stars)}),
    "capture_sign": Create(
        SIGNS,
        {
            "kind": P("kind"),
            "source": P("source"),
            "sourceCategory": P("sourceCategory", "other"),
            "claim": P("claim"),
            "vibe": P("vibe", "mysterious"),
            "feltMeaning": P("feltMeaning", None),
            "expectedOutcome": P("expectedOutcome", None),
            "expectedBy": P("expectedBy", None, _day),
            "probability": P("probability", None, _share),
            "outcome": "open",
            "outcomeNote": None,
            "resolvedAt": None,
            "encounteredAt": Now.DAY,
            "tags": P("tags", [], _listed),
            "relatedDreamId": None,
            "relatedDecisionId": None,
            "livingOracleSnapshot": None,
            "isPrivate": True,
            "isArchived": False,
            "visibility": "private",
        },
    ),
    "resolve_sign": SetFields(
        SIGNS,
        "entryId",
        {"outcome": P("outcome"), "outcomeNote": P("note", None), "resolvedAt": Now.INSTANT},
        ("outcome", ("open", None), "it is not open"),
    ),
    "create_last": Custom((), _last_made),
    "confirm_last": SetFields(
        LASTS,
        "lastId",
        {
            "status": "confirmed",
            "confidence": "certain",
            "date": P("date", Now.DAY, _day),
            "meaning": P("meaning"),
            "whatIKnewThen": P("whatIKnewThen"),
            "whatIKnowNow": P("whatIKnowNow"),
            "tenderness": P("tenderness", change=_tenderness),
            "wouldReclaim": P("wouldReclaim"),
        },
        ("status", ("suspected", None), "it is not suspected"),
    ),
    "reclaim_last": SetFields(
        LASTS,
        "lastId",
        {
            "status": "reclaimed",
            "reclaimedAt": Now.INSTANT,
            "reclaimedNote": P("reclaimedNote", None),
        },
        ("status", ("confirmed",), "it is not confirmed"),
    ),
}
"""By tool."""
