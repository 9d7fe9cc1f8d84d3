"""A device misses no row, in whatever order its writers' transactions end."""

import asyncio

import pytest

from tests.integration.support import Json
from tests.owners import House
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
