from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from state.log.merge import (
    Change,
    Snapshot,
    change_digest,
    decode_record,
    defect,
    defects,
    encode_record,
    fold,
    hidden,
    is_late,
    read_change,
)
from state.log.stamps import format_instant
from tests.vectors import reference

MINUTE = 60_000_000
START = 1_776_247_200_000_000  # 2026-04-15T10:00:00Z in µs
FIELDS = ("title", "state", "deletedAt")
STAMPS = (
    "2026-04-15T10:00:00.000Z",
    "2026-04-15T12:01:00+02:00",
    "2026-04-15T10:02:00Z",
    "zzz",
    "",
)


def uid(number: int) -> str:
    return str(uuid.UUID(int=number))


def change(
    at: int, op: str, data: Any = None, meta: Any = None, *, number: int | None = None
) -> Change:
    return Change(uid(at + 1 if number is None else number), START + at * MINUTE, op, data, meta)


def counted_alone(snapshot: Snapshot, row: Change) -> Snapshot:
    """The snapshot with the row counted and nothing of it merged."""
    newest_at, newest_id = max((snapshot.newest_at, snapshot.newest_id), order(row))
    return msgspec.structs.replace(
        snapshot,
        newest_at=newest_at,
        newest_id=newest_id,
        count=snapshot.count + 1,
        digest=snapshot.digest ^ change_digest(row.id),
    )


def order(row: Change) -> tuple[int, str]:
    return row.created_at, row.id


# --- any row, any history -----------------------------------------------------------------------

_stamps = st.sampled_from(STAMPS)
_objects: st.SearchStrategy[Any] = st.fixed_dictionaries({"at": _stamps, "origin": st.just("user")})
_slots: st.SearchStrategy[Any] = st.one_of(_stamps, _objects, st.none())
_values = st.one_of(st.none(), st.sampled_from(["a", "b", "2026-04-15T10:01:00.000Z"]))
_data = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from((*FIELDS, "updatedAt", "id")), _values, max_size=3),
)
_meta = st.one_of(st.none(), st.dictionaries(st.sampled_from(FIELDS), _slots, max_size=3))
_ops = st.sampled_from(["insert", "insert", "update", "update", "update", "delete", "upsert"])


def _row(at: int, op: str, data: Any, meta: Any) -> Change:
    return change(at, op, data, meta)


_rows = st.builds(_row, st.integers(0, 3), _ops, _data, _meta)


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Rows of one record with few distinct times, so that ties happen, and ids in any order."""
    rows = draw(st.lists(_rows, min_size=1, max_size=7))
    numbers = draw(st.permutations(range(1, len(rows) + 1)))
    return [
        msgspec.structs.replace(row, id=uid(number))
        for row, number in zip(rows, numbers, strict=True)
    ]


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[Change]]:
    """The rows of a record in batches, in any order of arrival."""
    rows = draw(st.permutations(draw(histories())))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows)), max_size=4)) | {len(rows)})
    return [rows[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]


# --- the late-row rule, with each of its parts in a switch --------------------------------------


class Rule(msgspec.Struct, frozen=True):
    sorted_batch: bool = True  # each batch is folded in row order
    replays: bool = True  # a late row makes the record be replayed
    breaks_ties: bool = True  # the id orders rows of one time
    keeps_tombstone: bool = True  # a deleted record remembers the rows folded
    equal_is_late: bool = True  # a row that a replay already saw is not folded twice


def consume(batches: list[list[Change]], rule: Rule, *, logged_first: bool = False) -> Snapshot:
    """The snapshot of one record after batches consumed like the supervisor's fold."""
    log: list[Change] = [row for batch in batches for row in batch] if logged_first else []
    snapshot: Snapshot | None = None
    for batch in batches:
        log += [] if logged_first else batch
        rows = sorted(batch, key=order) if rule.sorted_batch else batch
        if rule.replays and snapshot and any(_late(snapshot, row, rule) for row in rows):
            snapshot = fold(None, sorted(log, key=order))
        else:
            snapshot = fold(snapshot, rows)
        if not snapshot.exists and not rule.keeps_tombstone:
            snapshot = None
    return snapshot or Snapshot()


