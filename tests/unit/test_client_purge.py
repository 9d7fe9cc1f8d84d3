"""Rows of the log that a client lets go of: what it shows stays, and late rows still count."""

import sqlite3
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mana_actors.client import Client
from mana_actors.client.local import writes
from mana_actors.client.local.clock import MOST_AHEAD_NS, StampClock
from mana_actors.client.local.kept import NOTHING, LocalRow, change_of, folded, row_order
from mana_actors.client.local.schema import STEPS
from mana_actors.client.local.store import Arrival, HistoryBounds, LocalStore
from mana_actors.client.local.writes import Hand
from state.log import merge
from state.log.own_changes import RecordAt
from state.log.principals import user_actor
from state.log.stamps import NS_PER_MS, NS_PER_S, format_instant

APP, TABLE = "todo", "tasks"
AT = RecordAt(APP, TABLE, "r")
NONE_KEPT = HistoryBounds(days=0, least_days=0)


@pytest.fixture
def store(tmp_path: Path) -> Generator[LocalStore]:
    store = LocalStore(tmp_path / "store.db", lambda _point: None)
    yield store
    store.close()


def row(n: int, data: dict[str, Any], op: str = "update", *, record: str = "r") -> LocalRow:
    """The row at `n` µs, whose fields were written at `n` ms; deletes have no stamps."""
    meta = {} if op == "delete" else {name: at(n) for name in data}
    id_ = f"00000000-0000-4000-8000-{n:012x}"
    return LocalRow(id_, APP, TABLE, record, op, data, meta, user_actor("u1"), created_us=n)


def at(ms: int) -> str:
    return format_instant(ms * NS_PER_MS)


def unstamped(one: LocalRow) -> LocalRow:
    return msgspec.structs.replace(one, field_meta={})


def arrive(store: LocalStore, *rows: LocalRow, is_last: bool = True) -> None:
    store.begin()
    store.arrive(APP, Arrival(rows, "x", "", is_last))
    store.commit()


def read_anew(store: LocalStore, *rows: LocalRow, since: str = "", from_us: int = 0) -> None:
    """A page of it; the last one where `since` is empty."""
    store.begin()
    store.arrive_anew(APP, Arrival(rows, since, "", not since), purge_from_us=from_us)
    store.commit()


def purge(store: LocalStore, before_us: int, most_rows: int = 100) -> int:
    store.begin()
    went = store.purge(APP, now_us=before_us, most_rows=most_rows, bounds=NONE_KEPT)
    store.commit()
    return went


def is_replay(store: LocalStore, *rows: LocalRow) -> bool:
    found = (store.shown(AT) or NOTHING).snapshot
    wanted = merge.fold(None, [change_of(one) for one in sorted(rows, key=row_order)])
    return (found.fields, found.stamps, found.exists) == (
        wanted.fields,
        wanted.stamps,
        wanted.exists,
    )


def test_a_row_between_those_that_went_and_those_that_stay_is_merged_in_its_place(
    store: LocalStore,
):
    first, third = row(1, {}, "delete"), unstamped(row(3, {"b": 3}))
    second = unstamped(row(2, {"c": 2}))
    arrive(store, first, third)
    assert purge(store, before_us=2) == 1
    arrive(store, second)
    assert store.known(APP).anew is None
    assert is_replay(store, first, second, third)


def test_what_went_is_part_of_what_a_later_late_row_makes(store: LocalStore):
    rows = [row(1, {"a": 1}, "insert"), row(2, {"b": 2}), row(4, {"c": 4})]
    arrive(store, *rows)
    assert purge(store, before_us=3) == 2
    arrive(store, row(3, {"b": 3}))
    assert is_replay(store, *rows, row(3, {"b": 3}))


def test_a_row_older_than_those_that_went_is_shown_once_the_app_was_read_anew(store: LocalStore):
    rows = [row(2, {"a": 2}, "insert"), row(3, {"b": 3})]
    late, other = unstamped(row(1, {"c": 1})), row(9, {"a": 9}, record="other")
    arrive(store, *rows)
    assert purge(store, before_us=10) == 2
    arrive(store, late, other)
    assert store.known(APP).anew == ""
    assert is_replay(store, *rows), "nothing is shown in part"
    assert store.shown(RecordAt(APP, TABLE, "other")) is None
    read_anew(store, rows[0], since="1")
    arrive(store, row(10, {"a": 10}, record="other"))
    assert store.known(APP).anew == "1", "what comes meanwhile does not begin it again"
    read_anew(store, rows[1], late)
    assert store.known(APP).anew is None
    assert is_replay(store, late, *rows)
    assert store.shown(RecordAt(APP, TABLE, "other")) is not None


