"""What a client makes of a server's answers: tried again, renewed, put aside, or told."""

import json
from typing import Any

import httpx2
import pytest

from mana_actors.client import NotSignedIn, ServerAway, ServerRefused, SyncInactive
from mana_actors.client.server.events import EventReader
from mana_actors.client.server.remote import ATTEMPTS, PushRefused, Remote
from mana_actors.client.server.wire import PushAnswerUnreadable, read_answer, row_in

SOUND: dict[str, Any] = {"eventId": "e1", "table": "tasks", "id": "t1", "op": "update"}


class Renewed:
    """A token, and the one that comes after it."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    async def token(self, *, refused: str | None = None) -> str | None:
        if self.tokens and self.tokens[0] == refused:
            self.tokens.pop(0)
        return self.tokens[0] if self.tokens else None


class Server:
    """Answers as it was told to, and notes by which token it was asked."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers, self.tokens = list(answers), list[str]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.tokens.append(request.headers["authorization"].removeprefix("Bearer "))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def remote(self, *tokens: str) -> Remote:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self), base_url="http://server")
        return Remote(http, Renewed(*tokens or ("one",)), spread=lambda: 0.0)


def text(status: int, said: str = "", **headers: str) -> httpx2.Response:
    return httpx2.Response(status, stream=httpx2.ByteStream(said.encode()), headers=headers)


async def asked(server: Server, *tokens: str) -> int:
    answered = await server.remote(*tokens).asked("POST", "/sync/todo", b"{}")
    return answered.status_code


@pytest.mark.parametrize(
    "first", [text(503), text(500), text(408), text(429), httpx2.ConnectError("no")]
)
async def test_what_may_pass_is_asked_again(first: httpx2.Response | Exception):
    assert await asked(Server(first, text(200))) == 200


async def test_what_does_not_pass_is_given_up_and_says_when_to_return():
    server = Server(*[text(503) for _ in range(ATTEMPTS)])
    with pytest.raises(ServerAway, match="503"):
        await asked(server)
    assert server.answers == []
    with pytest.raises(ServerAway) as raised:
        await asked(Server(text(429, **{"Retry-After": "60"})))
    assert raised.value.retry_after_s == 60


async def test_a_token_is_renewed_once():
    server = Server(text(401), text(200))
    assert await asked(server, "old", "new") == 200
    assert server.tokens == ["old", "new"]
    with pytest.raises(NotSignedIn):
        await asked(Server(text(401), text(401)), "old", "new", "newer")
    with pytest.raises(NotSignedIn):
        await asked(Server(text(401)), "only")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (text(402, '{"error": "sync_inactive"}'), SyncInactive),
        (text(403, '{"detail": "this needs the scope write"}'), NotSignedIn),
        (text(404, "not found"), ServerRefused),
        (text(303, "", location="http://elsewhere"), ServerRefused),
    ],
)
async def test_what_asking_again_would_not_help_is_told_at_once(
    answer: httpx2.Response, error: type[Exception]
):
    with pytest.raises(error):
        await asked(Server(answer))


@pytest.mark.parametrize(
    ("answer", "change"),
    [
        (text(400, 'invalid op "x" in change 3'), 3),
        (text(409, '{"title": "change id in use in change 0", "status": 409}'), 0),
        (text(403, '{"detail": "not a member of the space in change 12"}'), 12),
        (text(413, "the body is over"), None),
        (text(422, "<html>"), None),
    ],
)
async def test_a_refused_change_is_named(answer: httpx2.Response, change: int | None):
    with pytest.raises(PushRefused) as raised:
        await asked(Server(answer))
    assert raised.value.change == change


# --- rows that come -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        {"table": ""},
        {"id": 5},
        {"op": "upsert"},
        {"fields": []},
        {"fields": {"a": None}},
        {"fields": {"a": {"at": "2026-04-26T10:00:00.000Z"}}},
        {"fields": {"a": {"value": 1, "at": 5}}},
        {"data": "text"},
        {"deletedAt": 1},
        {"eventId": 1},
        {"schemaVersion": "1"},
        {"actor": "me"},
        {"origin": {}},
    ],
)
def test_a_malformed_change_is_left_out_and_its_neighbours_are_not(broken: dict[str, Any]):
    good = SOUND | {"fields": {"a": {"value": 1}}}
    changes = [good | broken, None, good]
    body = json.dumps({"serverChanges": changes, "syncedUntil": "2026"}).encode()
    answer = read_answer("todo", body, 7)
    assert (len(answer.rows), answer.malformed) == (1, 2)
    assert answer.rows[0].data == {"a": 1}


def test_an_update_that_says_nothing_makes_no_record():
    assert row_in("todo", SOUND, 0) is None
    empty: dict[str, Any] = {}
    assert row_in("todo", SOUND | {"fields": empty}, 0) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"serverChanges": {}, "syncedUntil": "x"}', b"\xff"]
)
def test_what_is_no_answer_of_a_sync_service_is_said_so(body: bytes):
    with pytest.raises(PushAnswerUnreadable):
        read_answer("todo", body, 0)


def test_rows_of_a_server_that_names_none_are_the_same_row_each_time():
    change: dict[str, Any] = SOUND | {"fields": {"a": {"value": 1}}}
    del change["eventId"]
    first, again = row_in("todo", change, 1), row_in("todo", change, 2)
    assert first is not None
    assert again is not None
    assert first.id == again.id


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_read_however_they_are_cut(size: int):
    raw = (
        b": hello\n\nretry: 2000\n\nevent: changes\nid: 7\r\ndata: {\ndata: }\n\n"
        b"data:x\n\nevent: a\n"
    )
    reader = EventReader()
    events = [
        event for at in range(0, len(raw), size) for event in reader.feed(raw[at : at + size])
    ]
    assert [(one.kind, one.data, one.id) for one in events] == [
        ("changes", b"{\n}", "7"),
        ("message", b"x", ""),
    ]