def _late(snapshot: Snapshot, row: Change, rule: Rule) -> bool:
    if not rule.breaks_ties:
        return row.created_at < snapshot.newest_at
    if not rule.equal_is_late:
        return order(row) < (snapshot.newest_at, snapshot.newest_id)
    return is_late(snapshot, row)


def full_replay(batches: list[list[Change]]) -> Snapshot:
    return fold(None, sorted((row for batch in batches for row in batch), key=order))


@given(histories(), st.data())
def test_any_batching_gives_the_full_replay(rows: list[Change], data: st.DataObject):
    rows.sort(key=order)
    cut = data.draw(st.integers(0, len(rows)))
    assert fold(fold(None, rows[:cut]), rows[cut:]) == fold(None, rows)


@given(arrivals())
def test_any_arrival_order_gives_the_full_replay(batches: list[list[Change]]):
    assert consume(batches, Rule()) == full_replay(batches)


@given(arrivals())
def test_a_replay_that_sees_rows_still_in_the_feed_gives_the_full_replay(
    batches: list[list[Change]],
):
    # They arrive again later: each makes the record be replayed, none counts twice.
    assert consume(batches, Rule(), logged_first=True) == full_replay(batches)


@pytest.mark.parametrize(
    ("broken", "logged_first"),
    [
        (Rule(sorted_batch=False), False),
        (Rule(replays=False), False),
        (Rule(breaks_ties=False), False),
        (Rule(keeps_tombstone=False), False),
        (Rule(equal_is_late=False), True),
    ],
    ids=["batch not sorted", "late folded", "ties not broken", "no tombstone", "folded twice"],
)
def test_each_part_of_the_late_row_rule_is_needed(broken: Rule, logged_first: bool):
    def is_wrong(batches: list[list[Change]]) -> bool:
        return consume(batches, broken, logged_first=logged_first) != full_replay(batches)

    wrong = find(arrivals(), is_wrong, settings=SEARCH)
    assert consume(wrong, Rule(), logged_first=logged_first) == full_replay(wrong)


