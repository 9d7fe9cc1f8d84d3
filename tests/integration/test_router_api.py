"""The router's HTTP API over real sockets, in front of providers that do what they like."""

from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest
from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import AliasFacts
from mana_actors.llm.router.settings import OneService
from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter, alias_file

REQUEST = ModelRequest("mana/fast-text", (ChatMessage("user", "Hallo"),))
PIECE: dict[str, Any] = {
    "id": "chatcmpl-x",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "theirs",
    "choices": [{"index": 0, "delta": {"role": None, "content": "Hi"}, "finish_reason": None}],
    "usage": None,
}
END: dict[str, Any] = PIECE | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USED: dict[str, Any] = PIECE | {
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def sample(router: RunningRouter, name: str) -> list[str]:
    return [line for line in router.metrics().splitlines() if line.startswith(name + "{")]


# --- who may ask --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/v1/aliases", "/v1/health", "/metrics", "/x"])
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "router-token-for-tests"])
def test_nothing_but_health_is_told_without_the_token(router: RunningRouter, path: str, token: str):
    answer = router.http("GET", path, headers={"authorization": token})
    assert answer.status_code == 401
    assert answer.json()["detail"]["kind"] == "auth"
    assert router.http("GET", "/health", headers={"authorization": token}).status_code == 200


def test_health_names_every_provider(router: RunningRouter):
    told = router.http("GET", "/v1/health").json()
    assert told["status"] == "healthy"
    assert set(told["providers"]) == {"near", "far"}
    assert told["providers"]["near"]["consecutive_failures"] == 0
    assert router.http("GET", "/health").json()["service"] == "mana-llm"


# --- plain calls --------------------------------------------------------------------------------


def test_an_answer_names_who_gave_it_and_what_it_cost(near: FakeProvider, router: RunningRouter):
    near.script = [{"content": "Hi", "usage": [10, 4]}]
    answer = router.chat()
    assert answer.status_code == 200
    assert answer.json()["model"] == answer.headers["x-mana-llm-resolved"] == "near/small"
    assert answer.headers["x-mana-llm-exposure"] == "local"
    assert answer.headers["x-mana-llm-context"] == "8000"
    assert answer.headers["x-mana-llm-cost-micros"] == "11"  # 10 * 0.5 + 4 * 1.5
    assert near.requests[0].body["model"] == "small"


def test_a_request_without_a_model_asks_the_default(router: RunningRouter):
    assert router.chat(model=None).headers["x-mana-llm-resolved"] == "near/small"


WRONG: list[tuple[Any, str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role"),
    ({"temperature": 3}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"top_p": "x"}, "top_p"),
    ({"model": 7}, "model"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"response_format": {"type": "geheim"}}, "response_format.type"),
]


@pytest.mark.parametrize(("more", "field"), WRONG)
def test_a_wrong_request_names_its_field_and_calls_nobody(
    near: FakeProvider, router: RunningRouter, more: Any, field: str
):
    answer = router.chat(**more)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == field
    assert answer.json()["detail"]["message"].startswith(f"{field}: ")
    assert "geheim" not in answer.text
    assert near.requests == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(router: RunningRouter, raw: bytes):
    answer = router.http("POST", "/v1/chat/completions", content=raw)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")


def test_an_unknown_alias_is_not_found(router: RunningRouter):
    answer = router.chat("mana/none")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert router.http("GET", "/v1/nowhere").status_code == 404
    assert router.http("GET", "/v1/chat/completions").status_code == 405


def test_an_error_has_its_status_and_suits_both_clients(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = far.script = [{"status": 429, "retry_after": "7", "message": "geheim"}]
    answer = router.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) in range(1, 8)
    told = answer.json()
    assert told["detail"]["kind"] == told["error"]["code"] or told["error"]["code"] == "rate_limit"
    assert [each["target"] for each in told["detail"]["attempts"]] == [
        "near/small",
        "far/vendor/large",
    ]
    assert "geheim" not in answer.text


def test_what_a_provider_blocked_is_422(near: FakeProvider, router: RunningRouter):
    near.script = [{"status": 422, "kind": "blocked"}]
    answer = router.chat()
    assert (answer.status_code, answer.json()["detail"]["kind"]) == (422, "blocked")


