"""Whatever order rows come in, a client ends with the record that the server's replay makes."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_actors.client.local import writes
from mana_actors.client.local.kept import (
    NOTHING,
    KeptRecord,
    LocalRow,
    change_of,
    emptied,
    row_order,
)
from mana_actors.client.local.store import Arrival, HistoryBounds, LocalStore
from mana_actors.client.local.writes import Hand
from mana_actors.client.server import wire
from state.log import merge
from state.log.own_changes import RecordAt
from state.log.principals import user_actor
from state.log.stamps import NS_PER_MS, NS_PER_US, format_instant

APP, TABLE = "todo", "tasks"
START_NS = 1_777_000_000_000 * NS_PER_MS
RECORDS = ["r1", "r2"]
FIELDS = ["a", "b"]
CLIENTS = 3


@contextmanager
def store_in(folder: Path, name: str) -> Generator[LocalStore]:
    store = LocalStore(folder / name, lambda _point: None)
    try:
        yield store
    finally:
        store.close()


class Log:
    """The rows that the server has, each once, and what a reader of it makes of them."""

    def __init__(self) -> None:
        self.rows: list[LocalRow] = []

    def add(self, row: LocalRow, created_us: int) -> None:
        if all(one.id != row.id for one in self.rows):
            self.rows.append(msgspec.structs.replace(row, created_us=created_us, mine=False))

    def wire(self, picked: list[LocalRow]) -> bytes:
        """An answer that delivers these, as the server writes it."""
        changes: list[dict[str, Any]] = []
        for row in picked:
            data = row.data or {}
            change: dict[str, Any] = {
                "eventId": row.id,
                "schemaVersion": 1,
                "table": row.table,
                "id": row.record,
                "op": row.op,
                "createdAt": format_instant(row.created_us * NS_PER_US),
                "actor": row.actor,
            }
            if row.op == "delete":
                change |= {"deletedAt": data["deletedAt"]} if data else {}
            else:
                change["fields"] = {
                    name: {"value": value, "at": row.field_meta[name]}
                    for name, value in data.items()
                    if name in row.field_meta
                }
                change["data"] = {
                    name: value for name, value in data.items() if name not in row.field_meta
                }
            changes.append(change)
        answer = {"serverChanges": changes, "conflicts": [], "syncedUntil": "x"}
        return msgspec.json.encode(answer)

    def replayed(self, record: str) -> merge.Snapshot:
        rows = sorted((row for row in self.rows if row.record == record), key=row_order)
        return merge.fold(None, [change_of(row) for row in rows])


class Device:
    """A store with a clock of its own, and no server."""

    def __init__(self, number: int, store: LocalStore) -> None:
        self.number, self.store, self.made = number, store, 0

    def write(self, record: str, fields: dict[str, Any] | None, at_ms: int) -> None:
        """Put, or delete."""
        at = RecordAt(APP, TABLE, record)
        by = Hand(f"u{self.number}", user_actor("u1"), "_personal:u1", START_NS + at_ms * NS_PER_MS)
        self.store.begin()
        known = self.store.shown(at, inside=True) or NOTHING
        if fields is not None:
            rows = writes.put(at, "space", known, fields, by)
        elif known.is_hidden:
            rows = []
        else:
            rows = writes.changed(known, {"deletedAt": True}, by)
        signed = [writes.signed(row, at, known, by, self._id()) for row in rows]
        if signed:
            self.store.add(at, signed)
        self.store.commit()

    def push(self, log: Log, at_us: int, *, is_answered: bool = True) -> None:
        """All that waits; the answer may get lost."""
        waiting = self.store.next_push(APP, most_rows=200, most_bytes=10**6)
        for n, one in enumerate(waiting):
            log.add(one.row, at_us + n)
        if not is_answered:
            return
        times = {row.id: row.created_us for row in log.rows}
        self.store.begin()
        self.store.settle(
            [
                wire.settled(one.row, wire.PushOutcome(created_us=times[one.row.id]), 0)
                for one in waiting
            ]
        )
        self.store.commit()

    def take(self, log: Log, picked: list[LocalRow], *, is_last: bool) -> None:
        """A page of rows, in the order given."""
        answer = wire.read_answer(APP, log.wire(picked), 0)
        assert answer.malformed == 0
        self.store.begin()
        self.store.arrive(APP, Arrival(answer.rows, "x", "", is_last))
        self.store.commit()

    def restart(self) -> None:
        """A new process on the same file."""
        self.store.close()
        self.store = LocalStore(self.store.path, lambda _point: None)

    def purge(self, before_us: int, most_rows: int) -> int:
        """Rows older than a time."""
        self.store.begin()
        bounds = HistoryBounds(days=0, least_days=0)
        went = self.store.purge(APP, now_us=before_us, most_rows=most_rows, bounds=bounds)
        self.store.commit()
        return went

    def read_anew(self, log: Log, picking: Any = None) -> None:
        """A page of what has to be read a second time, or all that is left of it."""
        anew = self.store.known(APP).anew
        if anew is None:
            return
        first = int(anew or 0)
        end = len(log.rows) if picking is None else picking.randint(first, len(log.rows))
        page = wire.read_answer(APP, log.wire(log.rows[first:end]), 0)
        self.store.begin()
        came = Arrival(page.rows, str(end), "", end == len(log.rows))
        self.store.arrive_anew(APP, came, purge_from_us=0)
        self.store.commit()

    def _id(self) -> str:
        self.made += 1
        return f"00000000-0000-4000-8000-{self.number:04x}{self.made:08x}"


step = st.one_of(
    st.tuples(
        st.just("put"),
        st.integers(0, CLIENTS - 1),
        st.sampled_from(RECORDS),
        st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 2) | st.none() | st.booleans()),
        st.integers(0, 20),
    ),
    st.tuples(
        st.just("delete"), st.integers(0, CLIENTS - 1), st.sampled_from(RECORDS), st.integers(0, 20)
    ),
    st.tuples(st.just("push"), st.integers(0, CLIENTS - 1), st.booleans()),
    st.tuples(st.just("take"), st.integers(0, CLIENTS - 1), st.randoms(), st.booleans()),
    st.tuples(
        st.just("purge"), st.integers(0, CLIENTS - 1), st.integers(0, 250), st.integers(1, 9)
    ),
    st.tuples(st.just("anew"), st.integers(0, CLIENTS - 1), st.randoms()),
    st.tuples(st.just("restart"), st.integers(0, CLIENTS - 1)),
    # Somebody else's row, which may become visible long after its time, and may have no stamps.
    st.tuples(
        st.just("other"),
        st.sampled_from(["insert", "update", "delete", "hard"]),
        st.sampled_from(RECORDS),
        st.sampled_from(FIELDS),
        st.integers(0, 20),
        st.integers(0, 40),
        st.booleans(),
    ),
)


def other_row(number: int, step: Any) -> tuple[LocalRow, int]:
    _, op, record, field, at_ms, at_us, has_stamp = step
    at = format_instant(START_NS + at_ms * NS_PER_MS)
    data = {field: f"o{number}"} if op in ("insert", "update") else {}
    if op == "delete":
        data = {"deletedAt": at}
    row = LocalRow(
        f"00000000-0000-4000-9000-{number:012x}",
        APP,
        TABLE,
        record,
        "delete" if op == "hard" else op,
        data,
        {field: at} if has_stamp and op in ("insert", "update") else {},
    )
    return row, START_NS // NS_PER_US + at_us


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=30), st.randoms())
def test_any_order_pages_repeats_and_purges_make_the_servers_record(steps: list[Any], order: Any):
    folder = Path(tempfile.mkdtemp(dir=_quickest()))
    devices = [Device(n, LocalStore(folder / str(n), lambda _point: None)) for n in range(CLIENTS)]
    try:
        _play(devices, steps, order)
    finally:
        for device in devices:
            device.store.close()
        shutil.rmtree(folder)


def _play(devices: list[Device], steps: list[Any], order: Any) -> None:
    log, now_us = Log(), START_NS // NS_PER_US
    for number, step in enumerate(steps):
        now_us += 7
        match step:
            case ("put", n, record, fields, at_ms):
                devices[n].write(record, fields, at_ms)
            case ("delete", n, record, at_ms):
                devices[n].write(record, None, at_ms)
            case ("push", n, is_answered):
                devices[n].push(log, now_us, is_answered=is_answered)
            case ("take", n, picking, is_last):
                picked = [row for row in log.rows if picking.random() < 0.7]
                picking.shuffle(picked)
                devices[n].take(log, picked, is_last=is_last)
            case ("purge", n, past_us, most_rows):
                devices[n].purge(START_NS // NS_PER_US + past_us, most_rows)
            case ("anew", n, picking):
                devices[n].read_anew(log, picking)
            case ("restart", n):
                devices[n].restart()
            case _:
                log.add(*other_row(number, step))
    for device in devices:
        device.push(log, now_us + 100 * (device.number + 1))
    for device in devices:
        rows = [*log.rows, *log.rows[:3]]
        order.shuffle(rows)
        device.take(log, rows[: len(rows) // 2], is_last=False)
        device.take(log, rows[len(rows) // 2 :], is_last=True)
        device.read_anew(log)
        _is_as_replayed(device, log)
        while device.purge(1 << 61, 3):
            _is_as_replayed(device, log)
        device.take(log, log.rows[-2:], is_last=True)  # again, and behind what went
        device.read_anew(log)
        _is_as_replayed(device, log)
        assert device.store.waiting() == []


def _is_as_replayed(device: Device, log: Log) -> None:
    for record in RECORDS:
        wanted = log.replayed(record)
        found = device.store.shown(RecordAt(APP, TABLE, record)) or NOTHING
        if merge.hidden(wanted) and merge.hidden(found.snapshot):
            # Of a record that is gone the values may be gone as well.
            wanted_fields = emptied(KeptRecord(wanted)).snapshot.fields
            assert found.snapshot.fields in (wanted.fields, wanted_fields)
            wanted = msgspec.structs.replace(wanted, fields=found.snapshot.fields)
        assert found.snapshot.exists == wanted.exists
        assert found.snapshot.fields == wanted.fields
        assert found.snapshot.stamps == wanted.stamps
        assert found.snapshot.complete == wanted.complete


def _quickest() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def test_rows_show_once_all_of_an_answer_are_here(tmp_path: Path):
    log = Log()
    rows = [other_row(n, ("other", "insert", "r1", f, 1, n, True))[0] for n, f in enumerate("ab")]
    for n, row in enumerate(rows):
        log.add(row, n + 1)
    with store_in(tmp_path, "1") as store:
        device, at = Device(1, store), RecordAt(APP, TABLE, "r1")
        device.take(log, log.rows[:1], is_last=False)
        assert store.shown(at) is None
        device.take(log, log.rows[1:], is_last=True)
        found = store.shown(at)
        assert found is not None
        assert found.snapshot.fields == {"a": "o0", "b": "o1"}


@pytest.mark.parametrize(
    ("local", "server", "at_ms", "told"),
    [
        ("mine", "theirs", 50, True),
        ("mine", "theirs", 10, False),  # as old
        ("mine", "theirs", 5, False),
        ("mine", "mine", 50, False),
        (None, "theirs", 50, False),
    ],
)
def test_a_conflict_is_told_of_where_something_newer_replaced_a_persons_value(
    tmp_path: Path, local: str | None, server: str, at_ms: int, *, told: bool
):
    log = Log()
    with store_in(tmp_path, "1") as store:
        device = Device(1, store)
        device.take(log, [], is_last=True)
        device.write("r1", {"a": local}, 10)
        device.push(log, START_NS // NS_PER_US)
        at = format_instant(START_NS + at_ms * NS_PER_MS)
        row = LocalRow("00000000-0000-4000-9000-000000000001", APP, TABLE, "r1", "update")
        row = msgspec.structs.replace(row, data={"a": server}, field_meta={"a": at})
        log.add(row, START_NS // NS_PER_US + 50)
        store.begin()
        store.arrive(APP, Arrival([msgspec.structs.replace(log.rows[-1])], "x", "", is_last=True))
        found = [one.field for _, one in store.commit().conflicts]
        assert found == (["a"] if told else [])
        # A burst of newer ones replaces what is not this person's any more.
        store.begin()
        burst = [
            msgspec.structs.replace(
                row,
                id=f"00000000-0000-4000-9000-0000000001{n:02}",
                data={"a": n},
                field_meta={"a": format_instant(START_NS + (at_ms + n) * NS_PER_MS)},
                created_us=START_NS // NS_PER_US + 100 + n,
            )
            for n in range(10)
        ]
        store.arrive(APP, Arrival(burst, "x", "", is_last=True))
        later = store.commit().conflicts
        assert len(later) <= 1
        assert not (told and later)


def test_of_two_values_of_one_instant_the_later_rows_stays_though_it_came_first(tmp_path: Path):
    log = Log()
    for n in range(2):
        log.add(other_row(n, ("other", "insert", "r1", "a", 1, n, True))[0], n + 1)
    with store_in(tmp_path, "1") as store:
        device = Device(1, store)
        for row in reversed(log.rows):
            device.take(log, [row], is_last=True)
        found = store.shown(RecordAt(APP, TABLE, "r1"))
        assert found is not None
        assert found.snapshot.fields == log.replayed("r1").fields == {"a": "o1"}


def test_an_own_row_that_comes_back_waits_no_longer_and_stays_ones_own(tmp_path: Path):
    log = Log()
    with store_in(tmp_path, "1") as store:
        device = Device(1, store)
        device.write("r1", {"a": 1}, 10)
        device.push(log, START_NS // NS_PER_US, is_answered=False)
        device.take(log, log.rows, is_last=True)
        assert store.waiting() == []
        found = store.shown(RecordAt(APP, TABLE, "r1"))
        assert found is not None
        assert found.meta["a"].origin == "user"
