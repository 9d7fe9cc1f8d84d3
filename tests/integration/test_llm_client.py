"""The model client over real sockets, against a provider that does what it likes."""

import asyncio
import pickle
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest
from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.http.sockets import CannotListen
from mana_actors.llm.client import HttpProvider, completions_url, retry_after_s
from mana_actors.llm.provider import AliasFacts
from mana_actors.llm.rehearsal.server import RehearsalServer
from tests.fake_provider import Entry, FakeProvider

SECRET_PROMPT = "geheimer Auftrag"
REQUEST = ModelRequest("mana/reasoning", (ChatMessage("user", SECRET_PROMPT),))
NOW = datetime(2026, 4, 15, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("svc-key\n")
    return path


@pytest.fixture
async def provider(fake: FakeProvider, key_file: Path) -> AsyncIterator[HttpProvider]:
    client = HttpProvider(
        fake.url, key_file=key_file, max_body_bytes=100_000, wall_clock=lambda: NOW
    )
    yield client
    await client.aclose()


async def failing(provider: HttpProvider, deadline_s: float = 5) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST, deadline_s=deadline_s)
    return caught.value


async def test_a_call_and_its_answer_cross_the_wire(fake: FakeProvider, provider: HttpProvider):
    calls = [{"id": "x1", "name": "create_task", "args": {"title": "Ä"}}]
    fake.script = [{"calls": calls, "usage": [3, 2, 9], "resolved": "groq/llama"}]
    answer = await provider.complete(REQUEST, deadline_s=5)
    assert answer.tool_calls[0].arguments == {"title": "Ä"}
    assert (answer.finish_reason, answer.total_tokens) == ("tool_calls", 9)
    assert answer.usage_reported
    assert answer.resolved_model == "groq/llama"
    (sent,) = fake.requests
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == "Bearer svc-key"
    assert sent.body["messages"] == [{"role": "user", "content": SECRET_PROMPT}]
    assert sent.body["max_tokens"] == REQUEST.max_output


async def test_silence_about_usage_is_told_apart(provider: HttpProvider):
    answer = await provider.complete(REQUEST, deadline_s=5)
    assert (answer.content, answer.usage_reported, answer.total_tokens) == ("fertig", False, 0)


@pytest.mark.parametrize("text", ['{"title":', "[1]", '"x"', "\x00", '{"a":"\\ud800"}', "[" * 5000])
async def test_unreadable_arguments_are_marked_not_guessed(
    fake: FakeProvider, provider: HttpProvider, text: str
):
    fake.script = [{"calls": [{"name": "create_task", "args": text}]}]
    (call,) = (await provider.complete(REQUEST, deadline_s=5)).tool_calls
    assert call.arguments == {}
    assert call.problem


@pytest.mark.parametrize(
    ("entry", "kind", "retryable"),
    [
        ({"status": 422, "kind": "blocked"}, "blocked", False),
        ({"status": 502, "kind": "truncated"}, "truncated", True),
        ({"status": 502, "kind": "auth"}, "auth", False),
        ({"status": 401, "text": "no"}, "auth", False),
        ({"status": 429, "kind": "rate_limit"}, "rate_limit", True),
        ({"status": 429, "text": "slow down"}, "rate_limit", True),
        ({"status": 400, "kind": "capability"}, "capability", False),
        ({"status": 503, "kind": "no_healthy_provider"}, "no_healthy_provider", True),
        ({"status": 500}, "unknown", True),
        ({"status": 502, "text": "Bad gateway"}, "unknown", True),
        ({"status": 404, "text": "?"}, "unknown", False),
        ({"status": 307, "text": "", "headers": {"location": "/x"}}, "unknown", False),
        ({"garbage": b"\xff\xfe{"}, "invalid_answer", True),
        ({"garbage": b'{"choices": []}'}, "invalid_answer", True),
        ({"garbage": b"[" * 9000}, "invalid_answer", True),
        ({"half": True, "content": "x"}, "invalid_answer", True),
        ({"close": "headers"}, "network", True),
        ({"close": "body", "content": "x"}, "network", True),
        ({"content": "x", "headers": {"content-encoding": "gzip"}}, "invalid_answer", True),
        ({"garbage": b"x" * 200_000}, "invalid_answer", False),
    ],
)
async def test_each_failure_has_its_kind_and_says_whether_to_retry(
    fake: FakeProvider, provider: HttpProvider, entry: Entry, kind: str, retryable: bool
):
    fake.script = [entry]
    error = await failing(provider)
    assert (error.kind, error.retryable) == (kind, retryable)
    assert isinstance(error, ProviderBusy if retryable else ProviderRefused)


