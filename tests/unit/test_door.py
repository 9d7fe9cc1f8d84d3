"""Connections over real sockets: who is let in, who has to go, and what is not HTTP."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from mana_actors.http.bodies import answer, json_object
from mana_actors.http.door import Doorway, Guest, Limits, vouch_for
from mana_actors.http.names import Names
from mana_actors.http.server import RunningServer, serve

WITHIN_S = 30
LONG = b"x" * (32 * 1024 * 1024)


class House:
    """A server with a door of its own; `ended` is what it counted."""

    def __init__(self, limits: Limits) -> None:
        self.ended: list[str] = []
        self.door = Doorway(limits, self.ended.append)
        self.bodies: list[object] = []
        self.release = asyncio.Event()
        self.sockets: list[socket.socket] = []
        self.running: RunningServer
        routes = [
            Route("/well", self.well),
            Route("/body", self.body, methods=["POST"]),
            Route("/shut", self.shut, methods=["POST"]),
            Route("/long", self.long),
            Route("/stream", self.stream),
            Route("/known", self.known),
            Route("/busy", self.busy),
        ]
        self.app = Router(routes=routes, redirect_slashes=False)

    async def well(self, _: Request) -> Response:
        return answer({"ok": True})

    async def body(self, request: Request) -> Response:
        self.bodies.append(await json_object(request))
        return answer({"ok": True})

    async def shut(self, _: Request) -> Response:
        return answer({"error": "no"}, 401)

    async def long(self, _: Request) -> Response:
        return Response(LONG)

    async def stream(self, _: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 4096
                await asyncio.sleep(0)

        return StreamingResponse(events())

    async def known(self, request: Request) -> Response:
        vouch_for(request.scope)
        return answer({"ok": True})

    async def busy(self, request: Request) -> Response:
        vouch_for(request.scope)
        await self.release.wait()
        return answer({"ok": True})

    async def connected(self, raw: bytes = b"", *, buffer: int | None = None) -> "Caller":
        sock = socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.running.port))
        self.sockets.append(sock)
        caller = Caller(sock)
        await caller.send(raw)
        return caller

    async def get(self, path: str = "/well") -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.running.url, trust_env=False) as client:
            return await client.get(path)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not is_so():  # noqa: ASYNC110 - of somebody else
                await asyncio.sleep(0.02)


class Caller:
    """Bytes out and in on one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, raw: bytes) -> None:
        if raw:
            await asyncio.get_running_loop().sock_sendall(self.sock, raw)

    async def drip(self, raw: bytes) -> None:
        """A byte at a time, for ever, until the other side has had enough."""
        with suppress(OSError):
            while True:
                await self.send(raw)
                await asyncio.sleep(0.05)

    async def rest(self) -> bytes:
        """All until the other side hangs up."""
        heard = bytearray()
        async with asyncio.timeout(WITHIN_S):
            with suppress(ConnectionError):
                while chunk := await asyncio.get_running_loop().sock_recv(self.sock, 65536):
                    heard += chunk
        return bytes(heard)

    async def answered(self) -> bytes:
        """One answer's head and JSON."""
        heard = bytearray()
        async with asyncio.timeout(WITHIN_S):
            while not heard.endswith(b"}"):
                chunk = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
                assert chunk
                heard += chunk
        return bytes(heard)


@asynccontextmanager
async def house(limits: Limits | None = None, **more: float) -> AsyncGenerator[House]:
    made = House(limits or Limits(**more))  # pyright: ignore[reportArgumentType] # numbers all
    made.running = await serve(made.app, "127.0.0.1", 0, made.door)
    try:
        yield made
    finally:
        made.release.set()
        for each in made.sockets:
            each.close()
        await made.running.stop()


HEAD = b"GET /well HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "dripped"),
    [
        (b"", b"G"),
        (HEAD, b"X: y\r\n"),
        (POST, b"{"),
        (CHUNKED, b"1\r\n \r\n"),
        (POST.replace(b"/body", b"/shut"), b"{"),
        (HEAD + b"\r\n" + HEAD, b"X: y\r\n"),
    ],
    ids=["first-byte", "head", "body", "chunks", "body-of-a-refused-one", "second-head"],
)
async def test_dripping_extends_no_deadline(begun: bytes, dripped: bytes):
    async with house(head_s=0.6, body_s=0.6) as home:
        caller = await home.connected(begun)
        dripping = asyncio.create_task(caller.drip(dripped))
        heard = await caller.rest()
        dripping.cancel()
        assert b"408" in heard or b"401" in heard
        assert home.ended == ["slow"]
        await home.until(lambda: len(home.door) == 0)


async def test_a_connection_that_says_nothing_has_its_time():
    async with house(head_s=0.6) as home:
        heard = await (await home.connected()).rest()
        assert heard.startswith(b"HTTP/1.1 408")
        assert home.ended == ["slow"]


async def test_a_slow_body_never_reaches_its_handler():
    async with house(body_s=0.6) as home:
        caller = await home.connected(POST + b"{")
        assert (await caller.rest()).startswith(b"HTTP/1.1 408")
        assert home.bodies == []


