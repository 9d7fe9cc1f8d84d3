"""A copy stands for its source's sealed fields, and only while they are what it was made of."""

import hashlib
import itertools
from typing import Any

import pytest

from mana_actors.agent.inputs.copies import CopiesLacking, Lack, with_copies
from state.log.merge import Snapshot
from state.sealing.copies import KeptCopy, copied, is_current, source_digest
from state.sealing.values import DataKey, SealingError, opened_record, sealed_record

KEY = ("tasks", "t1")
TITLE = "enc:1:AAECAwQFBgcICQoL.lQX/Q5vOjiOXfRD4KUAu2zaR"
OTHER = "enc:1:AAECAwQFBgcICQoL.w1XsU3pNvYr7VG6Jg9fALn04GEg="
Json = dict[str, Any]


def ivs() -> Any:
    numbers = itertools.count()
    return lambda: next(numbers).to_bytes(12)


def source(**fields: Any) -> Snapshot:
    return Snapshot(fields, {}, exists=True, newest_at=1000)


def kept(of: Json, *, written_at: int = 2000, **fields: Any) -> KeptCopy:
    return KeptCopy(fields or dict(of), source_digest(of), written_at)


def test_a_digest_is_of_the_sealed_values_sorted_by_field_as_any_client_can_make_it():
    record = {"title": TITLE, "done": True, "description": OTHER, "dueDate": "2026-11-24"}
    text = f'[["description","{OTHER}"],["title","{TITLE}"]]'
    assert source_digest(record) == hashlib.sha256(text.encode()).hexdigest()
    assert source_digest(record) == source_digest(dict(reversed(record.items())))


@pytest.mark.parametrize(
    "edited",
    [
        {"title": OTHER},
        {"title": TITLE, "description": OTHER},
        {"title": None},
        {"title": "plain"},
        {"titel": TITLE},
    ],
)
def test_a_copy_is_stale_once_a_sealed_field_of_its_source_is_another(edited: Json):
    copy = kept({"title": TITLE})
    assert is_current(copy, source(title=TITLE))
    assert not is_current(copy, source(**edited))


def test_a_copy_that_names_no_source_is_current_until_a_newer_row():
    assert is_current(KeptCopy({}, None, 1000), source(title=TITLE))
    assert not is_current(KeptCopy({}, None, 999), source(title=TITLE))


def test_plain_fields_are_the_sources_and_sealed_ones_the_copys():
    copy = kept({"title": TITLE}, title=OTHER, dueDate="long ago", extra="left over")
    found = with_copies({KEY: source(title=TITLE, dueDate="today")}, {KEY: copy})
    assert found == {KEY: {"title": OTHER, "dueDate": "today"}}


def test_a_missing_or_a_stale_copy_keeps_all_from_being_read():
    sources = {KEY: source(title=TITLE), ("tasks", "t2"): source(title=OTHER)}
    both = {KEY: kept({"title": TITLE}), ("tasks", "t2"): kept({"title": TITLE})}
    assert with_copies(sources, {}) == CopiesLacking("no-sealed-copy", 2)
    assert with_copies(sources, both) == CopiesLacking("stale-copy", 1)


def test_a_copy_opens_to_what_was_sealed_and_holds_nothing_plain():
    with DataKey(bytearray(range(32))) as master, DataKey(bytearray(b"k" * 32)) as data:
        note = {"title": "Ü\n", "content": {"a": [1]}, "isPinned": True, "mood": None}
        record = sealed_record(note, ("title", "content"), master, ivs())
        copy = copied("notes", "n1", record, master, data, ivs())
        assert copy is not None
        assert set(copy.fields) == {"title", "content"}
        assert copy.source == source_digest(record)
        assert opened_record(copy.fields, data).record == {"title": "Ü\n", "content": {"a": [1]}}


def test_a_record_without_secrets_needs_no_copy_and_one_under_another_key_gets_none():
    with DataKey(bytearray(range(32))) as master, DataKey(bytearray(b"k" * 32)) as data:
        assert copied("notes", "n1", {"title": "plain"}, master, data, ivs()) is None
        with pytest.raises(SealingError):
            copied("notes", "n1", {"title": TITLE}, master, data, ivs())


@pytest.mark.parametrize(
    ("why", "answer", "told"),
    [
        ("no-sealed-copy", None, "2 of its encrypted inputs were not handed over yet: open the"),
        ("stale-copy", "made", "2 of its encrypted inputs changed since they were handed over: op"),
        ("no-sealed-copy", "zero-knowledge", "zero-knowledge mode only your own device"),
        ("not-opened", "current", "could not be opened: grant them anew"),
        ("no-sealed-copy", "too-large", "too large"),
    ],
)
def test_the_owner_is_told_what_to_do(why: Lack, answer: str | None, told: str):
    assert told in CopiesLacking(why, 2).told(answer)
