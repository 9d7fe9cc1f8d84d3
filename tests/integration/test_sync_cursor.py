"""A device misses no row, in whatever order its writers' transactions end."""

import asyncio
import json

import pytest

from tests.integration.steps import session
from tests.integration.support import Json
from tests.owners import House
from tests.postgres import SUPERUSER
from tests.sync_parts import EPOCH, SyncDevice, insert, update, writing

pytestmark = pytest.mark.one_postgres


def ids(changes: list[Json]) -> list[str]:
    return [change["id"] for change in changes]


@pytest.fixture
def device(house: House) -> SyncDevice:
    return SyncDevice(house)


@pytest.fixture
def other(house: House) -> SyncDevice:
    return SyncDevice(house, client="c-2")


async def test_what_one_device_pushed_another_pulls_once(device: SyncDevice, other: SyncDevice):
    await device.push(insert("t1", title="Brot"), update("t1", title="Milch"))
    found, until = await other.pull()
    assert [(one["id"], one["op"]) for one in found] == [("t1", "insert"), ("t1", "update")]
    assert await other.pull(until) == ([], until)
    assert (await device.pull())[0] == []


async def test_a_row_that_commits_late_still_comes(
    house: House, device: SyncDevice, other: SyncDevice
):
    async with writing(house, "late"):
        await device.push(insert("t1"))
        found, until = await other.pull()
        assert ids(found) == ["t1"]
    found, until = await other.pull(until)
    assert ids(found) == ["late"]
    assert await other.pull(until) == ([], until)


async def test_a_row_that_commits_late_comes_to_a_device_that_only_pushes(
    house: House, device: SyncDevice, other: SyncDevice
):
    async with writing(house, "late"):
        until = (await other.push(insert("t1")))["syncedUntil"]
        until = (await other.push(update("t1", title="x"), since=until))["syncedUntil"]
    told = await other.push(update("t1", title="y"), since=until)
    assert ids(told["serverChanges"]) == ["late"]


async def test_an_open_transaction_stops_nobody(house: House, device: SyncDevice):
    async with writing(house, "held"):
        for number in range(3):
            await device.push(insert(f"t{number}"))
        assert ids((await SyncDevice(house, client="c-2").pull())[0]) == ["t0", "t1", "t2"]


async def test_late_commits_around_a_page_border(
    house: House, other: SyncDevice, monkeypatch: pytest.MonkeyPatch
):
    """One transaction opens in front of the border and one behind it; both end after the page."""
    monkeypatch.setattr("supervisor.gateway.sync.routes.PULL_ROWS", 4)
    async with writing(house, "a0", "a1"):
        pass
    async with writing(house, "before"):
        async with writing(house, "a2", "a3"):
            pass
        async with writing(house, "a4", "a5"):
            pass
        async with writing(house, "behind"):
            async with writing(house, "a6"):
                pass
            page = await other.page()
            assert sorted(ids(page["serverChanges"])) == ["a0", "a1", "a2", "a3"]
            assert page["hasMore"]
    found, until = await other.pull(page["syncedUntil"])
    assert sorted(set(ids(found))) == ["a4", "a5", "a6", "before", "behind"]
    assert await other.pull(until) == ([], until)


@pytest.mark.parametrize("many", [1, 7, 50])
async def test_rows_of_one_time_across_page_borders(
    house: House, other: SyncDevice, monkeypatch: pytest.MonkeyPatch, many: int
):
    monkeypatch.setattr("supervisor.gateway.sync.routes.PULL_ROWS", 3)
    same = [f"s{number}" for number in range(many)]
    async with writing(house, "first"):
        pass
    async with writing(house, *same):
        pass
    async with writing(house, "last"):
        pass
    found, until = await other.pull()
    assert ids(found)[0] == "first"
    assert ids(found)[-1] == "last"
    assert sorted(ids(found)) == sorted(["first", *same, "last"])
    assert await other.pull(until) == ([], until)


