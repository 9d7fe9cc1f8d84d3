"""The official `openai` client against the router: what everybody else will call it with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from mana_actors.llm.rehearsal.server import RehearsalServer
from mana_actors.llm.router.settings import OneService
from tests.fake_provider import FakeProvider
from tests.integration.test_router_api import END, PIECE
from tests.router_parts import TOKEN, RunningRouter, alias_file

HELLO: Any = [{"role": "user", "content": "Hallo"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "create_task",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}},
    },
}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


@pytest.fixture
def router(tmp_path: Path, fake: FakeProvider) -> Iterator[RunningRouter]:
    source = alias_file(tmp_path, fake.url, fake.url, near_only="yes")
    with RunningRouter(tmp_path, source) as running:
        yield running


@pytest.fixture
def client(router: RunningRouter) -> Iterator[openai.OpenAI]:
    with client_of(router) as one:
        yield one


def client_of(router: RunningRouter, key: str = TOKEN) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{router.url}/v1", api_key=key, max_retries=0)


def test_a_plain_answer(fake: FakeProvider, client: openai.OpenAI):
    fake.script = [{"content": "Hi", "usage": [3, 2]}]
    answer = client.chat.completions.create(model="mana/fast-text", messages=HELLO)
    assert answer.choices[0].message.content == "Hi"
    assert answer.model == "near/small"
    assert answer.usage
    assert answer.usage.total_tokens == 5


def test_a_streamed_answer(fake: FakeProvider, client: openai.OpenAI):
    fake.script = [{"stream": [PIECE, PIECE, END]}]
    chunks = client.chat.completions.create(model="mana/fast-text", messages=HELLO, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in chunks]
    assert pieces == ["Hi", "Hi", None]


def test_a_call_of_a_tool(fake: FakeProvider, client: openai.OpenAI):
    fake.script = [{"calls": [{"id": "c1", "name": "create_task", "args": {"title": "Ä"}}]}]
    answer = client.chat.completions.create(model="mana/fast-text", messages=HELLO, tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.id, call.function.name) == ("c1", "create_task")
    assert fake.requests[0].body["tools"] == [TOOL]


def test_a_streamed_call_of_a_tool_keeps_every_piece_and_its_index(
    fake: FakeProvider, client: openai.OpenAI
):
    def piece(index: int, **call: Any) -> dict[str, Any]:
        delta = {"tool_calls": [{"index": index, **call}]}
        return PIECE | {"choices": [{"index": 0, "delta": delta}]}

    fake.script = [
        {
            "stream": [
                piece(0, id="c0", type="function", function={"name": "a", "arguments": ""}),
                piece(1, id="c1", type="function", function={"name": "b", "arguments": '{"x"'}),
                piece(1, function={"arguments": ": 1}"}),
                piece(0, function={"arguments": "{}"}),
                END,
            ]
        }
    ]
    found: dict[int, str] = {}
    chunks = client.chat.completions.create(
        model="mana/fast-text", messages=HELLO, tools=[TOOL], stream=True
    )
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function
            found[call.index] = found.get(call.index, "") + (call.function.arguments or "")
    assert found == {0: "{}", 1: '{"x": 1}'}


def test_a_stream_that_breaks_is_an_error_and_not_a_short_answer(
    fake: FakeProvider, client: openai.OpenAI
):
    fake.script = [{"stream": [PIECE], "close": "body"}]
    chunks = client.chat.completions.create(model="mana/fast-text", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError):
        list(chunks)


@pytest.mark.parametrize("stream", [True, False])
def test_errors_have_the_types_of_the_client(
    fake: FakeProvider, client: openai.OpenAI, *, stream: bool
):
    def ask(**more: Any) -> None:
        asked: Any = {"model": "mana/fast-text", "messages": HELLO, "stream": stream} | more
        client.chat.completions.create(**asked)

    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(temperature=9)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="mana/none")
    assert missing.value.code == "model_not_found"
    fake.script = [{"status": 400}]
    with pytest.raises(openai.BadRequestError):
        ask()


def test_a_wrong_token_is_an_authentication_error(router: RunningRouter):
    with client_of(router, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_who_is_down_or_over_its_limit_is_an_error_that_says_when_to_come_again(
    fake: FakeProvider, client: openai.OpenAI
):
    fake.script = [{"status": 429, "retry_after": "30"}]
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="mana/fast-text", messages=HELLO)
    assert caught.value.status_code == 503
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 30


def test_an_exposure_that_nobody_fits_is_a_permission_error(client: openai.OpenAI):
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(
            model="far/vendor/large",
            messages=HELLO,
            extra_headers={"X-Mana-LLM-Exposure": "local"},
        )


def test_models_are_listed_and_found(client: openai.OpenAI):
    assert "mana/fast-text" in {model.id for model in client.models.list()}
    assert client.models.retrieve("near/small").owned_by == "near"


def test_embeddings(fake: FakeProvider, client: openai.OpenAI):
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}
    fake.script = [{"answer": {"object": "list", "data": [vector], "usage": {"prompt_tokens": 2}}}]
    answer = client.embeddings.create(model="near/embed", input="a", encoding_format="float")
    assert answer.data[0].embedding == [0.5, 1.0]


def test_the_rehearsal_model_streams_too(tmp_path: Path):
    (tmp_path / "rehearsal").write_text("rehearsal-key")
    with RehearsalServer("rehearsal-key") as rehearsal:
        source = OneService("rehearsal", rehearsal.url, "local", "rehearsal", "mana/rehearsal")
        with RunningRouter(tmp_path, source) as router, client_of(router) as client:
            whole = client.chat.completions.create(
                model="mana/reasoning", messages=HELLO, tools=[TOOL]
            )
            chunks = list(
                client.chat.completions.create(
                    model="mana/reasoning", messages=HELLO, tools=[TOOL], stream=True
                )
            )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == (
        whole.choices[0].message.content or ""
    )
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