# --- exposure -----------------------------------------------------------------------------------


def test_a_prompt_never_leaves_the_exposure_asked_for(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"status": 500}]
    answer = router.chat(headers={"X-Mana-LLM-Exposure": "local"})
    assert answer.status_code == 503
    assert router.chat("mana/far", headers={"X-Mana-LLM-Exposure": "eu"}).status_code == 403
    assert far.requests == []


def test_a_header_never_goes_beyond_the_deployment(
    tmp_path: Path, near: FakeProvider, far: FakeProvider
):
    source = alias_file(tmp_path, near.url, far.url)
    with RunningRouter(tmp_path, source, exposure="eu") as router:
        for headers in ({}, {"X-Mana-LLM-Exposure": "any"}):
            answer = router.chat("mana/far", headers=headers)
            assert (answer.status_code, answer.json()["detail"]["kind"]) == (403, "exposure")
    assert far.requests == []


def test_a_word_that_is_no_exposure_is_refused(near: FakeProvider, router: RunningRouter):
    answer = router.chat(headers={"X-Mana-LLM-Exposure": "everywhere"})
    assert answer.status_code == 422
    assert near.requests == []


# --- streams ------------------------------------------------------------------------------------


def events(answer: httpx2.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [msgspec.json.decode(line) for line in lines[:-1]]


def test_a_stream_names_who_answers_and_leaves_null_keys_out(
    near: FakeProvider, router: RunningRouter
):
    near.script = [{"stream": [PIECE, END, USED]}]
    answer = router.chat(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-mana-llm-resolved"] == "near/small"
    assert events(answer) == [
        {
            "id": "chatcmpl-x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "near/small",
            "choices": [{"index": 0, "delta": {"content": "Hi"}}],
        },
        {
            "id": "chatcmpl-x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "near/small",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        },
    ]


def test_usage_is_streamed_to_who_asks_for_it_and_counted_anyway(
    near: FakeProvider, router: RunningRouter
):
    near.script = [{"stream": [PIECE, END, USED]}] * 2
    told = events(router.chat(stream=True, stream_options={"include_usage": True}))
    assert told[-1]["usage"]["total_tokens"] == 5
    router.chat(stream=True)
    assert near.requests[1].body["stream_options"] == {"include_usage": True}
    assert any(line.endswith(" 6.0") for line in sample(router, "mana_llm_tokens_total"))


def test_a_stream_that_cannot_begin_has_its_real_status(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"status": 500}]
    far.script = [{"garbage": b"no stream"}]
    answer = router.chat(stream=True)
    assert answer.status_code == 503
    assert answer.json()["detail"]["kind"] == "no_healthy_provider"


def test_a_stream_that_breaks_ends_with_an_error_frame_and_is_never_spliced(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"stream": [PIECE], "close": "body"}]
    told = events(router.chat(stream=True))
    assert told[0]["choices"][0]["delta"] == {"content": "Hi"}
    assert told[-1]["error"]["type"] == "network"
    assert set(told[-1]["error"]) == {"message", "type", "code"}
    assert far.requests == []
    errors = sample(router, "mana_llm_llm_errors_total")
    assert errors == [
        'mana_llm_llm_errors_total{error_type="network",model="fast-text",provider="mana"} 1.0'
    ]


def test_a_caller_that_hangs_up_frees_the_provider(near: FakeProvider, router: RunningRouter):
    near.script = [{"stream": [PIECE], "hang": "body"}]
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    headers = {"authorization": f"Bearer {router.token_file.read_text()}"}
    url = f"{router.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=10) as answer:
        next(answer.iter_raw())
    calls = router.router
    assert router.on_loop(_until_free(calls))


async def _until_free(router: Any) -> bool:
    import asyncio

    line = router._router._table.lines["near"]
    async with asyncio.timeout(5):
        await line._unused.wait()
    return True


# --- what it knows ------------------------------------------------------------------------------


def test_aliases_say_what_they_cost_at_most(router: RunningRouter):
    told = router.http("GET", "/v1/aliases").json()
    assert told["default"] == "mana/fast-text"
    by_name = {each["name"]: each for each in told["aliases"]}
    assert by_name["mana/fast-text"]["chain"] == ["near/small", "far/vendor/large"]
    facts = by_name["mana/fast-text"]["facts"]
    assert facts["context_tokens"] == 8000
    assert facts["micros_per_completion_token"] == 1.5


def test_a_model_with_slashes_is_found_and_another_is_not(
    near: FakeProvider, router: RunningRouter
):
    assert router.http("GET", "/v1/models/far/vendor/large").json()["owned_by"] == "far"
    near.script = [{"answer": {"data": [{"id": "tiny"}]}}] * 2
    listed = router.http("GET", "/v1/models").json()["data"]
    assert {"mana/fast-text", "near/tiny", "far/vendor/large"} <= {each["id"] for each in listed}
    answer = router.http("GET", "/v1/models/far/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_embeddings_reach_the_model_named(near: FakeProvider, router: RunningRouter):
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]}
    near.script = [{"answer": vectors}]
    asked = {"model": "near/embed", "input": ["a"]}
    answer = router.http("POST", "/v1/embeddings", json=asked)
    assert answer.status_code == 200
    assert answer.json()["data"][0]["embedding"] == [1.0]
    assert near.requests[0].path == "/v1/embeddings"