async def test_a_row_joins_others_of_its_time_while_a_device_is_among_them(
    house: House, other: SyncDevice, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.sync.routes.PULL_ROWS", 2)
    at = "2026-05-01T10:00:00.000Z"
    async with writing(house, *[f"s{number}" for number in range(9)], at=at):
        pass
    page = await other.page()
    async with writing(house, *[f"n{number}" for number in range(9)], at=at):
        pass
    found, _ = await other.pull(page["syncedUntil"])
    seen = {*ids(page["serverChanges"]), *ids(found)}
    assert seen == {f"{letter}{number}" for letter in "sn" for number in range(9)}


@pytest.mark.parametrize(
    "at", ["2001-01-01", "2999-01-01", "-infinity", "infinity", "0044-03-15 BC"]
)
async def test_rows_with_a_time_of_the_writers_own(
    house: House, device: SyncDevice, other: SyncDevice, at: str
):
    await device.push(insert("t1"))
    _, until = await other.pull()
    async with writing(house, "odd", at=at):
        pass
    await device.push(insert("t2"))
    found, until = await other.pull(until)
    assert set(ids(found)) == ({"t2"} if "infinity" in at else {"odd", "t2"})
    await device.push(insert("t3"))
    assert ids((await other.pull(until))[0]) == ["t3"], "such a time moves nobody's position"
    late = await house.sql("SELECT FROM mana_ai.sync_late")
    assert bool(late) == ("infinity" not in at), "what is never sent is not kept"


async def test_a_position_ahead_of_the_clock_misses_nothing(house: House, device: SyncDevice):
    """A client that came from the sync service of old was told that service's clock."""
    other = SyncDevice(house, client="c-2")
    await other.page()
    async with writing(house, "late"):
        now = (await other.page())["serverTime"]
        _, until = await other.pull(now)
    found, _ = await other.pull(max(now, until))  # it never goes back
    assert ids(found) == ["late"]
    _, far = await other.pull("2999-01-01T00:00:00.000Z")
    await device.push(insert("t1"))
    assert "t1" in ids((await other.pull(far))[0])


async def test_positions_are_of_one_width_and_never_go_back(device: SyncDevice, other: SyncDevice):
    until = [EPOCH]
    for number in range(4):
        await device.push(insert(f"t{number}"))
        until.append((await other.pull(until[-1]))[1])
    assert {len(text) for text in until[1:]} == {30}
    assert until == sorted(until)


async def test_pushes_and_pulls_at_once_lose_and_mix_up_nothing(house: House):
    """Each reader sees every row, whatever is pushed meanwhile, and never goes back."""
    writers = [SyncDevice(house, client=f"w{number}") for number in range(4)]
    total = 4 * 12
    done = asyncio.Event()

    async def write(writer: SyncDevice) -> None:
        for number in range(12):
            await writer.push(insert(f"{writer.client_id}-{number}"))

    async def read(reader: SyncDevice) -> set[str]:
        seen: set[str] = set()
        until = EPOCH
        while True:
            was_done = done.is_set()
            found, reached = await reader.pull(until)
            assert reached >= until
            until = reached
            seen.update(ids(found))
            if was_done:
                return seen

    readers = [asyncio.create_task(read(SyncDevice(house, client=f"r{n}"))) for n in range(3)]
    await asyncio.gather(*(write(writer) for writer in writers))
    done.set()
    for seen in await asyncio.gather(*readers):
        assert len(seen) == total


async def test_a_push_is_cut_and_goes_on(
    house: House, device: SyncDevice, other: SyncDevice, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.sync.routes.PUSH_ROWS", 3)
    await device.push(*[insert(f"t{number}") for number in range(7)])
    found: list[str] = []
    since, more = EPOCH, True
    while more:
        told = await other.push(since=since)
        found += ids(told["serverChanges"])
        since, more = told["syncedUntil"], told.get("hasMore", False)
    assert found == [f"t{number}" for number in range(7)]


async def test_a_page_ends_after_so_many_bytes(
    house: House, device: SyncDevice, other: SyncDevice, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("state.store.gateway.sync_feeds.PAGE_BYTES", 10_000)
    await device.push(*[insert(f"t{number}", body="x" * 4000) for number in range(9)])
    page = await other.page()
    assert len(page["serverChanges"]) == 3
    assert len((await other.pull())[0]) == 9


SHARED = {"spaceId": "s-1"}


async def test_who_joins_a_space_gets_its_older_rows_page_by_page(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    """Without beginning anew, table by table as the wire always was, each device of theirs."""
    monkeypatch.setattr("supervisor.gateway.sync.routes.PULL_ROWS", 3)
    anna = SyncDevice(house, "anna", spaces=("s-1",))
    bert, second = (SyncDevice(house, "bert", client=f"b-{number}") for number in range(2))
    old = [f"t{number}" for number in range(10)]
    await anna.push(
        *[insert(id_) | SHARED for id_ in old], insert("n1") | SHARED | {"table": "notes"}
    )
    await SyncDevice(house, "bert").push(insert("own"), insert("own") | {"table": "notes"})
    until = {device: {table: (await device.pull(table=table))[1] for table in ("tasks", "notes")}
             for device in (bert, second)}  # fmt: skip
    await anna.push(insert("new") | SHARED)
    for device, at in until.items():
        device.spaces = ("s-1",)
        found, reached = await device.pull(at["tasks"])
        assert set(ids(found)) == {*old, "new"}
        assert ids((await device.pull(at["notes"], table="notes"))[0]) == ["n1"]
        assert await device.pull(reached) == ([], reached), "once"


async def test_who_joins_a_space_where_nothing_is_new_gets_its_older_rows(house: House):
    bert = SyncDevice(house, "bert")
    await SyncDevice(house, "anna", spaces=("s-1",)).push(insert("t1") | SHARED)
    await SyncDevice(house, "bert", client="c-2").push(insert("own"))
    _, at = await bert.pull()
    bert.spaces = ("s-1",)
    assert ids((await bert.pull(at))[0]) == ["t1"]


async def test_who_joins_while_a_transaction_of_the_space_is_open_misses_nothing(house: House):
    bert = SyncDevice(house, "bert")
    _, at = await bert.pull()
    bert.spaces = ("s-1",)
    async with writing(house, "late", user="anna", space_id="s-1"):
        _, at = await bert.pull(at)
    assert ids((await bert.pull(at))[0]) == ["late"]


async def test_who_leaves_gets_no_more_and_who_comes_back_gets_what_was_missed(house: House):
    anna = SyncDevice(house, "anna", spaces=("s-1",))
    bert = SyncDevice(house, "bert", spaces=("s-1",))
    await anna.push(insert("t1") | SHARED)
    found, at = await bert.pull()
    assert ids(found) == ["t1"]
    bert.spaces = ()
    await anna.push(insert("t2") | SHARED)
    await SyncDevice(house, "bert", client="c-2").push(insert("own"))
    found, at = await bert.pull(at)
    assert ids(found) == ["own"], "and its position is past what it may not read"
    bert.spaces = ("s-1",)
    found, at = await bert.pull(at)
    assert "t2" in ids(found)
    assert await bert.pull(at) == ([], at)


async def test_a_device_that_begins_is_told_each_row_once(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.sync.routes.PULL_ROWS", 1)
    anna = SyncDevice(house, "anna", spaces=("s-1",))
    await anna.push(*[insert(f"t{number}") | SHARED for number in range(3)])
    await SyncDevice(house, "bert").pull()
    found, _ = await SyncDevice(house, "bert", client="c-2", spaces=("s-1",)).pull()
    assert ids(found) == ["t0", "t1", "t2"]


async def test_a_device_whose_token_is_older_takes_nothing_from_another(house: House):
    """Its page borders stay where they were, though the other comes without the space."""
    await SyncDevice(house, "anna", spaces=("s-1",)).push(insert("t1") | SHARED)
    member, other = SyncDevice(house, "bert"), SyncDevice(house, "bert", client="c-2")
    _, at = await member.pull()
    _, other_at = await other.pull()
    member.spaces = ("s-1",)
    for turn in range(3):
        found, at = await member.pull(at)
        assert ids(found) == (["t1"] if turn == 0 else [])
        _, other_at = await other.pull(other_at)


async def test_so_many_devices_of_a_person_are_remembered(house: House):
    await house.sql(
        "INSERT INTO mana_ai.sync_devices (user_id, client_id, made_at) SELECT 'u1', 'x-' || n,"
        " now() - n * interval '1 s' FROM generate_series(1, 1000) AS n"
    )
    await SyncDevice(house).pull()
    kept = await house.sql("SELECT client_id FROM mana_ai.sync_devices WHERE user_id = 'u1'")
    assert len(kept) == 1000
    assert {row["client_id"] for row in kept} >= {"c-1", "x-1"}


LONG_LOG = """
INSERT INTO public.sync_changes (id, app_id, table_name, record_id, user_id, op, data, field_meta,
                                 client_id, created_at, schema_version)
SELECT gen_random_uuid(), 'todo', 'tasks', 'r' || n % 500, 'u1', 'update', '{}', '{}', 'c-1',
       now() - n * interval '1 s', 1 FROM generate_series(1, 20000) AS n
"""
PAGE = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
SELECT * FROM mana_ai.sync_page('u1', '{s-1}', 'todo', %s, 'c-2', now() - %s, 999,
                                now(), 50, 100000)
"""


@pytest.mark.parametrize("table", ["NULL", "'tasks'"])
async def test_a_page_of_a_long_log_reads_about_what_it_tells(house: House, table: str):
    """Its plan is made once for all, so it has to fit the beginning, the middle and the end."""
    await house.sql(LONG_LOG)
    async with session(house.database, SUPERUSER) as connection:
        for since in ("1 second", "1 day", "3 hours", "1 minute"):  # the first makes the plan
            told = await connection.fetchval(PAGE % (table, f"interval '{since}'"))
            plan = json.loads(told)[0]["Plan"]
            blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert since == "1 second" or blocks < 100, f"{since}: {blocks} of 600"