async def test_a_body_that_is_refused_and_then_ends_leaves_no_connection_without_a_deadline():
    async with house(head_s=0.6, body_s=5) as home:
        caller = await home.connected(POST.replace(b"/body", b"/shut"))
        await caller.answered()
        await caller.send(b"x" * 1000)  # the body's end, after its answer
        await caller.rest()
        await home.until(lambda: len(home.door) == 0)


@pytest.mark.parametrize("path", ["/long", "/stream"])
@pytest.mark.parametrize("reads", [0, 16])
async def test_who_does_not_read_is_sent_away_and_nothing_is_made_for_them_any_more(
    path: str, reads: int
):
    async with house(write_s=0.8) as home:
        raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        caller = await home.connected(raw, buffer=4096)

        async def sipping() -> None:
            with suppress(OSError):
                while await asyncio.get_running_loop().sock_recv(caller.sock, reads):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        sips = asyncio.create_task(sipping()) if reads else None
        await home.until(lambda: home.ended == ["answer-unread"])
        await home.until(lambda: len(home.door) == 0)
        if sips is not None:
            sips.cancel()


async def test_who_reads_in_time_gets_a_long_answer_whole():
    async with house(write_s=0.8) as home:
        caller = await home.connected(
            b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n", buffer=65536
        )
        heard = 0
        async with asyncio.timeout(WITHIN_S):
            while heard < len(LONG):
                # Slower than it is sent, so that the server's buffer is never empty.
                chunk = await asyncio.get_running_loop().sock_recv(caller.sock, 256 * 1024)
                assert chunk
                heard += len(chunk)
                await asyncio.sleep(0.005)
        assert home.ended == []


async def test_the_oldest_that_says_nothing_makes_room():
    async with house(most=4) as home:
        silent = [await home.connected() for _ in range(4)]
        await home.until(lambda: len(home.door) == 4)
        newest = await home.connected()
        assert await silent[0].rest() == b""
        assert (await home.get()).status_code == 200  # and another one went for this
        assert home.ended == ["evicted", "evicted"]
        await newest.send(HEAD + b"\r\n")
        assert (await newest.answered()).startswith(b"HTTP/1.1 200")


