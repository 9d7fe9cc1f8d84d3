"""What all HTTP servers share, asked without a socket."""

import logging
import pickle
import socket
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.http.bodies import BadRequest, answer, json_object
from mana_actors.http.edge import Edge, has_bearer
from mana_actors.http.paths import PathUnclear, checked_path, path_of, text_of
from mana_actors.http.sockets import CannotListen, bound_socket

SECRET = "what-a-caller-said"
TOKEN = "t0ken"
log = logging.getLogger("test.http")


def refusal(status: int, words: str) -> Response:
    return answer({"error": words}, status)


def known(exc: Exception) -> Response | None:
    return refusal(exc.status, str(exc)) if isinstance(exc, BadRequest) else None


class Desk:
    """An edge in front of a few handlers; `counted` is what it counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, str, int]] = []
        routes = [
            Route("/echo", self.echo, methods=["POST"]),
            Route("/broken", self.broken),
            Route("/gone", self.gone),
            Route("/item/{id}", self.echo, methods=["POST"]),
            Route("/half", Half()),
        ]
        self.app: ASGIApp = Edge(
            Router(routes=routes, redirect_slashes=False),
            guard=self.guard,
            known=known,
            refusal=refusal,
            log=log,
            count=self.count,
        )

    def guard(self, scope: Scope) -> Response | None:
        return None if has_bearer(scope, TOKEN) else refusal(401, "no token")

    def count(self, method: str, path: str, status: int, _seconds: float) -> None:
        self.counted.append((method, path, status))

    async def ask(
        self, verb: str, path: str, *, token: str = TOKEN, **more: Any
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(verb, path, headers=headers, **more)

    async def echo(self, request: Request) -> Response:
        return answer(await json_object(request, 100))

    async def broken(self, _: Request) -> Response:
        raise ValueError(SECRET)

    async def gone(self, _: Request) -> Response:
        raise ClientDisconnect


class Half:
    """Fails once its status has left."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(SECRET)


async def test_a_body_is_answered_and_not_cached():
    answered = await Desk().ask("POST", "/echo", json={"a": 1})
    assert (answered.status_code, answered.json()) == (200, {"a": 1})
    assert answered.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b'{"a":1} x', b'{"a":"\xff"}', b"[" * 90])
async def test_what_is_no_json_object_is_refused(raw: bytes):
    answered = await Desk().ask("POST", "/echo", content=raw)
    assert (answered.status_code, answered.json()) == (400, {"error": "body: is not a JSON object"})


async def test_a_body_above_the_limit_is_refused_and_one_at_it_is_read():
    desk = Desk()
    fits = b'{"a":"%s"}' % (b"x" * 92)
    assert len(fits) == 100
    assert (await desk.ask("POST", "/echo", content=fits)).status_code == 200
    answered = await desk.ask("POST", "/echo", content=fits + b" ")
    assert answered.status_code == 413
    assert answered.json() == {"error": "body: is larger than 100 bytes"}


@pytest.mark.parametrize("token", ["", "t0ke", "t0ken2", "T0KEN"])
async def test_the_guard_answers_in_place_of_the_app(token: str):
    desk = Desk()
    answered = await desk.ask("GET", "/broken", token=token)
    assert (answered.status_code, answered.json()) == (401, {"error": "no token"})
    assert desk.counted == [("GET", "unmatched", 401)]


async def test_the_text_of_an_unknown_error_reaches_neither_caller_nor_log(
    caplog: pytest.LogCaptureFixture,
):
    answered = await Desk().ask("GET", "/broken")
    assert (answered.status_code, answered.json()) == (500, {"error": "internal error"})
    assert "request_failed error=ValueError" in caplog.text
    assert SECRET not in caplog.text


async def test_an_error_after_the_status_is_no_second_answer():
    desk = Desk()
    with pytest.raises(ValueError, match=SECRET):
        await desk.app(scope_of("/half"), never, dropped)
    assert desk.counted == [("GET", "/half", 200)]


async def test_who_hangs_up_counts_as_gone():
    desk = Desk()
    await desk.ask("GET", "/gone")
    assert desk.counted == [("GET", "/gone", 499)]


