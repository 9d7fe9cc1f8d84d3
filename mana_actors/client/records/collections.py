"""What people collect: quizzes, books and films, signs, and last times."""

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
from state.proposals import collection_handlers as places


class QuizRecord(TypedRecord):
    """A quiz; its questions are records of their own."""

    title: Text = UNSET
    description: Text = UNSET
    category: Text = UNSET
    tags: Texts = UNSET
    question_count: Whole = UNSET
    is_pinned: Flag = UNSET
    is_archived: Flag = UNSET


class QuestionRecord(TypedRecord):
    """A question of a quiz; each of its options has `id`, `text` and `isCorrect`."""

    quiz_id: Text = UNSET
    order: Number = UNSET
    type: Text = UNSET
    question_text: Text = UNSET
    options: Objects = UNSET
    explanation: Text = UNSET


class LibraryRecord(TypedRecord):
    """A book, film, series or comic, and how far one is."""

    kind: Text = UNSET
    status: Text = UNSET
    title: Text = UNSET
    original_title: Text = UNSET
    creators: Texts = UNSET
    year: Whole = UNSET
    cover_url: Text = UNSET
    cover_media_id: Text = UNSET
    rating: Number = UNSET
    review: Text = UNSET
    tags: Texts = UNSET
    genres: Texts = UNSET
    started_at: Text = UNSET
    completed_at: Text = UNSET
    is_favorite: Flag = UNSET
    times: Whole = UNSET
    external_ids: Object = UNSET
    details: Object = UNSET


class SignRecord(TypedRecord):
    """An omen, a prophecy or a hunch, and what came of it."""

    kind: Text = UNSET
    source: Text = UNSET
    source_category: Text = UNSET
    claim: Text = UNSET
    vibe: Text = UNSET
    felt_meaning: Text = UNSET
    expected_outcome: Text = UNSET
    expected_by: Text = UNSET
    probability: Number = UNSET
    outcome: Text = UNSET
    outcome_note: Text = UNSET
    resolved_at: Text = UNSET
    encountered_at: Text = UNSET
    tags: Texts = UNSET
    related_dream_id: Text = UNSET
    related_decision_id: Text = UNSET
    living_oracle_snapshot: Text = UNSET
    is_private: Flag = UNSET
    is_archived: Flag = UNSET


class LastRecord(TypedRecord):
    """Something that was, perhaps, for the last time."""

    title: Text = UNSET
    status: Text = UNSET
    category: Text = UNSET
    confidence: Text = UNSET
    inferred_from: Object = UNSET
    date: Text = UNSET
    meaning: Text = UNSET
    note: Text = UNSET
    what_i_knew_then: Text = UNSET
    what_i_know_now: Text = UNSET
    tenderness: Number = UNSET
    would_reclaim: Text = UNSET
    reclaimed_at: Text = UNSET
    reclaimed_note: Text = UNSET
    person_ids: Texts = UNSET
    shared_with: Text = UNSET
    media_ids: Texts = UNSET
    audio_note_id: Text = UNSET
    place_id: Text = UNSET
    recognised_at: Text = UNSET
    is_pinned: Flag = UNSET
    is_archived: Flag = UNSET


QUIZZES = table_of(places.QUIZZES, QuizRecord)
QUESTIONS = table_of(places.QUESTIONS, QuestionRecord)
LIBRARY = table_of(places.LIBRARY, LibraryRecord)
SIGNS = table_of(places.SIGNS, SignRecord)
LASTS = table_of(places.LASTS, LastRecord)