@pytest.mark.parametrize("where", ["headers", "body"])
async def test_the_deadline_covers_headers_and_body(
    fake: FakeProvider, provider: HttpProvider, where: str
):
    fake.script = [{"hang": where, "content": "x" * 1000}]
    began = time.monotonic()
    error = await failing(provider, deadline_s=0.2)
    assert (error.kind, error.retryable) == ("timeout", True)
    assert time.monotonic() - began < 3


async def test_cancelling_a_call_is_not_a_provider_error(
    fake: FakeProvider, provider: HttpProvider
):
    fake.script = [{"hang": "headers"}]
    task = asyncio.create_task(provider.complete(REQUEST, deadline_s=60))
    await asyncio.to_thread(fake.wait_for_requests, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Wed, 15 Apr 2026 12:00:30 GMT", 30.0),
        ("Wed, 15 Apr 2026 11:00:00 GMT", 0.0),
        ("999999999", 86_400.0),
        ("bald", None),
    ],
)
async def test_retry_after_is_honoured_in_seconds_and_as_a_date(
    fake: FakeProvider, provider: HttpProvider, header: str, seconds: float | None
):
    fake.script = [{"status": 429, "kind": "rate_limit", "retry_after": header}]
    assert (await failing(provider)).retry_after_s == seconds
    assert retry_after_s(None, NOW) is None


async def test_no_prompt_no_key_and_no_answer_text_in_errors(
    fake: FakeProvider, provider: HttpProvider
):
    echo = f"{SECRET_PROMPT} svc-key sk-AbC123"
    scripts: list[dict[str, Any]] = [
        {"status": 500, "message": echo},
        {"status": 400, "kind": echo, "message": echo},
        {"garbage": b'{"error":{"code":"sk-AbC123"}}', "status": 400},
        {"garbage": echo.encode()},
        {"close": "headers"},
    ]
    fake.script = list(scripts)
    for _ in scripts:
        error = await failing(provider)
        shown = f"{error} {error!r} {error.__cause__!r}"
        assert not any(secret in shown for secret in (SECRET_PROMPT, "svc-key", "sk-AbC123"))


@pytest.mark.parametrize("said", [b"no HTTP\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", b""])
async def test_an_error_does_not_bring_along_the_request(key_file: Path, said: bytes):
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = HttpProvider(f"http://127.0.0.1:{port}", key_file=key_file)
        error = await failing(client)
        assert (error.kind, error.may_have_spent) == ("network", True)
        assert (error.__cause__, error.__context__) == (None, None)
        await client.aclose()