def test_nothing_goes_while_an_app_is_read_anew_nor_shortly_after(store: LocalStore):
    first, second, late = row(1, {"a": 1}, "insert"), row(2, {"b": 2}), row(3, {"a": 0}, record="x")
    first_of_x = row(4, {"a": 4}, record="x")
    arrive(store, first, second, first_of_x)
    assert purge(store, before_us=2) == 1
    assert purge(store, before_us=10, most_rows=1) == 1  # r's
    arrive(store, second)  # once more
    assert store.known(APP).anew == ""
    read_anew(store, second, since="1")
    assert purge(store, before_us=10) == 0
    read_anew(store, first, first_of_x, late, from_us=11)
    assert is_replay(store, first, second)
    assert purge(store, before_us=10) == 0
    assert purge(store, before_us=11) == 4


def test_a_row_that_is_not_shown_yet_stays_and_all_behind_it(store: LocalStore):
    first, second = row(1, {"a": 1}, "insert"), row(2, {"b": 2})
    arrive(store, second)
    arrive(store, first, is_last=False)
    assert purge(store, before_us=10) == 0
    arrive(store)
    assert is_replay(store, first, second)


def test_a_record_gone_for_long_keeps_no_values_and_comes_back_whole(
    store: LocalStore, tmp_path: Path
):
    rows = [row(1, {"a": "Milk", "b": 1}, "insert"), row(2, {"deletedAt": at(2)}, "delete")]
    arrive(store, *rows)
    assert purge(store, before_us=10) == 2
    found = store.shown(AT)
    assert found is not None
    assert (found.snapshot.fields, found.is_hidden) == ({"deletedAt": at(2)}, True)
    assert set(found.snapshot.stamps) == {"a", "b", "deletedAt"}
    assert b"Milk" not in whole_file(store, tmp_path)
    back = row(20, {"deletedAt": None})
    arrive(store, back)
    assert store.known(APP).anew == ""
    read_anew(store, *rows, back)
    assert is_replay(store, *rows, back)


def whole_file(store: LocalStore, folder: Path) -> bytes:
    store.close()
    held = LocalStore(folder / "store.db", lambda _point: None)
    held.close()  # its last connection writes the log into the file
    raw = b"".join(file.read_bytes() for file in folder.iterdir())
    store.__init__(folder / "store.db", lambda _point: None)
    return raw


def test_values_stay_where_something_that_was_refused_waits(store: LocalStore):
    rows = [row(1, {"a": "Milk"}, "insert"), row(2, {"deletedAt": at(2)}, "delete")]
    arrive(store, rows[0])
    by = Hand("u1", user_actor("u1"), "_personal:u1", 5 * NS_PER_MS)
    known = store.shown(AT) or NOTHING
    (made,) = writes.changed(known, {"b": 1}, by)
    store.begin()
    store.add(AT, [writes.signed(made, AT, known, by, "00000000-0000-4000-8000-0000000000ff")])
    store.refuse(store.waiting()[0].push if store.waiting() else 1, APP, "no")
    store.commit()
    arrive(store, rows[1])
    assert purge(store, before_us=10) == 2
    found = store.shown(AT)
    assert found is not None
    assert found.snapshot.fields["a"] == "Milk"


def test_so_much_goes_as_is_beyond_the_bounds_and_the_file_gets_smaller(store: LocalStore):
    day = 86_400_000_000
    rows = [row(n * day, {"a": "x" * 5000, "n": n}, record=f"r{n % 7}") for n in range(1, 301)]
    arrive(store, *rows)
    full = pages(store)
    store.begin()
    bounds = HistoryBounds(days=250, least_days=100, bytes=10_000_000)
    assert store.purge(APP, now_us=300 * day, most_rows=1000, bounds=bounds) == 49
    store.commit()
    tight = HistoryBounds(days=250, least_days=100, bytes=1_000_000)
    went: list[int] = []
    while not went or went[-1]:
        store.begin()
        went.append(store.purge(APP, now_us=300 * day, most_rows=20, bounds=tight))
        store.commit()
        store.give_back()
    assert max(went) == 20
    assert store.kept_bytes() < 1_000_000
    assert pages(store) < full * 3 // 4
    assert len((store.shown(RecordAt(APP, TABLE, "r1")) or NOTHING).snapshot.fields) == 2