SEARCH = settings(
    max_examples=5_000,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_row_delivered_again_after_a_replay_saw_it_is_late():
    row = change(1, "insert", {"title": "a", "updatedAt": "2026-04-15T10:02:00.000Z"}, {})
    seen = fold(None, [row])
    assert is_late(seen, row)
    assert fold(seen, [row]).stamps != seen.stamps  # folding it twice would stamp the fields


def test_the_search_finds_nothing_wrong_with_the_whole_rule():
    with pytest.raises(NoSuchExample):
        find(
            arrivals(),
            lambda batches: consume(batches, Rule()) != full_replay(batches),
            settings=settings(SEARCH, max_examples=1_000),
        )


@given(histories())
def test_count_and_digest_do_not_depend_on_order(rows: list[Change]):
    one, two = fold(None, sorted(rows, key=order)), Snapshot()
    for row in rows:
        two = counted_alone(two, row)
    assert (one.count, one.digest, one.newest_at, one.newest_id) == (
        two.count,
        two.digest,
        two.newest_at,
        two.newest_id,
    )


@given(histories())
def test_a_stored_record_comes_back_as_it_was(rows: list[Change]):
    snapshot = fold(None, sorted(rows, key=order))
    again = decode_record(
        encode_record(snapshot),
        exists=snapshot.exists,
        complete=snapshot.complete,
        newest_at=snapshot.newest_at,
        newest_id=snapshot.newest_id,
        count=snapshot.count,
        digest=snapshot.digest,
    )
    assert again == snapshot


@given(histories())
def test_fold_agrees_with_the_slow_reference(rows: list[Change]):
    rows.sort(key=order)
    plain = [
        {
            "op": row.op,
            "data": row.data,
            "field_meta": row.field_meta,
            "created_at": format_instant(row.created_at * 1000),
        }
        for row in rows
    ]
    expected = reference.replay(plain, "snapshot", reference.FOLD_RULES)
    found = fold(None, rows)
    stamps = {
        field: reference.normal_text(reference.nanoseconds(text) or 0)
        for field, text in expected.stamps.items()
    }
    assert (found.exists, found.complete) == (expected.fields is not None, expected.complete)
    assert (found.fields, found.stamps) == (expected.fields or {}, stamps)


@given(histories())
def test_fold_changes_nothing_it_was_given(rows: list[Change]):
    before = fold(None, rows[:1])
    kept = msgspec.json.encode(before)
    fold(before, rows)
    assert msgspec.json.encode(before) == kept
    assert Snapshot() == Snapshot({}, {}), "defaults are shared with no record"


# --- the meaning of each row --------------------------------------------------------------------

ORIGINAL = change(0, "insert", {"title": "A"}, {})
EARLY, LATE = "2026-04-15T09:00:00.000Z", "2026-04-15T11:00:00.000Z"


def titled(*rows: Change) -> Any:
    return fold(None, rows).fields.get("title")


def test_an_offline_edit_older_than_the_insert_row_survives():
    assert titled(ORIGINAL, change(0, "update", {"title": "B"}, {"title": EARLY})) == "B"


@pytest.mark.parametrize(
    ("held", "written", "wins"),
    [
        ({"at": EARLY}, LATE, True),
        (LATE, {"at": EARLY}, False),
        ({"at": LATE}, {"at": EARLY}, False),
        ("2026-04-15T10:00:00.500Z", "2026-04-15T10:00:00Z", False),
        ("2026-04-15T11:00:00.000Z", "2026-04-15T12:00:00+02:00", False),
        (LATE, LATE, True),
    ],
)
def test_mixed_stamps_compare_as_instants(held: Any, written: Any, wins: bool):
    first = change(0, "insert", {"title": "A"}, {"title": held})
    second = change(1, "update", {"title": "B"}, {"title": written})
    assert titled(first, second) == ("B" if wins else "A")


@pytest.mark.parametrize(
    ("extra", "wins"),
    [({"updatedAt": LATE}, True), ({"updatedAt": EARLY}, False), ({"createdAt": EARLY}, False)],
)
def test_a_second_insert_is_as_old_as_its_record_says(extra: dict[str, Any], wins: bool):
    first = change(0, "insert", {"title": "A"}, {"title": "2026-04-15T10:00:00.000Z"})
    again = change(5, "insert", {"title": "B", **extra}, {})
    assert titled(first, again) == ("B" if wins else "A")


def test_a_soft_delete_hides_and_a_newer_update_restores():
    gone = fold(None, [ORIGINAL, change(1, "delete", {"deletedAt": EARLY}, {})])
    assert hidden(gone)
    assert gone.fields["title"] == "A"
    back = fold(gone, [change(2, "update", {"deletedAt": None}, {"deletedAt": LATE})])
    assert not hidden(back)


def test_an_older_soft_delete_loses_against_a_newer_restore():
    restored = change(1, "update", {"deletedAt": None}, {"deletedAt": LATE})
    assert not hidden(
        fold(None, [ORIGINAL, restored, change(2, "delete", {"deletedAt": EARLY}, {})])
    )


def test_a_hard_delete_drops_stamps_and_a_later_row_starts_afresh():
    stamped = change(0, "insert", {"title": "A"}, {"title": LATE})
    gone = fold(None, [stamped, change(1, "delete", {}, {})])
    assert (gone.exists, gone.fields, gone.stamps, gone.complete) == (False, {}, {}, True)
    back = fold(gone, [change(2, "insert", {"title": "B"}, {"title": EARLY})])
    assert back.fields == {"title": "B"}


def test_internal_fields_are_never_merged():
    data = {"id": "other", "__fieldMeta": {"title": LATE}, "_updatedAtIndex": LATE, "title": "A"}
    stamps = dict.fromkeys(data, EARLY)
    snapshot = fold(None, [change(0, "insert", data, stamps), change(1, "update", data, {})])
    assert set(snapshot.fields) == set(snapshot.stamps) == {"title"}


def test_a_record_without_an_insert_row_is_incomplete():
    assert not fold(None, [change(0, "update", {"title": "A"}, {})]).complete
    assert fold(None, [change(0, "update", {}, {}), ORIGINAL]).complete


def test_an_empty_deleted_at_is_not_deleted():
    assert not hidden(fold(None, [change(0, "insert", {"deletedAt": ""}, {})]))
    assert hidden(Snapshot())


# --- poison -------------------------------------------------------------------------------------

BAD: list[tuple[Change, str]] = [
    (change(1, "upsert", {"title": "B"}, {}), "op"),
    (change(1, "update", ["B"], {}), "data"),
    (change(1, "update", {"title": "B"}, "x"), "field_meta"),
    (Change(uid(1), START, "update", {"title": "B"}, {}, "u" * 513), "user_id"),
]


@pytest.mark.parametrize(("row", "field"), BAD)
def test_a_bad_row_is_counted_skipped_and_named(row: Change, field: str):
    before = fold(None, [ORIGINAL])
    after = fold(before, [row])
    assert after == counted_alone(before, row)
    assert after.fields == {"title": "A"}
    assert [(found, why.split(":")[0]) for found, why in defects([ORIGINAL, row])] == [(row, field)]


@pytest.mark.parametrize(
    ("data", "meta", "reason"),
    [
        ('{"a":1e400}', "{}", "data: not JSON that can be kept"),
        ('{"a":1' + "0" * 400 + "}", "{}", "data: number out of range"),
        ("1" + "0" * 308, "{}", "data: number out of range"),  # a text of the least such length
        ('{"a":' * 200 + "1" + "}" * 200, "{}", "data: nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "{}", "data: nested too deeply"),
        ('{"a":NaN}', "{}", "data: not JSON that can be kept"),
        ('{"a":"\\ud800"}', "{}", "data: not JSON that can be kept"),
        ("{", "{}", "data: not JSON that can be kept"),
        ("5", "{}", "data: not an object"),
        ("{}", '"x"', "field_meta: not an object"),
        ('{"a":"' + "x" * 9_000_000 + '"}', "{}", "data: over 8388608 characters"),
    ],
    ids=range(11),
)
def test_text_that_cannot_be_kept_has_a_reason(data: str, meta: str, reason: str):
    row = read_change(uid(1), START, "insert", data, meta)
    assert defect(row) == reason
    assert fold(None, [row]) == counted_alone(Snapshot(), row)


def test_long_digits_and_deep_but_allowed_values_pass():
    digits = '{"a":"' + "1" * 1_000 + '"}'
    deep = '{"a":' * 128 + "1" + "}" * 128
    wide = '{"a":[' + ",".join(["[]"] * 500) + "]}"
    for text in (digits, deep, wide):
        assert defect(read_change(uid(1), START, "insert", text, "{}")) is None


def test_an_id_over_512_bytes_is_refused():
    over = "record_id: over 512 bytes"
    for record_id, reason in (
        ("ü" * 257, over),
        ("ü" * 256, None),
        ("𝄞" * 129, over),  # four bytes each
        ("𝄞" * 128, None),
    ):
        row = read_change(uid(1), START, "insert", "{}", "{}", record_id=record_id)
        assert defect(row) == reason


@given(st.text(max_size=60), st.sampled_from(["insert", "update", "delete"]))
def test_decoding_never_raises(text: str, op: str):
    row = read_change(uid(1), START, op, text, text)
    assert (defect(row) is None) == (row.problem == "" and isinstance(row.data, dict | None))


def test_digest_is_the_signed_xor_of_both_halves():
    assert change_digest("00000000-0000-0001-0000-000000000003") == 2
    assert change_digest("80000000-0000-0000-0000-000000000000") == -(2**63)
    assert change_digest("no uuid") == 0


def test_object_stamps_of_older_snapshots_become_text():
    raw = msgspec.json.encode(
        {"id": "m1", "title": "A", "__fieldMeta": {"title": {"at": LATE}, "state": "zzz"}}
    )
    snapshot = decode_record(raw)
    assert (snapshot.fields, snapshot.stamps) == ({"title": "A"}, {"title": LATE})


def test_a_tombstone_remembers_the_rows_folded():
    gone = fold(None, [ORIGINAL, change(1, "delete", {}, {})])
    assert (gone.count, gone.newest_at) == (2, START + MINUTE)
    assert is_late(gone, ORIGINAL)
