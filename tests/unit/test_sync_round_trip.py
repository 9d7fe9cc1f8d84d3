"""Whatever stands in the log, a device merges it to what the server's replay is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from mana_actors.client.local.kept import change_of
from mana_actors.client.server.wire import row_in
from state.log import merge
from state.log.merge import Change, Snapshot
from state.store.gateway.sync_feeds import FeedRow
from supervisor.gateway.sync.wire import told
from tests.unit.test_merge import histories


def delivered(change: Change) -> Change | None:
    """The row as a device has it once it came over the wire."""
    row = FeedRow(
        id=change.id,
        author="u1",
        client="c-2",
        table="tasks",
        record="t1",
        op=change.op,
        data=msgspec.json.encode(change.data).decode(),
        field_meta=msgspec.json.encode(change.field_meta).decode(),
        created_us=change.created_at,
        schema_version=1,
        actor=None,
        origin=None,
        space=None,
    )
    sent = msgspec.json.decode(msgspec.json.encode(told(row)))
    came = row_in("todo", sent, 0)
    return None if came is None else change_of(came)


def seen(record: Snapshot) -> tuple[object, ...]:
    return record.fields, record.stamps, record.exists, record.complete


@given(histories())
def test_a_device_merges_what_came_as_the_log_is_merged(rows: list[Change]):
    rows = [row for row in rows if row.op in merge.OPS]  # others cannot be in the log
    came = [change for row in rows if (change := delivered(row)) is not None]
    assert seen(merge.fold(None, came)) == seen(merge.fold(None, rows))


@pytest.mark.parametrize("op", sorted(merge.OPS))
@pytest.mark.parametrize("held", [["a"], "a", 3, [], ""])
def test_a_row_that_holds_no_object_does_not_keep_the_others_from_a_device(op: str, held: object):
    damaged: list[Any] = [Change("1", 1, op, held, {}), Change("2", 2, op, {"a": 1}, held)]  # pyright: ignore[reportArgumentType] - as anybody may write it
    assert [delivered(one) for one in damaged] == [None, None]


def test_a_row_that_cannot_be_merged_changes_nothing_on_a_device_either():
    made = Change("1", 1, "insert", {"title": "a"}, {})
    gone = Change("2", 2, "delete", {"deletedAt": "2026-04-15T10:00:00.000Z"}, [])  # pyright: ignore[reportArgumentType] - as anybody may write it
    assert delivered(gone) is None
    assert (came := delivered(made)) is not None
    assert merge.fold(None, [came]).fields == {"title": "a"}
