"""Chains of two: what near says, who serves, and what near's name is worth afterwards."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest
from mana_actors.errors import ProviderError
from mana_actors.llm.client import HttpProvider
from tests.fake_provider import Entry
from tests.router_parts import RunningRouter
from tests.zoo.keeper import Personality, Zoo, alias_file
from tests.zoo.rules import Json
from tests.zoo.species import OPENAI_RULES

Name = Literal["kept", "lost", "any"]
TOOL: Json = {
    "type": "function",
    "function": {"name": "create_task", "parameters": {"type": "object", "properties": {}}},
}
QUESTION = (ChatMessage("system", "Plane."), ChatMessage("user", "Die Woche."))


class Row(msgspec.Struct, frozen=True):
    """`says` is near's answer; `name` whether near stays open for others."""

    id: str
    says: Entry
    name: Name = "kept"


def no(status: int, body: Any, **headers: str) -> Entry:
    return {"status": status, "answer": body, "headers": headers}


def error(message: str, status: int = 400, **more: Any) -> Entry:
    return no(status, {"error": {"message": message} | more})


def answer(choice: Any, **more: Any) -> Entry:
    usage = {"prompt_tokens": 120, "completion_tokens": 120, "total_tokens": 240}
    return {"answer": {"choices": [choice], "usage": usage, "model": "m"} | more}


