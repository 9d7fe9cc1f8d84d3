"""Providers over real sockets: what each does wrong, and what a chain of them makes of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject
from mana_actors.llm.router.aliases.alias_file import read_registry
from mana_actors.llm.router.aliases.registry import ProviderEntry
from mana_actors.llm.router.chain.trail import NoProviderLeft
from mana_actors.llm.router.line import Line
from mana_actors.llm.router.routing import Router
from mana_actors.llm.router.upstream import HttpUpstream, upstreams_of
from tests.fake_provider import Entry, FakeProvider

SECRET = "geheimer Auftrag"
BODY: JsonObject = {"model": "mana/x", "messages": [{"role": "user", "content": SECRET}]}
NOW = datetime(2026, 4, 15, 12, 0, 0, tzinfo=UTC)
STOP: JsonObject = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def text(content: str) -> JsonObject:
    return {"choices": [{"index": 0, "delta": {"content": content}}]}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


@pytest.fixture
async def upstream(fake: FakeProvider, tmp_path: Path) -> AsyncIterator[HttpUpstream]:
    (tmp_path / "key").write_text("sk-1\n")
    entry = ProviderEntry("groq", f"{fake.url}/openai/v1/", "any", "key")
    client = HttpUpstream(entry, tmp_path, max_body_bytes=50_000, wall_clock=lambda: NOW)
    yield client
    await client.aclose()


async def complete(upstream: HttpUpstream, deadline_s: float = 5) -> JsonObject:
    return await upstream.complete(BODY, "llama", deadline_s=deadline_s)


async def chunks(upstream: HttpUpstream, deadline_s: float = 5) -> list[JsonObject]:
    return [c async for c in upstream.stream(BODY, "llama", deadline_s=deadline_s)]


async def failing(asked: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await asked
    assert SECRET not in str(caught.value)
    assert "nein" not in repr(caught.value)
    assert caught.value.provider == "groq"
    assert caught.value.__context__ is None  # it would have the request, key and all
    return caught.value


async def test_a_request_goes_out_whole_under_the_models_own_name(
    fake: FakeProvider, upstream: HttpUpstream
):
    wanted = {
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function"}],
        "seed": 1,
    }
    answer = await upstream.complete(BODY | wanted | {"stream": True}, "a/b", deadline_s=5)
    assert answer["choices"][0]["message"]["content"] == "fertig"
    (sent,) = fake.requests
    assert sent.path == "/openai/v1/chat/completions"
    assert sent.body == BODY | wanted | {"model": "a/b", "stream": False}
    assert sent.headers["authorization"] == "Bearer sk-1"


async def test_a_long_request_goes_out_whole(fake: FakeProvider, upstream: HttpUpstream):
    await upstream.complete({"long": "x" * 2_000_000}, "a", deadline_s=10)
    assert len(fake.requests[0].body["long"]) == 2_000_000


async def test_the_key_is_read_at_each_call_and_decides_whether_it_is_configured(
    fake: FakeProvider, upstream: HttpUpstream, tmp_path: Path
):
    await complete(upstream)
    (tmp_path / "key").write_text("sk-2")
    await complete(upstream)
    assert fake.requests[1].headers["authorization"] == "Bearer sk-2"
    assert upstream.is_configured
    (tmp_path / "key").unlink()
    assert not upstream.is_configured
    with pytest.raises(ProviderRefused, match="key_file_unreadable"):
        await complete(upstream)
    assert len(fake.requests) == 2
    assert HttpUpstream(ProviderEntry("a", fake.url, "any"), tmp_path).is_configured


FAILURES: list[tuple[Entry, str, bool]] = [
    ({"status": 429}, "rate_limit", True),
    ({"status": 500}, "unknown", True),
    ({"status": 500, "headers": {"content-encoding": "gzip"}}, "unknown", True),
    ({"status": 503, "text": "<html>"}, "unknown", True),
    ({"status": 400}, "unknown", False),
    ({"status": 401}, "auth", False),
    ({"status": 404}, "unknown", False),
    ({"status": 307, "text": "", "headers": {"location": "/x"}}, "unknown", False),
    ({"garbage": b"\xff{"}, "invalid_answer", True),
    ({"garbage": b"[" * 9000}, "invalid_answer", True),
    ({"garbage": b""}, "invalid_answer", True),
    ({"garbage": b"x" * 60_000}, "invalid_answer", False),
    ({"close": "headers"}, "network", True),
    ({"close": "body", "content": "x"}, "network", True),
    ({"hang": "headers"}, "timeout", True),
    ({"hang": "body"}, "timeout", True),
    ({"content": "x", "headers": {"content-encoding": "gzip"}}, "invalid_answer", True),
]


@pytest.mark.parametrize(
    ("entry", "kind", "retryable"),
    [
        *FAILURES,
        ({"half": True}, "invalid_answer", True),
        ({"garbage": b'{"choices": []}'}, "invalid_answer", True),
        ({"answer": {"error": {"code": 429, "message": "nein"}}}, "rate_limit", True),
        ({"answer": {"error": {"code": "nein1", "message": "nein"}}}, "unknown", True),
    ],
)
async def test_each_failure_has_its_kind(
    fake: FakeProvider, upstream: HttpUpstream, entry: Entry, kind: str, retryable: bool
):
    fake.script = [entry]
    error = await failing(complete(upstream, 0.3 if "hang" in entry else 5))
    assert (error.kind, error.retryable) == (kind, retryable)


@pytest.mark.parametrize(
    ("entry", "kind", "retryable"),
    [
        *FAILURES,
        ({"stream": []}, "", True),
        ({"stream": [], "undone": True}, "invalid_answer", True),
        ({"stream": [text("a")], "undone": True}, "invalid_answer", True),
        ({"stream": [text("a")], "close": "body"}, "network", True),
        ({"stream": [text("a")], "hang": "body"}, "timeout", True),
        ({"stream": [text("a"), b"data: {half\n\n"]}, "invalid_answer", True),
        ({"stream": [b"<html>\n"]}, "invalid_answer", True),
        ({"stream": [{"no": "choices"}]}, "invalid_answer", True),
        ({"stream": [{"error": {"code": 429, "message": "nein"}}]}, "rate_limit", True),
        ({"stream": [text("a"), {"error": {"message": "nein"}}]}, "unknown", True),
        ({"stream": [text("x" * 1000)] * 60}, "invalid_answer", False),
        ({"content": "kein Strom"}, "invalid_answer", True),
    ],
)
async def test_each_failure_of_a_stream_has_its_kind(
    fake: FakeProvider, upstream: HttpUpstream, entry: Entry, kind: str, retryable: bool
):
    fake.script = [entry]
    if not kind:
        assert await chunks(upstream) == []
        return
    error = await failing(chunks(upstream, 0.3 if "hang" in entry else 5))
    assert (error.kind, error.retryable) == (kind, retryable)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), ("Wed, 15 Apr 2026 12:00:30 GMT", 30.0), ("soon", None), (None, None)],
)
async def test_a_retry_after_is_passed_on(
    fake: FakeProvider, upstream: HttpUpstream, header: str | None, wait_s: float | None
):
    fake.script = [{"status": 429} | ({"retry_after": header} if header else {})]
    assert (await failing(complete(upstream))).retry_after_s == wait_s


async def test_deltas_of_tool_calls_arrive_whole_and_with_their_place(
    fake: FakeProvider, upstream: HttpUpstream
):
    first = {"index": 1, "id": "c", "function": {"name": "create_task", "arguments": ""}}
    later = {"index": 1, "function": {"arguments": '{"ti'}}
    deltas = [{"choices": [{"delta": {"tool_calls": [each]}}]} for each in (first, later)]
    usage: JsonObject = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    fake.script = [{"stream": [*deltas, STOP, usage]}]
    assert await chunks(upstream) == [*deltas, STOP, usage]
    assert fake.requests[0].body["stream"] is True


async def test_a_stream_may_be_cut_into_pieces_anywhere(fake: FakeProvider, upstream: HttpUpstream):
    raw = b'event: x\r\n: ping\ndata:{"choices":[{"delta":{"content":"\xc3\xa4"}}]}\r\n\r\ndata:\n'
    fake.script = [{"stream": [bytes([byte]) for byte in raw]}]
    assert await chunks(upstream) == [{"choices": [{"delta": {"content": "ä"}}]}]


async def test_a_stream_that_finished_needs_no_end_marker(
    fake: FakeProvider, upstream: HttpUpstream
):
    fake.script = [{"stream": [text("a"), STOP], "undone": True}]
    assert await chunks(upstream) == [text("a"), STOP]


async def test_null_usage_is_no_error(fake: FakeProvider, upstream: HttpUpstream):
    message = {"role": "assistant", "content": "x"}
    fake.script = [{"answer": {"choices": [{"message": message}], "usage": None}}]
    assert (await complete(upstream))["usage"] is None


async def test_an_abandoned_stream_closes_its_connection(
    fake: FakeProvider, upstream: HttpUpstream
):
    fake.script = [{"stream": [text("a")], "hang": "body"}]
    stream = upstream.stream(BODY, "llama", deadline_s=30)
    assert await anext(stream) == text("a")
    await asyncio.create_task(stream.aclose())  # by another task than the one that read
    fake.script = [{}, {"content": "x"}]
    assert await complete(upstream)


async def test_models_embeddings_and_probes(fake: FakeProvider, upstream: HttpUpstream):
    vector = {"data": [{"embedding": [0.5]}]}
    listed = {"data": [{"id": "a"}, {"id": 5}, "x"]}
    fake.script = [{"answer": listed}, {"answer": vector}, {"answer": {}}]
    assert await upstream.models() == ["a"]
    assert await upstream.embed({"input": "x"}, "e", deadline_s=5) == vector
    assert (await failing(upstream.embed({}, "e", deadline_s=5))).kind == "invalid_answer"
    paths = ["models", "embeddings", "embeddings"]
    assert [sent.path for sent in fake.requests] == [f"/openai/v1/{path}" for path in paths]


@pytest.mark.parametrize(
    ("status", "is_there"), [(200, True), (401, True), (404, True), (500, False)]
)
async def test_any_answer_below_500_is_a_sign_of_life(
    fake: FakeProvider, upstream: HttpUpstream, status: int, is_there: bool
):
    fake.script = [{"status": status}]
    assert await upstream.probe() is is_there


async def test_nobody_there_is_a_network_error(tmp_path: Path):
    with FakeProvider() as gone:
        entry = ProviderEntry("groq", gone.url, "any")
    upstream = HttpUpstream(entry, tmp_path)
    assert (await failing(complete(upstream))).kind == "network"
    assert (await failing(upstream.probe())).kind == "network"
    await upstream.aclose()


# --- a chain of two ------------------------------------------------------------------------------


@pytest.fixture
def second() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


@pytest.fixture
async def router(fake: FakeProvider, second: FakeProvider, tmp_path: Path) -> AsyncIterator[Router]:
    registry = read_registry(
        "aliases: {mana/x: {chain: [one/a, two/b]}}\n"
        f"providers: {{one: {{url: '{fake.url}/v1', exposure: local, deadline_s: 1}},"
        f" two: {{url: '{second.url}/v1', exposure: any}}}}"
    )
    found = Router(registry, upstreams_of(registry, tmp_path))
    yield found
    await found.aclose()


BAD: list[Entry] = [
    {"status": 429},
    {"status": 429, "retry_after": "30"},
    {"status": 500},
    {"garbage": b"<html>"},
    {"half": True},
    {"garbage": b""},
    {"close": "headers"},
    {"close": "body"},
    {"hang": "headers"},
    {"hang": "body"},
    {"status": 401},
    {"status": 404},
]


@pytest.mark.parametrize("entry", BAD)
async def test_each_bad_provider_costs_one_call_and_the_next_one_serves(
    fake: FakeProvider, second: FakeProvider, router: Router, entry: Entry
):
    fake.script = [entry]
    answer = await router.complete(BODY, exposure="any", deadline_s=20)
    assert answer.target.name == "two/b"
    assert (len(fake.requests), len(second.requests)) == (1, 1)


@pytest.mark.parametrize(
    "entry",
    [
        *BAD,
        {"stream": [], "undone": True},
        {"stream": [], "hang": "body"},
        {"stream": [b"<html>\n"]},
    ],
)
async def test_each_bad_stream_costs_one_call_and_the_next_one_serves(
    fake: FakeProvider, second: FakeProvider, router: Router, entry: Entry
):
    fake.script, second.script = [entry], [{"stream": [text("b"), STOP]}]
    found = await router.stream(BODY, exposure="any", deadline_s=20)
    assert [chunk async for chunk in found.answer] == [text("b"), STOP]
    assert (len(fake.requests), len(second.requests)) == (1, 1)


async def test_a_role_alone_commits_nobody(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    role: JsonObject = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    fake.script = [{"stream": [role, {"error": {"message": "nein"}}]}]
    second.script = [{"stream": [role, text("b"), STOP]}]
    found = await router.stream(BODY, exposure="any", deadline_s=20)
    assert [chunk async for chunk in found.answer] == [role, text("b"), STOP]
    assert found.target.name == "two/b"


async def test_half_a_stream_is_passed_on_and_not_spliced(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    fake.script = [{"stream": [text("halb")], "close": "body"}]
    found = await router.stream(BODY, exposure="any", deadline_s=10)
    assert await anext(found.answer) == text("halb")
    with pytest.raises(ProviderBusy):
        await anext(found.answer)
    assert second.requests == []


async def test_no_failure_sends_a_local_prompt_elsewhere(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    fake.script = [{"status": 500}] * 2
    for _ in range(3):
        with pytest.raises(NoProviderLeft):
            await router.complete(BODY, exposure="local", deadline_s=10)
    assert (len(fake.requests), second.requests) == (2, [])  # the third call was not even tried


async def test_all_are_down_ends_in_one_call_each(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    fake.script, second.script = [{"status": 429, "retry_after": "30"}], [{"close": "headers"}]
    with pytest.raises(NoProviderLeft) as caught:
        await router.complete(BODY, exposure="any", deadline_s=10)
    assert [attempt.reason for attempt in caught.value.attempts] == ["rate_limit", "network"]
    assert (len(fake.requests), len(second.requests)) == (1, 1)


async def test_probes_reach_every_provider(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    fake.script = [{"status": 500}]
    await router.probe_once()
    health = router.health()
    assert (health["one"].last_error, health["two"].last_error) == ("probe_failed", None)
    assert fake.requests[0].path == second.requests[0].path == "/v1/models"


# --- what services refuse, and how they fail ------------------------------------------------------

TOO_LONG = {
    "object": "error",
    "message": "This model's maximum context length is 8192 tokens. However, you requested 23000"
    " tokens",
    "type": "BadRequestError",
    "code": 400,
}
CUT_OFF = {"role": "assistant", "content": "Ich lege jetzt die"}
SPENT = {"prompt_tokens": 120, "completion_tokens": 120, "total_tokens": 240}


def told(message: str, **more: Any) -> JsonObject:
    return {"error": {"message": message} | more}


OF_THIS_ENTRY: list[Entry] = [
    {"status": 400, "answer": TOO_LONG},
    {"status": 400, "answer": [told("The input token count (2) exceeds the maximum …")]},
    {
        "status": 413,
        "answer": told("Request too large", code="rate_limit_exceeded", type="tokens"),
    },
    {"status": 429, "answer": told("Request too large for x: Limit 10, Requested 20")},
    {"status": 400, "answer": told("registry/small:1b does not support tools")},
    {"status": 400, "answer": {"error": "something nobody ever heard of"}},
    {"status": 422, "answer": {"detail": [{"loc": ["body", "x"], "msg": "no"}]}},
    {"status": 400, "garbage": b""},
    {"status": 500, "answer": told("Conversation roles must alternate user/assistant/...")},
]


@pytest.mark.parametrize("entry", OF_THIS_ENTRY)
async def test_a_refusal_that_speaks_of_one_entry_is_no_blame_and_the_next_one_serves(
    fake: FakeProvider, second: FakeProvider, router: Router, entry: Entry
):
    fake.script = [entry] * 4
    for _ in range(3):
        answer = await router.complete(BODY, exposure="any", deadline_s=20)
        assert answer.target.name == "two/b"
        assert answer.wasted.unreported == 0
    assert len(second.requests) == 3
    assert router.health()["one"].consecutive_failures == 0


@pytest.mark.parametrize(
    "entry",
    [
        {"status": 400, "answer": told("was", code="content_filter")},
        {"status": 403, "answer": told("x requires moderation. Your input was flagged", code=403)},
    ],
)
async def test_what_is_at_fault_everywhere_walks_no_chain(
    fake: FakeProvider, second: FakeProvider, router: Router, entry: Entry
):
    fake.script = [entry]
    with pytest.raises(ProviderRefused) as caught:
        await router.complete(BODY, exposure="any", deadline_s=20)
    assert (caught.value.kind, second.requests) == ("blocked", [])


@pytest.mark.parametrize(
    ("entry", "reason", "wait_s"),
    [
        ({"status": 402, "answer": told("Insufficient Balance")}, "quota", 600),
        ({"status": 429, "answer": told("x", code="insufficient_quota")}, "quota", 600),
        ({"status": 400, "answer": told("API key not valid.")}, "auth", 60),
    ],
)
async def test_an_account_that_does_not_pay_is_closed_off_at_once(
    fake: FakeProvider,
    second: FakeProvider,
    router: Router,
    entry: Entry,
    reason: str,
    wait_s: float,
):
    fake.script = [entry]
    for _ in range(2):
        assert (await router.complete(BODY, exposure="any", deadline_s=20)).target.name == "two/b"
    assert len(fake.requests) == 1
    health = router.health()["one"]
    assert health.last_error == reason
    assert (health.unhealthy_until_unix or 0) - (health.last_check_unix or 0) == wait_s


FAILED: list[Entry] = [
    {
        "answer": {
            "choices": [
                {
                    "index": 0,
                    "error": {"code": 502, "message": "upstream"},
                    "message": CUT_OFF,
                    "finish_reason": "error",
                }
            ]
        }
    },
    {"answer": {"choices": [{"message": CUT_OFF, "finish_reason": "error"}]}},
    {"answer": told("upstream", code=502) | {"choices": [{"message": CUT_OFF}]}},
    {"answer": {"object": "error", "message": "nein", "code": 500}},
    {"answer": {"choices": None}},
    {"answer": {"choices": [{"message": None}]}},
    {"garbage": b"[" * 9000},
]


@pytest.mark.parametrize("entry", FAILED)
async def test_a_failed_answer_may_have_spent_and_closes_nobody_off(
    fake: FakeProvider, second: FakeProvider, router: Router, entry: Entry
):
    fake.script = [entry] * 3
    for _ in range(3):
        answer = await router.complete(BODY, exposure="any", deadline_s=20)
        assert (answer.target.name, answer.wasted.unreported) == ("two/b", 1)
    assert len(fake.requests) == 3
    assert router.health()["one"].status == "healthy"


async def test_a_page_before_the_service_closes_it_off_and_spends_nothing(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    fake.script = [{"garbage": b"<html>", "headers": {"content-type": "text/html"}}] * 3
    for _ in range(3):
        answer = await router.complete(BODY, exposure="any", deadline_s=20)
        assert (answer.target.name, answer.wasted.unreported) == ("two/b", 0)
    assert len(fake.requests) == 2
    assert router.health()["one"].models["a"].status == "unhealthy"


async def test_what_a_failed_answer_reported_is_owed_beside_the_good_one(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    half = {"choices": [{"message": CUT_OFF, "finish_reason": "error"}], "usage": SPENT}
    fake.script = [{"answer": half}]
    answer = await router.complete(BODY, exposure="any", deadline_s=20)
    assert (answer.wasted.tokens, answer.wasted.unreported) == (240, 0)
    fake.script += [{"stream": [text("") | {"usage": SPENT}, {"error": {"message": "x"}}]}]
    second.script = [{}, {"stream": [text("a"), STOP]}]
    stream = await router.stream(BODY, exposure="any", deadline_s=20)
    await stream.answer.aclose()
    assert (stream.wasted.tokens, stream.wasted.unreported) == (240, 0)


async def test_half_a_character_is_one_character_less_and_nobodys_trouble(
    fake: FakeProvider, second: FakeProvider, router: Router
):
    lone = b'{"choices":[{"message":{"role":"assistant","content":"Hi \\ud83d"}}]}'
    fake.script = [{"garbage": lone}] * 3
    for _ in range(3):
        answer = await router.complete(BODY, exposure="any", deadline_s=20)
        assert answer.answer["choices"][0]["message"]["content"] == "Hi \N{REPLACEMENT CHARACTER}"
        assert answer.target.name == "one/a"
    assert second.requests == []


@pytest.mark.parametrize("ending", [{"close": "body"}, {"undone": True}])
async def test_how_the_line_ends_after_a_whole_answer_is_no_matter(
    fake: FakeProvider, upstream: HttpUpstream, ending: Entry
):
    last = {"choices": None, "usage": SPENT}
    fake.script = [{"stream": [text("a"), STOP, last], **ending}]
    assert await chunks(upstream) == [text("a"), STOP, last]


# --- below HTTP -----------------------------------------------------------------------------------

FAR = "http://provider.invalid/v1"


def proxied(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("settings", "url", "shown"),
    [
        ({"ALL_PROXY": "socks://127.0.0.1:9"}, FAR, "settings: ALL_PROXY"),
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, FAR, "settings: ALL_PROXY"),
        ({"HTTPS_PROXY": "http://[::1"}, FAR, "settings: HTTPS_PROXY"),
        ({"HTTP_PROXY": "ftp://127.0.0.1:9"}, FAR, "settings: HTTP_PROXY"),
        # A word of it that is no address matches nothing.
        (
            {"NO_PROXY": "[::1", "HTTP_PROXY": "http://127.0.0.1:9"},
            FAR,
            "unreachable: connect error",
        ),
        ({"SSL_CERT_FILE": "/nowhere"}, FAR, "settings: SSL_CERT_FILE"),
        ({"HTTP_PROXY": "http://127.0.0.1:99999"}, FAR, "settings: url"),
        ({}, "http://127.0.0.1:99999", "settings: url"),
        ({}, f"http://{'ü' * 70}.invalid", "settings: url"),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, FAR, "unreachable: connect error"),
        ({}, "https://127.0.0.1:9", "unreachable: connect error"),
    ],
)
async def test_what_is_wrong_below_http_is_one_entrys_trouble_and_is_named(
    second: FakeProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    url: str,
    shown: str,
):
    proxied(monkeypatch, **settings)
    registry = read_registry(
        "aliases: {mana/x: {chain: [one/a, two/b]}}\n"
        f"providers: {{one: {{url: '{url}', exposure: any}},"
        f" two: {{url: '{second.url}/v1', exposure: any}}}}"
    )
    router = Router(registry, upstreams_of(registry, tmp_path))
    answer = await router.complete(BODY, exposure="any", deadline_s=20)
    assert (answer.target.name, answer.wasted.unreported) == ("two/b", 0)
    health = router.health()
    assert health["one"].last_error == shown
    assert health["two"].status == "healthy"
    if shown.startswith("settings"):  # also before anybody asked
        assert await Line(upstreams_of(registry, tmp_path)["one"]).problem(10) == shown
    await router.aclose()


@pytest.mark.parametrize(
    ("scheme", "first_line", "fault"),
    [
        ("http", "POST http://provider.invalid/v1/chat/completions HTTP/1.1", None),
        ("https", "CONNECT provider.invalid:443 HTTP/1.1", "proxy_error"),
    ],
)
async def test_a_proxy_is_told_who_we_are_and_one_that_refuses_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    first_line: str,
    fault: str | None,
):
    heard: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxied(monkeypatch, ALL_PROXY=f"http://me:gehe%40im@127.0.0.1:{port}")
        entry = ProviderEntry("groq", f"{scheme}://provider.invalid/v1", "any")
        upstream = HttpUpstream(entry, tmp_path)
        error = await failing(complete(upstream))
        await upstream.aclose()
    lines = heard[0].lower().split("\r\n")
    assert heard[0].startswith(first_line)
    sent = base64.b64encode(b"me:gehe@im").decode().lower()
    assert f"proxy-authorization: basic {sent}" in lines
    assert (error.code if fault else error.status) == (fault or 407)
    assert "im@127" not in repr(error)


async def test_a_key_counts_and_not_a_name_in_the_address(fake: FakeProvider, tmp_path: Path):
    (tmp_path / "key").write_text("sk-1")
    url = fake.url.replace("http://", "http://me@")
    for key_file, sent in (("key", "Bearer sk-1"), (None, "Basic bWU6")):
        upstream = HttpUpstream(ProviderEntry("groq", url, "any", key_file), tmp_path)
        await complete(upstream)
        await upstream.aclose()
        assert fake.requests[-1].headers["authorization"] == sent


async def test_a_service_that_speaks_no_tls_is_named(tmp_path: Path):
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 This is no TLS\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        upstream = HttpUpstream(ProviderEntry("groq", f"https://127.0.0.1:{port}", "any"), tmp_path)
        error = await failing(complete(upstream))
        assert (error.cause, error.code) == ("unreachable", "no_tls")
        await upstream.aclose()


async def test_a_bug_of_ours_is_no_providers_fault_and_the_next_caller_is_served(
    second: FakeProvider, router: Router, monkeypatch: pytest.MonkeyPatch
):
    def broken(self: HttpUpstream, method: str, path: str, body: JsonObject | None) -> Any:
        raise KeyError(path)

    with monkeypatch.context() as patched:
        patched.setattr(HttpUpstream, "_sent", broken)
        for _ in range(3):
            with pytest.raises(KeyError):
                await router.complete(BODY, exposure="any", deadline_s=20)
    assert router.health()["one"].consecutive_failures == 0
    assert (await router.complete(BODY, exposure="any", deadline_s=20)).target.name == "one/a"
    assert second.requests == []