async def test_a_known_caller_stays_while_strangers_come_and_go():
    async with house(most=4) as home:
        known = await home.connected(b"GET /known HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await known.answered()
        for _ in range(12):
            await home.connected()
        await home.until(lambda: len(home.ended) == 9)
        await known.send(HEAD + b"\r\n")
        assert (await known.answered()).startswith(b"HTTP/1.1 200")


async def test_among_known_callers_the_idle_one_goes_and_never_a_busy_one():
    async with house(most=2) as home:
        busy = await home.connected(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle = await home.connected(b"GET /known HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await idle.answered()
        second = await home.connected(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await idle.rest() == b""
        await home.until(lambda: all(guest.is_busy and guest.is_known for guest in home.door))
        refused = await home.connected(HEAD + b"\r\n")
        assert b"503 Service Unavailable" in await refused.rest()
        assert home.ended == ["evicted", "full"]
        home.release.set()
        for each in (busy, second):
            assert (await each.answered()).startswith(b"HTTP/1.1 200")


def guest(address: str) -> Guest:
    return Guest(address, lambda: None)


def test_an_address_pays_for_itself_alone():
    ended: list[str] = []
    door = Doorway(Limits(most=10, per_address=2), ended.append)
    other = guest("203.0.113.9")
    assert door.admits(other)
    crowd = [guest("203.0.113.7") for _ in range(4)]
    assert all(door.admits(each) for each in crowd)
    assert list(door) == [other, *crowd[2:]]
    for each in crowd[2:]:
        each.is_known = each.is_busy = True
    assert not door.admits(guest("203.0.113.7"))
    assert door.admits(guest("203.0.113.8"))
    assert ended == ["evicted", "evicted", "address-full"]


def test_a_network_of_ipv6_is_one_address_and_a_mapped_one_is_of_ipv4():
    door = Doorway(Limits(most=10, per_address=1))
    for first, second in [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
    ]:
        kept, gone = guest(second), guest(first)
        assert door.admits(gone)
        assert door.admits(kept)
        assert kept in door
        assert gone not in door


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "10.1.2.3"])
def test_tools_of_this_machine_and_proxies_share_no_budget(address: str):
    door = Doorway(Limits(most=10, per_address=1, proxies=("10.1.0.0/16",)))
    assert all(door.admits(guest(address)) for _ in range(5))
    assert len(door) == 5


def test_a_place_is_free_again_once_left_however_often_that_is_said():
    door = Doorway(Limits(most=1, per_address=1))
    for _ in range(3):
        one = guest("203.0.113.7")
        one.is_known = one.is_busy = True
        assert door.admits(one)
        door.leave(one)
        door.leave(one)
    assert len(door) == 0


TWO = b"\r\n\r\nGET /well HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (POST[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST[:-2] + b"Content-Length: 2\r\n\r\n{}", 400),
        (POST.replace(b"1000", b"2, 3") + b"{}", 400),
        (POST.replace(b"1000", b"+2") + b"{}", 400),
        (POST.replace(b"1000", b"2 2") + b"{}", 400),
        (CHUNKED.replace(b": chunked", b": gzip, chunked") + b"0\r\n\r\n", 501),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
        (CHUNKED.replace(b": chunked", b":\x0bchunked") + b"0\r\n\r\n", 400),
        (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\n{}\n0\n\n" + TWO, 400),
        (CHUNKED + b"2;\n=x\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\r\n{}xx0\r\n\r\n", 400),
        (HEAD + b"X: a\r\n b\r\n\r\n", 400),
        (HEAD + b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b" X: a\r\n\r\n", 400),
        (HEAD + b"X: a\nY: b\r\n\r\n", 400),
        (HEAD + b"X: a\n\n", 400),
        (HEAD + b"X: a\rY: b\r\n\r\n", 400),
        (HEAD + b"X: a\r\r\n\r\n", 400),
        (HEAD + b"X : a\r\n\r\n", 400),
        (HEAD + b"X\x00: a\r\n\r\n", 400),
        (HEAD + b"X: a\x00b\r\n\r\n", 400),
        (HEAD + b"Host: localhost\r\n\r\n", 400),
        (b"GET /well HTTP/1.1\r\n\r\n", 400),
        (b"GET /well\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /we\xc3\xa4ll HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET  /well HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\r\n" + HEAD + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (HEAD + b"X: " + b"a" * 20_000, 431),
    ],
)
async def test_what_two_readers_might_read_in_two_ways_is_refused(raw: bytes, status: int):
    async with house(body_s=0.6) as home:
        caller = await home.connected(raw)
        heard = await caller.rest()
        assert heard.startswith(f"HTTP/1.1 {status} ".encode())
        assert heard.count(b"\r\n\r\n") == 1  # nothing after it was taken for a request
        assert heard.endswith(b'"}')
        assert home.bodies == []
        assert (await home.get()).status_code == 200


async def test_after_chunks_nothing_more_is_read_from_a_connection():
    async with house() as home:
        caller = await home.connected(CHUNKED + b"2\r\n{}\r\n0\r\nX: y\r\n\r\n" + HEAD + b"\r\n")
        heard = await caller.rest()
        assert home.bodies == [{}]
        assert heard.count(b"HTTP/1.1") == 1


async def test_one_request_after_another_is_served_also_when_sent_at_once():
    async with house() as home:
        caller = await home.connected(HEAD + b"\r\n" + HEAD + b"Connection: close\r\n\r\n")
        assert (await caller.rest()).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8", True),
        ("[::1]:3067", True),
        ("localhost.", True),
        ("mana.example.org", True),
        ("mana.example.org:443", True),
        ("MANA.example.org", True),
        ("192.0.2.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("mana.example.org.evil.example", False),
        ("evil.example@localhost", False),
        ("localhost:80:80", False),
        ("localhost:x", False),
        ("2130706433", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_our_own_names_are_answered(host: str, is_ours: bool):
    assert Names(public=("https://mana.example.org",)).has(host) == is_ours


def test_who_listens_for_others_is_asked_by_any_address_and_still_by_no_strange_name():
    names = Names(any_address=True)
    assert names.has("192.0.2.1:3067")
    assert names.has("[2001:db8::1]")
    assert not names.has("evil.example")


async def test_a_strange_name_is_misdirected():
    async with house() as home:
        caller = await home.connected(HEAD.replace(b"localhost", b"evil.example:80") + b"\r\n")
        heard = await caller.answered()
        assert heard.startswith(b"HTTP/1.1 421")
        assert b"MANA_PUBLIC_URL" in heard
        old = await home.connected(b"GET /well HTTP/1.0\r\n\r\n")  # a health check without a name
        assert (await old.rest()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("origins", "is_ours"),
    [
        (["http://localhost:3067"], True),
        (["https://mana.example.org"], True),
        (["https://localhost:3067"], False),
        (["http://localhost"], False),
        (["http://localhost:3068"], False),
        (["http://mana.example.org"], False),
        (["null"], False),
        (["//localhost:3067"], False),
        (["localhost:3067"], False),
        (["http://evil@localhost:3067"], False),
        (["http://localhost:3067/"], False),
        (["http://localhost:3067, null"], False),
        (["http://localhost:3067", "http://localhost:3067"], False),
        (["http://localhost:3067", "null"], False),
        ([""], False),
        ([], False),
    ],
)
def test_a_page_of_ours_has_our_scheme_host_and_port(origins: list[str], is_ours: bool):
    headers = [(b"host", b"localhost:3067"), *((b"origin", each.encode()) for each in origins)]
    scope = {"type": "http", "scheme": "http", "headers": headers}
    assert Names(public=("https://mana.example.org",)).is_own_page(scope) == is_ours