TOO_LONG = [
    Row(
        "vllm",
        no(
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 8192 tokens. However, you"
                " requested 23000 tokens",
                "type": "BadRequestError",
                "code": 400,
            },
        ),
    ),
    Row(
        "groq-413",
        error("Request too large", 413, code="rate_limit_exceeded", type="tokens"),
    ),
    Row(
        "openai-429",
        error(
            "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit"
            " 30000,"
            " Requested 34000. The input or output tokens must be reduced in order to run"
            " successfully.",
            429,
            code="rate_limit_exceeded",
            type="tokens",
            param=None,
        ),
    ),
    Row(
        "openai",
        error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in"
            " 8227 tokens. Please reduce the length of the messages.",
            type="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    Row(
        "anthropic",
        no(
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 208310 tokens > 200000 maximum",
                },
            },
        ),
    ),
    Row("anthropic-413", error("Request exceeds the maximum size", 413, type="request_too_large")),
    Row(
        "llama-cpp",
        error(
            "the request exceeds the available context size, try increasing it",
            code=400,
            type="exceed_context_size_error",
            n_prompt_tokens=14429,
            n_ctx=8192,
        ),
    ),
    Row(
        "llama-cpp-500",
        error(
            "the request exceeds the available context size. try increasing the context size or"
            " enable context shift",
            500,
            code=500,
            type="exceed_context_size_error",
            n_prompt_tokens=1407,
            n_ctx=256,
        ),
    ),
    Row(
        "sglang",
        no(
            400,
            {
                "object": "error",
                "message": "The input (61709 tokens) is longer than the model's context length"
                " (40960"
                " tokens).",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
    ),
    Row(
        "gemini",
        no(
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (1200000) exceeds the maximum number of"
                        " tokens allowed (1048576).",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
        ),
    ),
    Row(
        "mistral",
        no(
            400,
            {
                "object": "error",
                "message": "Prompt contains 40041 tokens and 0 draft tokens, too large for model"
                " with"
                " 32768 maximum context length",
                "type": "invalid_request_prompt_too_long",
                "param": None,
                "code": "3051",
            },
        ),
    ),
    Row(
        "together",
        error(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given:"
            " 7900"
            " `inputs` tokens and 1024 `max_new_tokens`",
            422,
            type="invalid_request_error",
            param="max_tokens",
        ),
    ),
    Row(
        "xai",
        no(
            400,
            {
                "code": "Client specified an invalid argument",
                "error": "This model's maximum prompt length is 131072 but the request contains"
                " 150000"
                " tokens.",
            },
        ),
    ),
    Row(
        "lm-studio",
        no(
            400,
            {
                "error": "Trying to keep the first 14538 tokens when context the overflows."
                " However,"
                " the model is loaded with context length of only 2048 tokens, which is not enough."
            },
        ),
    ),
    Row(
        "openrouter",
        error(
            "Provider returned error",
            code=400,
            metadata={
                "raw": '{"error":{"message":"This model\'s maximum context length is 8192'
                ' tokens"}}',
                "provider_name": "Vendor",
            },
        ),
    ),
]
LACKS = [
    Row("ollama-tools", error("registry/small:1b does not support tools")),
    Row(
        "openrouter-tools",
        error("No endpoints found that support tool use. Try disabling", 404, code=404),
    ),
    Row(
        "vllm-tools",
        error(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be'
            " set",
            type="BadRequestError",
            code=400,
        ),
    ),
    Row(
        "groq-tool-use-failed",
        error(
            "Failed to call a function. Please adjust your prompt. See 'failed_generation'.",
            type="invalid_request_error",
            code="tool_use_failed",
            failed_generation="<function=create_task>",
        ),
    ),
]
STRANGE = [
    Row("400-empty", {"status": 400, "text": ""}),
    Row("400-text", {"status": 400, "text": "Bad Request"}),
    Row("400-html", {"status": 400, "text": "<html><body>400</body></html>"}),
    Row("400-message", no(400, {"message": "no such thing", "request_id": "1"})),
    Row("400-detail", no(400, {"detail": "There was an error parsing the body"})),
    Row("400-null", no(400, None)),
    Row("400-number", no(400, {"error": 7})),
    Row("400-list", no(400, [])),
    Row("405", {"status": 405, "text": ""}),
    Row("406", {"status": 406, "text": ""}),
    Row("410", error("The model has been retired", 410), "any"),
    Row("418", {"status": 418, "text": "short and stout"}),
    Row("424", {"status": 424, "text": ""}),
    Row("431", {"status": 431, "text": "Request Header Fields Too Large"}),
    Row(
        "422-fields",
        no(
            422,
            {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}
                ]
            },
        ),
    ),
    Row("307", no(307, "", location="/elsewhere"), "any"),
]
DOWN = [
    Row("401", error("Incorrect API key provided", 401, code="invalid_api_key"), "lost"),
    Row("403", error("Project does not have access", 403, code="permission_denied"), "lost"),
    Row("402-deepseek", error("Insufficient Balance", 402, code="invalid_request_error"), "lost"),
    Row(
        "429-quota",
        error(
            "You exceeded your current quota, please check your plan and billing details.",
            429,
            type="insufficient_quota",
            code="insufficient_quota",
        ),
        "lost",
    ),
    Row("404-model", error("The model `m` does not exist.", 404, code="model_not_found"), "any"),
    Row("400-model-deepseek", error("Model Not Exist", 400, code="invalid_request_error"), "any"),
    Row(
        "429", error("Rate limit reached", 429, code="rate_limit_exceeded", type="requests"), "any"
    ),
    Row("529", no(529, {"type": "error", "error": {"type": "overloaded_error"}}), "any"),
    Row("503-html", {"status": 503, "text": "<html>upstream</html>"}, "any"),
    Row("500", error("The server had an error", 500, type="server_error"), "any"),
]
NO_ANSWER = [
    Row("200-html", {"garbage": b"<html>captive portal</html>"}, "any"),
    Row("200-null", {"garbage": b"null"}, "any"),
    Row("200-list", {"garbage": b"[]"}, "any"),
    Row("200-empty", {"garbage": b""}, "any"),
    Row("200-no-choices", {"answer": {"choices": [], "usage": None}}, "any"),
    Row("200-null-choices", {"answer": {"choices": None}}, "any"),
    Row("200-no-message", answer({"index": 0, "finish_reason": "stop"}), "any"),
    Row("200-error", {"answer": {"error": {"message": "overloaded", "code": 503}}}, "any"),
    Row("200-error-text", {"answer": {"error": "Context size has been exceeded"}}, "any"),
    Row(
        "200-error-in-choice",
        answer(
            {
                "index": 0,
                "error": {"code": 502, "message": "upstream"},
                "message": {"role": "assistant", "content": "Ich lege jetzt die"},
                "finish_reason": "error",
            }
        ),
        "any",
    ),
    Row(
        "200-finish-error",
        answer(
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Ich"},
                "finish_reason": "error",
            }
        ),
        "any",
    ),
    Row("200-cut", {"half": True, "content": "x"}, "any"),
    Row("closed", {"close": "headers"}, "any"),
    Row("closed-amid", {"close": "body", "content": "x"}, "any"),
]
FAR_SERVES = [*TOO_LONG, *LACKS, *STRANGE, *DOWN, *NO_ANSWER]
FINAL = [
    Row(
        "openai-policy",
        error(
            "Your request was rejected as a result of our safety system.",
            type="invalid_request_error",
            code="content_policy_violation",
        ),
    ),
    Row(
        "azure-filter",
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content"
            " management"
            " policy. Please modify your prompt and retry.",
            type=None,
            param="prompt",
            code="content_filter",
            status=400,
            innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
        ),
    ),
]


def whole(content: Any, finish: Any, **message: Any) -> Entry:
    """An answer with text."""
    said = {"role": "assistant", "content": content} | message
    return answer({"index": 0, "message": said, "finish_reason": finish})


