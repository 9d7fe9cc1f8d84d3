"""What cannot be meant by a proposal about quizzes, a library, signs and last times is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest

from state.proposals.collection_handlers import (
    COLLECTIONS,
    LASTS,
    LIBRARY,
    QUESTIONS,
    QUIZZES,
    SIGNS,
)
from state.proposals.effects import CannotCarryOut, Effect, Scene

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
QUIZ: dict[str, Any] = {"quizId": "q1", "questionText": "?"}


def effects(tool: str, **params: Any) -> list[Effect]:
    found: dict[Any, list[dict[str, Any]]] = {
        QUIZZES: [{"id": "q1"}],
        QUESTIONS: [{"id": "qq1", "quizId": "q1"}, {"id": "qq2", "quizId": "gone"}],
        LIBRARY: [{"id": "l1", "startedAt": "2026-01-01"}],
        SIGNS: [{"id": "s1", "outcome": "partly"}],
        LASTS: [{"id": "la1", "status": "reclaimed"}],
    }
    return COLLECTIONS[tool].effects(Scene("p", params, found, NOW, UTC))


@pytest.mark.parametrize(
    ("tool", "params", "why"),
    [
        ("add_quiz_question", {**QUIZ, "type": "truefalse", "optionsJson": "vielleicht"}, "true"),
        ("add_quiz_question", {**QUIZ, "type": "single", "optionsJson": "[]"}, "two options"),
        ("add_quiz_question", {**QUIZ, "type": "multi", "optionsJson": "{"}, "list of"),
        ("add_quiz_question", {**QUIZ, "type": "text", "optionsJson": " "}, "without text"),
        ("add_quiz_question", {**QUIZ, "quizId": "q2", "type": "text", "optionsJson": "x"}, "q2"),
        (
            "add_quiz_question",
            {
                **QUIZ,
                "type": "single",
                "optionsJson": '[{"text": "a", "correct": true}, {"text": "b", "correct": true}]',
            },
            "as many",
        ),
        ("update_quiz_question", {"questionId": "qq1"}, "nothing"),
        ("update_quiz_question", {"questionId": "qq1", "type": "text"}, "together"),
        ("rate_library_entry", {"entryId": "l1", "rating": 6}, "1 to 5"),
        ("capture_sign", {"kind": "omen", "source": "x", "claim": "y", "probability": 2}, "0 to 1"),
        ("resolve_sign", {"entryId": "s1", "outcome": "fulfilled"}, "not open"),
        ("confirm_last", {"lastId": "la1"}, "not suspected"),
        ("confirm_last", {"lastId": "la1", "tenderness": 9}, "not suspected"),
        ("reclaim_last", {"lastId": "la1"}, "not confirmed"),
    ],
)
def test_it_says_which_part_does_not_fit(tool: str, params: dict[str, Any], why: str):
    with pytest.raises(CannotCarryOut) as refused:
        effects(tool, **params)
    assert why in refused.value.why


def test_options_of_a_question_are_the_same_at_each_try():
    given = '[{"text": "a"}, {"text": "b", "correct": true}]'
    first = effects("add_quiz_question", **QUIZ, type="single", optionsJson=given)
    assert first == effects("add_quiz_question", **QUIZ, type="single", optionsJson=given)
    options = first[0].fields["options"]
    assert [one["isCorrect"] for one in options] == [False, True]
    assert len({first[0].id, *(one["id"] for one in options)}) == 3


def test_a_question_of_a_quiz_that_is_gone_is_dropped_alone():
    assert [one.place for one in effects("delete_quiz_question", questionId="qq2")] == [QUESTIONS]


def test_when_an_entry_was_begun_stays_what_it_is():
    (moved,) = effects("update_library_entry_status", entryId="l1", status="active")
    assert moved.fields == {"status": "active"}
    (moved,) = effects("update_library_entry_status", entryId="l1", status="completed")
    assert set(moved.fields) == {"status", "completedAt"}