def test_metrics_are_filled_with_names_of_the_alias_file_only(
    near: FakeProvider, router: RunningRouter
):
    near.script = [{"status": 500}]
    router.chat()
    router.chat("near/geheimer-name")
    router.chat("geheim/x")
    router.http("GET", "/geheimer/pfad")
    text = router.metrics()
    assert "geheim" not in text
    assert (
        'mana_llm_fallback_total{from_model="near/small",reason="http_500",'
        'to_model="far/vendor/large"} 1.0' in text
    )
    assert (
        'mana_llm_alias_resolved_total{alias="mana/fast-text",target="far/vendor/large"} 1.0'
        in text
    )
    assert 'mana_llm_provider_healthy{provider="near"} 1.0' in text
    assert (
        'mana_llm_llm_requests_total{model="vendor/large",provider="far",streaming="false"} 1.0'
        in text
    )
    assert 'mana_llm_requests_total{endpoint="unmatched",method="GET",status="404"} 1.0' in text
    assert 'endpoint="/v1/chat/completions",le="60.0",method="POST"' in text


# --- reloading ----------------------------------------------------------------------------------


def test_a_wrong_file_keeps_the_old_state_and_says_so(
    tmp_path: Path, near: FakeProvider, router: RunningRouter
):
    path = tmp_path / "aliases.yaml"
    path.write_text("aliases: {mana/fast-text: {chain: []}}")
    assert not router.on_loop(router.router.source.reload())
    told = router.http("GET", "/v1/aliases").json()
    assert "aliases.mana/fast-text.chain" in told["problem"]
    assert router.chat().headers["x-mana-llm-resolved"] == "near/small"
    path.unlink()
    assert not router.on_loop(router.router.source.reload())
    assert router.chat().status_code == 200


def test_a_changed_file_is_in_force_without_a_restart(
    tmp_path: Path, near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    path = tmp_path / "aliases.yaml"
    path.write_text(path.read_text().replace("[near/small, far/vendor/large]", "[far/new]"))
    from tests.node import wait_for

    wait_for(
        lambda: router.chat().headers["x-mana-llm-resolved"] == "far/new", "the file to be read"
    )


def test_a_router_that_restarts_with_a_wrong_file_goes_on_with_the_last_good_one(
    tmp_path: Path, near: FakeProvider, far: FakeProvider
):
    source, copy = alias_file(tmp_path, near.url, far.url), str(tmp_path / "copy.yaml")
    with RunningRouter(tmp_path, source, last_good_file=copy) as router:
        assert router.chat().status_code == 200
    Path(source.path).write_text("aliases: 7")
    with RunningRouter(tmp_path, source, last_good_file=copy) as router:
        assert router.chat().status_code == 200
        assert "aliases" in router.http("GET", "/v1/aliases").json()["problem"]


# --- one service --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("mana/reasoning", "mana/reasoning"), ("mana/own", "mana/own"), ("gpt-x", "gpt-x")],
)
def test_one_service_gets_every_name_as_it_is(
    tmp_path: Path, near: FakeProvider, asked: str, sent: str
):
    with RunningRouter(tmp_path, OneService("service", near.url, "eu")) as router:
        answer = router.chat(asked)
    assert answer.headers["x-mana-llm-resolved"] == f"service/{sent}"
    assert answer.headers["x-mana-llm-exposure"] == "eu"
    assert near.requests[0].body["model"] == sent