async def test_labels_come_from_the_routes_and_never_from_the_caller():
    desk = Desk()
    await desk.ask("POST", "/item/7", json={})
    assert (await desk.ask("GET", "/made-up")).json() == {"error": "not found"}
    assert (await desk.ask("MADEUP", "/echo")).json() == {"error": "method not allowed"}
    assert desk.counted == [
        ("POST", "/item/{id}", 200),
        ("GET", "unmatched", 404),
        ("other", "/echo", 405),
    ]


async def test_what_is_not_http_is_not_served():
    await Desk().app({"type": "websocket"}, never, never)


def test_a_taken_port_is_one_line_that_names_it():
    with bound_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            bound_socket("127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1 port {port}: the port is taken by another program;"
        " choose another with PORT or --port"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_an_address_that_is_none_is_said_to_be_none():
    with pytest.raises(CannotListen, match="there is no such address"):
        bound_socket("256.0.0.1", 0)


def test_an_address_of_another_machine_asks_for_no_other_port():
    """As loopback's of IPv4 where a machine has only that of IPv6."""
    with pytest.raises(CannotListen, match="no such address; give it that one") as caught:
        bound_socket("192.0.2.77", 0)
    assert "--port" not in str(caught.value)


def test_listening_sockets_are_told_to_be_tcp():
    with bound_socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's algorithm on


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"echo",
        b"*",
        b"http://localhost/echo",
        b"//echo",
        b"/item//echo",
        b"/item/../echo",
        b"/item/./echo",
        b"/item/%2e%2E/echo",
        b"/item/.%2e",
        b"/item/a%2f..%2fecho",
        b"/item/..%5cecho",
        b"/item/..\\echo",
        b"/item/%",
        b"/item/%4",
        b"/item/%zz",
        b"/item/% 4",
    ],
)
async def test_a_path_that_two_readers_may_read_differently_reaches_no_handler(raw: bytes):
    with pytest.raises(PathUnclear):
        checked_path(raw)
    desk = Desk()
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    await desk.app(scope_of("/echo") | {"raw_path": raw or b"x"}, never, hear)
    assert heard[0]["status"] == 400
    assert heard[1]["body"].startswith(b'{"error":"path: ')


@pytest.mark.parametrize("raw", [b"/", b"/item/a%2Fb", b"/item/%F6", b"/item/...", b"/item/a.b/"])
def test_a_path_that_can_be_read_in_one_way_only_stays_as_it_was_sent(raw: bytes):
    assert checked_path(raw) == raw.decode()


@pytest.mark.parametrize(
    "ids",
    [
        ("org/u1", "ag1"),
        ("u 1", "50%"),
        ("a?b#c", "-x"),
        ("ä€😀", "legacy:ai-default"),
        ("a%2Fb", "..."),
        ("a\\b", "\x7f"),
    ],
)
def test_ids_of_any_kind_come_back_from_the_path_that_holds_them(ids: tuple[str, ...]):
    path = checked_path(path_of("/internal/agents", *ids).encode("ascii"))
    assert tuple(map(text_of, path.split("/")[3:])) == ids


async def test_another_spelling_of_a_path_is_another_path():
    desk = Desk()
    assert (await desk.ask("GET", "/%62roken")).status_code == 404
    assert (await desk.ask("POST", "/item/a%2Fb", json={})).status_code == 200
    assert (await desk.ask("POST", "/item/a/b", json={})).status_code == 404


def scope_of(path: str) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    return {"type": "http", "method": "GET", "path": path, "headers": headers}


async def never(*_: Any) -> Any:
    raise AssertionError


async def dropped(_: Any) -> None:
    """Sent to nobody."""


@pytest.mark.parametrize("shown", [b"", b"Bearer", b"Bearer ", b"Bearer guess"])
def test_nobody_gets_in_where_the_token_is_empty(shown: bytes):
    assert not has_bearer({"headers": [(b"authorization", shown)]}, "")
    assert has_bearer({"headers": [(b"authorization", b"Bearer " + TOKEN.encode())]}, TOKEN)
