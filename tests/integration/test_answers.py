"""Answers of other services are read within bounds, over real sockets."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from mana_actors.clients.answers import AnswerUnreadable, bounded_answer
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import AliasFacts
from supervisor.gateway.people.tokens import KeySet, TokenRefused

Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]
PACKED = gzip.compress(b" " * 30_000_000)
BOMB = gzip.compress(gzip.compress(b" " * 30_000_000))
"""Some hundred bytes that unpack to 30 MB."""


class Heard:
    """What the service was sent: the head of the last request."""

    head = b""


@asynccontextmanager
async def service(speak: Speak) -> AsyncGenerator[tuple[str, Heard]]:
    """Whoever connects is told what `speak` writes; its address, and what it heard."""
    heard, open_writers = Heard(), set[asyncio.StreamWriter]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        heard.head = await reader.readuntil(b"\r\n\r\n")
        try:
            await speak(writer)
            await writer.drain()
        except ConnectionError:
            pass  # the reader had enough
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


def saying(body: bytes, *headers: str, status: str = "200 OK") -> Speak:
    async def speak(writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
        writer.write(head.encode() + b"\r\n\r\n" + body)

    return speak


async def endless_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await writer.drain()


async def dripping_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def dripping_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def half(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}")


async def read(speak: Speak, within_s: float = 30.0, max_bytes: int = 1000):
    async with service(speak) as (url, _), httpx2.AsyncClient(trust_env=False) as client:
        return await bounded_answer(client, "GET", url, within_s=within_s, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("gzip", "too_large"),
        ("GZIP", "too_large"),
        ("deflate", "too_large"),
        ("gzip, gzip", "encoded"),
        ("deflate, br, zstd", "encoded"),
        ("identity, gzip", "encoded"),
        ("x-unheard-of", "encoded"),
    ],
)
async def test_what_is_packed_is_not_unpacked(encoding: str, reason: str):
    with pytest.raises(AnswerUnreadable) as refused:
        await read(saying(PACKED, f"Content-Encoding: {encoding}"), max_bytes=1_000_000)
    assert refused.value.reason == reason


async def test_a_bomb_is_never_unpacked_beyond_the_bound():
    tracemalloc.start()
    try:
        with pytest.raises(AnswerUnreadable):
            await read(saying(PACKED, "Content-Encoding: gzip"), max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


async def test_what_is_packed_once_is_read_up_to_the_bound():
    packed = gzip.compress(b"x" * 1000)
    said = saying(packed, "Content-Encoding: gzip")
    assert (await read(said, max_bytes=1000)).content == b"x" * 1000
    with pytest.raises(AnswerUnreadable):
        await read(said, max_bytes=999)


@pytest.mark.parametrize(
    "body",
    [b"{}", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") * 2, b""],
    ids=["not packed", "cut off", "two", "nothing"],
)
async def test_what_is_packed_badly_is_refused(body: bytes):
    with pytest.raises(AnswerUnreadable) as refused:
        await read(saying(body, "Content-Encoding: gzip"))
    assert refused.value.reason == "encoded"


async def test_packed_bytes_that_unpack_to_nothing_end_at_the_bound():
    async def empty_blocks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: deflate")
        writer.write(b"\r\n\r\n2\r\n\x78\x9c\r\n")
        while True:
            writer.write(b"a\r\n" + b"\0\0\0\xff\xff" * 2 + b"\r\n")
            await writer.drain()

    with pytest.raises(AnswerUnreadable) as refused:
        await read(empty_blocks)
    assert refused.value.reason == "too_large"


async def test_packed_bytes_that_do_not_say_so_stay_packed():
    answer = await read(saying(BOMB), max_bytes=len(BOMB))
    assert answer.content == BOMB


@pytest.mark.parametrize("speak", [dripping_body, dripping_head, silence])
async def test_one_deadline_covers_whoever_drips(speak: Speak):
    with pytest.raises(AnswerUnreadable) as refused:
        await read(speak, within_s=0.3)
    assert refused.value.reason == "timeout"


async def test_an_endless_body_ends_at_the_bound():
    with pytest.raises(AnswerUnreadable) as refused:
        await read(endless_body)
    assert refused.value.reason == "too_large"


async def test_the_bound_itself_fits_and_one_byte_more_does_not():
    assert len((await read(saying(b"x" * 1000))).content) == 1000
    with pytest.raises(AnswerUnreadable):
        await read(saying(b"x" * 1001))


async def test_half_an_answer_is_none():
    with pytest.raises(AnswerUnreadable) as refused:
        await read(half)
    assert refused.value.reason == "RemoteProtocolError"


async def test_nobody_there_is_no_answer():
    async with httpx2.AsyncClient(trust_env=False) as client:
        with pytest.raises(AnswerUnreadable):
            await bounded_answer(client, "GET", "http://127.0.0.1:1", within_s=30.0)
        with pytest.raises(AnswerUnreadable):
            await bounded_answer(client, "GET", "http://[", within_s=30.0)


async def test_a_redirect_is_an_answer_and_is_not_followed():
    answer = await read(saying(b"", "Location: http://127.0.0.1:1/", status="302 Found"))
    assert (answer.status_code, answer.is_success) == (302, False)


async def test_it_asks_for_no_encoding():
    async with service(saying(b"{}")) as (url, heard), httpx2.AsyncClient() as client:
        await bounded_answer(client, "GET", url, within_s=30.0, headers={"x-own": "1"})
    assert b"accept-encoding: identity\r\n" in heard.head.lower()
    assert b"x-own: 1\r\n" in heard.head.lower()


@pytest.mark.parametrize("speak", [saying(BOMB, "Content-Encoding: gzip, gzip"), endless_body])
async def test_a_key_set_that_grows_lets_nobody_in(speak: Speak):
    async with service(speak) as (url, _):
        with pytest.raises(TokenRefused, match="no keys to check tokens by"):
            await KeySet(url).key("k1")


@pytest.mark.parametrize("speak", [saying(BOMB, "Content-Encoding: gzip, gzip"), endless_body])
async def test_facts_that_grow_are_none(speak: Speak):
    async with service(speak) as (url, _):
        provider = HttpProvider(f"{url}/v1")
        try:
            assert await provider.facts("mana/planner") == AliasFacts()
        finally:
            await provider.aclose()