ENDINGS: list[tuple[str, Entry, str]] = [
    ("stop", whole("Fertig.", "stop"), "stop"),
    ("end_turn", whole("Fertig.", "end_turn"), "stop"),
    ("eos", whole("Fertig.", "eos"), "stop"),
    ("STOP", whole("Fertig.", "STOP"), "stop"),
    ("stop_sequence", whole("Fertig.", "stop_sequence"), "stop"),
    ("length", whole("Fert", "length"), "length"),
    ("max_tokens", whole("Fert", "max_tokens"), "length"),
    ("MAX_TOKENS", whole("Fert", "MAX_TOKENS"), "length"),
    ("model_length", whole("Fert", "model_length"), "length"),
    ("content_filter", whole("Fert", "content_filter"), "content_filter"),
    ("SAFETY", whole("Fert", "SAFETY"), "content_filter"),
    ("RECITATION", whole("Fert", "RECITATION"), "content_filter"),
    ("some_new_word", whole("Fert", "some_new_word"), "not stop"),
]


def _personality(name: str, *says: Entry) -> Personality:
    return Personality(
        name=name, source="a row", answers=says, bills=(0,) * len(says), rules=OPENAI_RULES
    )


def cases(rows: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.id) for row in rows]


PEOPLE = [
    *(_personality(f"near-{row.id}", *[row.says] * 3) for row in [*FAR_SERVES, *FINAL]),
    *(_personality(f"ends-{n}", says) for n, (_, says, _) in enumerate(ENDINGS)),
    _personality("lone", *[whole("Hi \ud83d", "stop")] * 2),
    _personality("far"),
]


@pytest.fixture(scope="module")
def zoo() -> Generator[Zoo]:
    with Zoo(PEOPLE) as open_zoo:
        yield open_zoo


@pytest.fixture(scope="module")
def router(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRouter]:
    folder: Path = tmp_path_factory.mktemp("chains")
    chains = {name: [name, "far"] for name in zoo.residents if name != "far"}
    with RunningRouter(folder, alias_file(zoo, folder, chains | {"far": ["far"]})) as running:
        yield running


def asked(alias: str) -> ModelRequest:
    return ModelRequest(f"mana/{alias}", QUESTION, tools=(TOOL,))


def is_open(router: RunningRouter, name: str) -> bool:
    """Whether callers are still sent to this provider."""
    health = router.http("GET", "/v1/health").json()["providers"][name]
    return health["status"] == "healthy"


@pytest.mark.parametrize("row", cases(FAR_SERVES))
async def test_far_serves_where_near_refuses(
    row: Row, zoo: Zoo, router: RunningRouter, provider: HttpProvider
):
    near = zoo.anew(f"near-{row.id}")
    served = await provider.complete(asked(near.personality.name), deadline_s=10)
    assert served.resolved_model == "far/model-1"
    assert len(near.requests) >= 1
    if row.name != "any":
        assert is_open(router, near.personality.name) == (row.name == "kept")


@pytest.mark.parametrize("row", cases(FINAL))
async def test_what_is_at_fault_everywhere_walks_no_chain(
    row: Row, zoo: Zoo, router: RunningRouter, provider: HttpProvider
):
    near, far = zoo.anew(f"near-{row.id}"), zoo.anew("far")
    with pytest.raises(ProviderError) as caught:
        await provider.complete(asked(near.personality.name), deadline_s=10)
    assert caught.value.kind == "blocked"
    assert (len(near.requests), len(far.requests)) == (1, 0)
    assert is_open(router, near.personality.name)


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, id=word) for n, (word, *_) in enumerate(ENDINGS)],
)
async def test_how_an_answer_ended_is_read_from_every_providers_words(
    number: int, zoo: Zoo, provider: HttpProvider
):
    name, right = f"ends-{number}", ENDINGS[number][2]
    zoo.anew(name)
    found = await provider.complete(asked(name), deadline_s=10)
    assert found.resolved_model == f"{name}/model-1"
    assert found.finish_reason == right or (right == "not stop" and found.finish_reason != "stop")


async def test_a_lone_surrogate_is_text_and_closes_nothing(
    zoo: Zoo, router: RunningRouter, provider: HttpProvider
):
    lone = zoo.anew("lone")
    for _ in range(2):
        found = await provider.complete(asked("lone"), deadline_s=10)
        assert (found.resolved_model, found.content) == ("lone/model-1", "Hi \ufffd")
    assert is_open(router, "lone")
    next_caller = await provider.complete(asked("lone"), deadline_s=10)
    assert next_caller.resolved_model == "lone/model-1"
    assert len(lone.requests) == 3


async def test_a_proxy_setting_that_is_none_fails_only_its_entry(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    elsewhere = {"lone": "http://192.0.2.1/v1"}
    source = alias_file(zoo, tmp_path, {"outside": ["lone", "far"]}, urls=elsewhere)
    with RunningRouter(tmp_path, source) as router:
        client = HttpProvider(router.url, key_file=router.token_file)
        served = await client.complete(asked("outside"), deadline_s=10)
        await client.aclose()
    assert served.resolved_model == "far/model-1"
