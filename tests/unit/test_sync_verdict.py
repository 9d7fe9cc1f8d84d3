"""What a device is told of its changes: each record is judged once, however many they are."""

import msgspec
import pytest

from state.log import merge
from state.log.merge import Change
from state.store.gateway.sync_feeds import Histories, HistoryRow, Pushed, PushedRow
from supervisor.gateway.sync import verdict
from supervisor.gateway.sync.wire import ReadChange

AT = "2026-04-26T10:00:{:02}.000Z"


def change(n: int) -> Change:
    return Change(str(n), n, "update", {"title": None}, {"title": AT.format(n)})


def pushed(n: int, record: str) -> ReadChange:
    row = PushedRow(
        change_id=str(n),
        table="tasks",
        id=record,
        op="update",
        data=msgspec.Raw(b"{}"),
        meta={},
        schema=1,
        actor=msgspec.Raw(b"null"),
        origin=None,
        space=None,
    )
    return ReadChange(row)


def test_a_record_is_judged_once_for_all_its_changes(monkeypatch: pytest.MonkeyPatch):
    folded: list[int] = []

    def fold(snapshot: object, changes: list[Change], wrote: dict[str, Change]) -> merge.Snapshot:
        folded.append(len(changes))
        return fold_of_all(None, changes, wrote)

    fold_of_all = merge.fold
    monkeypatch.setattr(verdict.merge, "fold", fold)
    others = HistoryRow(change(30), "u1", "c-2")
    own = [HistoryRow(change(n), "u1", "c-1") for n in range(1, 21)]
    met: Histories = {("tasks", "t1"): [*own, others], ("tasks", "t2"): None}
    read = [*(pushed(n, "t1") for n in range(1, 21)), pushed(40, "t2"), pushed(41, "t3")]
    told = verdict.verdicts(
        read, [Pushed(is_new=True, created_us=1)] * len(read), met, author="u1", client="c-1"
    )
    assert folded == [21]
    assert [one.result.status for one in told] == ["lost"] * 20 + ["applied"] * 2
    assert [one.result.is_compared for one in told[-3:]] == [True, False, True]