def pages(store: LocalStore) -> int:
    (count,) = store._read.execute("PRAGMA page_count").fetchone()  # pyright: ignore[reportPrivateUsage]
    return count


def test_a_file_of_an_older_version_loses_nothing_and_can_give_pages_back(tmp_path: Path):
    path, first = tmp_path / "store.db", row(1, {"a": "x" * 9000}, "insert")
    made = folded(NOTHING, [first])
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"{STEPS[0]}PRAGMA user_version = 1;")
    db.execute(
        "INSERT INTO change VALUES (?, ?, ?, 'r', 1, 1, ?)",
        (first.id, APP, TABLE, msgspec.json.encode(first)),
    )
    db.execute(
        "INSERT INTO record VALUES (?1, ?2, 'r', ?3, ?3, 0, 0)",
        (APP, TABLE, msgspec.json.encode(made)),
    )
    db.close()
    store = LocalStore(path, lambda _point: None)
    try:
        assert is_replay(store, first)
        assert store.kept_bytes() == len(msgspec.json.encode(first))
        before = pages(store)
        assert purge(store, before_us=10) == 1
        store.give_back()
        assert pages(store) < before
        arrive(store, row(2, {"b": 2}))
        assert is_replay(store, first, row(2, {"b": 2}))
    finally:
        store.close()


@pytest.mark.parametrize("most_bytes", [0, 1, 30_000, 70_000])
def test_a_disk_without_room_at_first_is_one_clear_error(tmp_path: Path, most_bytes: int):
    open_it = (
        "import asyncio, resource, sys\n"
        "from mana_actors.client import Client, StoreUnusable\n"
        "async def main():\n"
        "    async with Client.open(sys.argv[1], user='u1', live=False):\n"
        "        pass\n"
        "most = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except StoreUnusable as exc:\n"
        "    sys.exit(str(exc))\n"
    )
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", open_it, str(path), str(most_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "see whether the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    LocalStore(path, lambda _point: None).close()  # with room it is a store


# --- the clock ------------------------------------------------------------------------------------


def test_stamps_of_a_device_rise_whatever_its_clock_and_the_servers_do():
    wall = [1_000 * NS_PER_S]
    clock = StampClock(wall_ns=lambda: wall[0])
    stamps = [clock.now(), clock.now()]
    clock.heard(wall[0] - 60 * NS_PER_S, wall[0], wall[0])  # it was a minute ahead
    stamps.append(clock.now())
    wall[0] -= 10 * NS_PER_S  # set back
    stamps += [clock.now(), clock.now()]
    again = StampClock(clock.offset_ns, lambda: wall[0], clock.last_ns)
    stamps.append(again.now())
    assert stamps == sorted({stamp // NS_PER_MS * NS_PER_MS for stamp in stamps})


def test_a_clock_that_was_further_ahead_than_counts_goes_back():
    wall = [10_000 * NS_PER_S]
    clock = StampClock(wall_ns=lambda: wall[0])
    clock.now()
    clock.heard(wall[0] - MOST_AHEAD_NS - NS_PER_S, wall[0], wall[0])
    assert clock.now() == wall[0] - MOST_AHEAD_NS - NS_PER_S


async def test_the_last_stamp_outlives_the_process_and_a_clock_set_back(tmp_path: Path):
    path, stamps = tmp_path / "store.db", list[str]()
    for n, now_ns in enumerate((1_000 * NS_PER_S, 900 * NS_PER_S, 900 * NS_PER_S)):
        async with Client.open(path, user="u1", live=False, wall_ns=lambda ns=now_ns: ns) as client:
            await client.table("tasks").put(f"t{n}", {"title": "Milk"})
            found = await client.table("tasks").get(f"t{n}")
            assert found is not None
            stamps.append(found.updated_at)
    assert stamps == sorted(set(stamps))
