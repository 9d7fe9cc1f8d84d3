"""What an operators' page is read from, and what counts as another page."""

import asyncio

import pytest

from supervisor.gateway.pages.operator.live import AGAIN_S, Readings, Values, digest_of


class Source:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.reads, self.now, self.gate = 0, 0.0, asyncio.Event()
        self.readings = Readings(lambda: self.now)
        self.gate.set()

    async def read(self) -> Values:
        self.reads += 1
        number = self.reads
        await self.gate.wait()
        return {"number": number}

    async def of(self, address: str, pulse: str, since: float = 0.0) -> int:
        return (await self.readings.of(address, pulse, since, self.read))["number"]


async def test_two_readers_of_one_page_share_one_reading():
    source = Source()
    source.gate.clear()
    first, second = (
        asyncio.ensure_future(source.of("/", "a")),
        asyncio.ensure_future(source.of("/", "a")),
    )
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    assert await second == 1, "who goes away takes it from nobody"
    assert await source.of("/", "a") == 1
    assert await source.of("/fleet", "a") == 2


async def test_what_happened_after_a_reading_is_read_anew():
    source = Source()
    assert [await source.of("/", pulse) for pulse in ("a", "b", "b")] == [1, 2, 2]
    source.now += AGAIN_S / 2
    assert await source.of("/", "b") == 3


async def test_a_reader_is_told_nothing_older_than_what_it_came_with():
    source = Source()
    assert await source.of("/", "a") == 1
    source.now += 1
    assert [await source.of("/", "a", since=1.0) for _ in range(2)] == [2, 2]


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ('<p><time datetime="x" title="y">2 seconds ago</time></p>', True),
        ('<p><time datetime="z" title="y">1 second ago</time></p>', False),
        ('<p><time datetime="x" title="y">1 second ago</time>!</p>', False),
    ],
)
def test_a_page_is_another_unless_only_the_distance_of_a_time_grew(other: str, *, is_same: bool):
    page = '<p><time datetime="x" title="y">1 second ago</time></p>'
    assert (digest_of(page) == digest_of(other)) is is_same
