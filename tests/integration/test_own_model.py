"""A service of one's own: which of its models is taken, and what is said about it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mana_actors.llm.router.settings import OneService
from supervisor.node.models import (
    TOKEN_FILE,
    found_service,
    model_asked_for,
)
from supervisor.node.settings import AGENT, Settings, SettingsError, read_settings
from supervisor.node.trial import context_in_words, first_prompt_bytes, model_warnings, tried
from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter

CALLED = {"calls": [{"name": "report_ready", "args": {"word": "ready"}}], "usage": [9, 2]}


@pytest.fixture
def own() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        provider.models = ["gemma3:4b"]
        yield provider


def settings_of(folder: Path, url: str, model: str = AGENT.model, **more: Any) -> Settings:
    agent = msgspec.structs.replace(AGENT, model=model)
    base = Settings(data_dir=str(folder), secrets_dir=str(folder), llm_url=url, agent=agent)
    return msgspec.structs.replace(base, **more)


async def test_the_only_model_is_taken(own: FakeProvider, tmp_path: Path):
    service, said = await found_service(settings_of(tmp_path, own.url))
    assert (service.model, service.has_list, service.awaited) == ("gemma3:4b", True, False)
    assert said == f"{own.url}: gemma3:4b, its only model"


async def test_of_several_one_has_to_be_named_and_the_error_says_how(
    own: FakeProvider, tmp_path: Path
):
    own.models = ["gemma3:4b", "qwen3:8b"]
    with pytest.raises(SettingsError) as caught:
        await found_service(settings_of(tmp_path, own.url))
    assert str(caught.value) == (
        f"MANA_LLM_URL: {own.url}: it has 2 models (gemma3:4b, qwen3:8b);"
        " name one: MANA_LLM_MODEL=gemma3:4b"
    )
    named = settings_of(tmp_path, own.url, "qwen3:8b")
    assert (await found_service(named))[0].model == "qwen3:8b"
    assert model_asked_for(named) == AGENT.model


async def test_a_router_that_knows_our_names_gets_them(own: FakeProvider, tmp_path: Path):
    own.models = ["mana/fast-text", "mana/reasoning"]
    service, _ = await found_service(settings_of(tmp_path, own.url))
    assert service.model == ""


async def test_a_service_without_a_list_gets_every_name_as_it_is(tmp_path: Path):
    with FakeProvider([{"status": 404}, {"status": 404}]) as plain:
        service, said = await found_service(settings_of(tmp_path, plain.url))
    assert (service.model, service.has_list, service.awaited) == ("", False, False)
    assert "no list" in said


async def test_a_silent_service_is_no_reason_not_to_start(tmp_path: Path):
    service, said = await found_service(settings_of(tmp_path, "http://127.0.0.1:1"))
    assert (service.model, service.awaited) == ("", True)
    assert "is silent" in said
    service, _ = await found_service(settings_of(tmp_path, "http://127.0.0.1:1", "m"))
    assert (service.model, service.awaited) == ("m", False)


async def test_its_price_comes_from_the_settings(own: FakeProvider, tmp_path: Path):
    prices: dict[str, Any] = {"llm_price_prompt": 0.5, "llm_price_completion": 2.0}
    service, _ = await found_service(settings_of(tmp_path, own.url, **prices))
    assert service.price is not None
    assert service.price.micros(prompt=10, completion=5, total=15) == 15


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"MANA_LLM_PRICE_PROMPT": "1"}, "MANA_LLM_PRICE_COMPLETION"),
        ({"MANA_LLM_PRICE_COMPLETION": "1"}, "MANA_LLM_PRICE_PROMPT"),
        ({"MANA_LLM_PRICE_CACHED": "1"}, "MANA_LLM_PRICE_PROMPT"),
        ({"MANA_LLM_PRICE_PROMPT": "-1"}, "MANA_LLM_PRICE_PROMPT"),
        ({"MANA_LLM_TRY": "perhaps"}, "MANA_LLM_TRY"),
    ],
)
def test_half_a_price_stops_the_start(given: dict[str, str], named: str, tmp_path: Path):
    with pytest.raises(SettingsError) as caught:
        read_settings({"MANA_DATA_DIR": str(tmp_path)} | given, serves=False)
    assert caught.value.variable == named


async def test_a_service_that_wakes_up_later_is_used_from_then_on(
    own: FakeProvider, tmp_path: Path
):
    models, own.models = own.models, []
    source = OneService("service", own.url, "local", awaited=True)
    with RunningRouter(tmp_path, source) as router:

        def told() -> dict[str, Any]:
            return router.http("GET", "/v1/aliases").json()

        await until(lambda: told()["problem"] is not None)
        assert "no model" in told()["problem"]
        own.models = models
        await until(lambda: told()["problem"] is None)
        answer = await asyncio.to_thread(router.chat, "mana/reasoning")
        assert answer.headers["x-mana-llm-resolved"] == "service/gemma3:4b"
        assert (await asyncio.to_thread(router.chat, "mana/own")).status_code == 200


async def test_a_trial_is_shaped_like_a_real_call_and_says_whether_tools_are_called(
    own: FakeProvider, tmp_path: Path
):
    settings = settings_of(tmp_path, own.url)
    service, _ = await found_service(settings)
    own.script = [CALLED, {"content": "ready"}, {"status": 500}]
    with RunningRouter(tmp_path, service) as router:
        settings = msgspec.structs.replace(settings, llm_port=router.settings.port)
        assert router.token_file.name == TOKEN_FILE
        trial = await tried(settings, "mana/reasoning")
        assert (trial.ok, trial.calls_tools, trial.resolved) == (True, True, "service/gemma3:4b")
        assert (await tried(settings, "mana/reasoning")).calls_tools is False
        failed = await tried(settings, "mana/reasoning")
        assert (failed.ok, failed.kind) == (False, "no_healthy_provider")
    sent = own.requests[0].body
    assert {"temperature", "max_tokens", "tools", "tool_choice"} <= sent.keys()
    assert [each["role"] for each in sent["messages"]] == ["system", "user", "system"]


async def test_too_small_a_context_and_a_missing_price_are_said_in_words(
    own: FakeProvider, tmp_path: Path
):
    settings = settings_of(tmp_path, own.url)
    size = first_prompt_bytes(settings)
    service, _ = await found_service(settings)
    with RunningRouter(tmp_path, service) as router:
        told = router.http("GET", "/v1/aliases").json()
        assert model_warnings(told, settings, has_money_limit=False) == []
        (money,) = model_warnings(told, settings, has_money_limit=True)
        assert "do not bound service/gemma3:4b" in money
        assert "MANA_LLM_PRICE_PROMPT" in money
        name = "service/gemma3:4b"
        assert "200,000 tokens are assumed" in context_in_words(told, name)
        model = next(each for each in told["models"] if each["name"] == name)
        model["abilities"], model["told_by"] = {"context": 8192}, {"context": "asked"}
        assert context_in_words(told, name) == "its context is 8,192 tokens (asked)"
        alias = next(each for each in told["aliases"] if each["name"] == "mana/reasoning")
        small: dict[str, Any] = {
            "largest_context_tokens": 2048,
            "longest_prompt_bytes": 2048,
            "unpriced": [],
        }
        alias["facts"] |= small
        (context,) = model_warnings(told, settings, has_money_limit=True)
        assert f"about {1024 + size // 2 + size % 2:,} tokens" in context
        assert "takes more than 2,048" in context


async def test_what_a_refusal_taught_is_shown(own: FakeProvider, tmp_path: Path):
    service, _ = await found_service(settings_of(tmp_path, own.url))
    error = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model."
        " Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    own.script = [{"status": 400, "answer": {"error": error}}]
    with RunningRouter(tmp_path, service) as router:
        assert (await asyncio.to_thread(router.chat, "mana/x", max_tokens=50)).status_code == 200
        (model,) = router.http("GET", "/v1/aliases").json()["models"]
    assert own.requests[1].body["max_completion_tokens"] == 50
    assert model["abilities"]["limit_name"] == "max_completion_tokens"
    assert model["told_by"]["limit_name"] == "learnt"


async def until(condition: Any, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < ends
        await asyncio.sleep(0.1)