async def test_no_cookie_is_kept(fake: FakeProvider, provider: HttpProvider):
    fake.script = [{"headers": {"set-cookie": "who=me"}}]
    for _ in range(2):
        await provider.complete(REQUEST, deadline_s=5)
    assert "cookie" not in fake.requests[1].headers


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again():
    """The service closes it while we do not look, as a busy process does not."""
    body = b'{"choices":[{"message":{"role":"assistant","content":"fertig"}}]}'
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)

    def serve() -> None:
        connection, _ = listening.accept()
        size = 0
        with connection, connection.makefile("rb") as heard:
            while (line := heard.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            heard.read(size)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            may_close.wait(10)

    client = HttpProvider(f"http://127.0.0.1:{listening.getsockname()[1]}")
    with listening:
        for _ in range(3):
            may_close = threading.Event()
            service = threading.Thread(target=serve, daemon=True)
            service.start()
            try:
                assert (await client.complete(REQUEST, deadline_s=5)).content == "fertig"
            finally:
                may_close.set()
                service.join(20)  # without a turn of the loop
    await client.aclose()


async def test_nobody_listening_is_a_network_error():
    client = HttpProvider("http://127.0.0.1:9/v1")
    error = await failing(client)
    assert (error.kind, error.code) == ("network", "connect_error")
    await client.aclose()


async def test_a_proxy_that_is_none_is_named_and_its_address_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("ALL_PROXY", "socks://user:geheim@127.0.0.1:9")
    client = HttpProvider("http://provider.invalid")
    error = await failing(client)
    assert (error.kind, error.cause, error.code) == ("network", "settings", "all_proxy")
    assert not error.may_have_spent
    assert "geheim" not in repr(error)
    assert await client.facts("mana/x") == AliasFacts()
    await client.aclose()


@pytest.mark.parametrize("content", [None, "", "a\nb", "schlüssel"])
async def test_an_unusable_key_file_stops_before_the_network(
    fake: FakeProvider, tmp_path: Path, content: str | None
):
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    client = HttpProvider(fake.url, key_file=path)
    error = await failing(client)
    assert (error.kind, error.retryable) == ("auth", False)
    assert fake.requests == []


async def test_a_rotated_key_is_used_for_the_next_call(
    fake: FakeProvider, provider: HttpProvider, key_file: Path
):
    await provider.complete(REQUEST, deadline_s=5)
    await asyncio.to_thread(key_file.write_text, "new-key")
    await provider.complete(REQUEST, deadline_s=5)
    assert [r.headers["authorization"] for r in fake.requests] == [
        "Bearer svc-key",
        "Bearer new-key",
    ]


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_base_address_may_have_its_version(base: str):
    assert completions_url(base) == "http://h:1/v1/chat/completions"


@pytest.mark.parametrize("error", [ProviderBusy("rate_limit", 429, 7.0, "x", "groq")])
def test_provider_errors_survive_pickling(error: ProviderError):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


async def test_the_rehearsal_model_answers_over_http(tmp_path: Path):
    key = tmp_path / "token"
    key.write_text("tok")
    with RehearsalServer("tok") as server:
        client = HttpProvider(server.url, key_file=key)
        answer = await client.complete(REQUEST, deadline_s=10)
        await client.aclose()
    assert (answer.content or "").startswith("[rehearsal]")
    assert answer.resolved_model == "mana/rehearsal"
    assert answer.usage_reported


async def test_the_rehearsal_server_wants_its_token_and_sense():
    with RehearsalServer("tok") as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
            path, token = "/v1/chat/completions", {"authorization": "Bearer tok"}
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/v1/models")).status_code == 401
            assert (await http.get("/v1/models", headers=token)).json()["data"][0]["id"]
            assert (await http.post(path, json={})).status_code == 401
            for body in (b"{", b"[]", b"{}", b'{"messages":[1]}'):
                assert (await http.post(path, content=body, headers=token)).status_code == 400


async def test_no_proxy_of_the_environment_stands_before_this_machine(
    fake: FakeProvider, provider: HttpProvider, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    await provider.complete(REQUEST, deadline_s=5)
    assert len(fake.requests) == 1


def test_a_taken_port_is_an_error_and_a_stopped_server_frees_it():
    with RehearsalServer("tok") as server:
        with pytest.raises(CannotListen, match="taken"):
            RehearsalServer("tok", port=server.port)
        port = server.port
    with RehearsalServer("tok", port=port) as again:
        assert again.port == port