# --- the agents' client -------------------------------------------------------------------------


async def ask(router: RunningRouter, **more: Any) -> Any:
    provider = HttpProvider(router.url, key_file=router.token_file)
    try:
        return await provider.complete(REQUEST, deadline_s=5, **more)
    finally:
        await provider.aclose()


async def test_an_agent_learns_who_answered_within_what_exposure_and_for_how_much(
    near: FakeProvider, router: RunningRouter
):
    near.script = [{"content": "Hi", "usage": [10, 4]}]
    answer = await ask(router)
    assert (answer.resolved_model, answer.exposure) == ("near/small", "local")
    assert (answer.context_tokens, answer.cost_micros) == (8000, 11)


async def test_an_agents_exposure_travels_with_each_call(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"status": 500}]
    with pytest.raises(ProviderError):
        await ask(router, exposure="local")
    assert far.requests == []


async def test_an_agent_hears_what_may_have_been_spent(
    tmp_path: Path, near: FakeProvider, far: FakeProvider
):
    source = alias_file(tmp_path, near.url, far.url, near_only="yes")
    with RunningRouter(tmp_path, source) as router:
        near.script = [{"garbage": b"{"}, {"status": 500}]
        with pytest.raises(ProviderBusy) as caught:
            await ask(router)
        assert (caught.value.kind, caught.value.code) == ("invalid_answer", "no_healthy_provider")
        with pytest.raises(ProviderBusy) as caught:
            await ask(router)
        assert caught.value.kind == "no_healthy_provider"


async def test_an_agent_hears_the_routers_reason_before_its_own_deadline(
    tmp_path: Path, near: FakeProvider, far: FakeProvider
):
    source = alias_file(tmp_path, near.url, far.url, near_only="yes")
    near.script = [{"hang": "headers"}]
    with RunningRouter(tmp_path, source) as router:
        provider = HttpProvider(router.url, key_file=router.token_file)
        with pytest.raises(ProviderBusy) as caught:
            await provider.complete(REQUEST, deadline_s=2)
        await provider.aclose()
    assert (caught.value.kind, caught.value.code) == ("timeout", "no_healthy_provider")


async def test_a_wrong_token_is_a_refusal(tmp_path: Path, router: RunningRouter):
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    provider = HttpProvider(router.url, key_file=wrong)
    with pytest.raises(ProviderRefused) as caught:
        await provider.complete(REQUEST, deadline_s=5)
    await provider.aclose()
    assert caught.value.kind == "auth"


async def test_facts_are_asked_once_a_minute_and_never_fail(router: RunningRouter, tmp_path: Path):
    clock = [0.0]
    provider = HttpProvider(router.url, key_file=router.token_file, clock=lambda: clock[0])
    facts = await provider.facts("mana/fast-text")
    assert (facts.context_tokens, facts.micros_per_prompt_token) == (8000, 0.5)
    assert (await provider.facts("near/small")).context_tokens == 8000
    assert await provider.facts("mana/unheard-of") == AliasFacts()
    router.token_file.write_text("wrong")
    assert await provider.facts("mana/fast-text") == facts, "kept for a minute"
    clock[0] = 61.0
    assert await provider.facts("mana/fast-text") == facts, "kept while nobody can say"
    await provider.aclose()
    nobody = HttpProvider("http://127.0.0.1:9", key_file=tmp_path / "none")
    assert await nobody.facts("mana/fast-text") == AliasFacts()
    await nobody.aclose()
