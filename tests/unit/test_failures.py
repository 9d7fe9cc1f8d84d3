"""What services say of their failures, in their own shapes and words, and what we make of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.errors import ProviderBusy, ProviderError
from mana_actors.llm.completions import failure, read_answer
from mana_actors.llm.failures.bodies import told_in
from mana_actors.llm.failures.cause import Lack
from mana_actors.llm.failures.ends import end_of
from mana_actors.llm.failures.leniency import decoded_value
from mana_actors.llm.failures.wordings import WORDINGS, reading_of


def failed(status: int, body: Any) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return failure(status, raw, retry_after_s=None, provider="p")


def openai(message: str, code: Any = None, kind: str = "invalid_request_error", **more: Any) -> Any:
    return {"error": {"message": message, "type": kind, "code": code} | more}


def vllm(message: str) -> Any:
    return {"object": "error", "message": message, "type": "BadRequestError", "code": 400}


LONG: list[tuple[int, Any, int, int]] = [
    (
        400,
        vllm(
            "This model's maximum context length is 8192 tokens. However, you requested 23000"
            " tokens (18904 in the messages, 4096 in the completion)."
        ),
        8192,
        23_000,
    ),
    (
        400,
        openai(
            "This model's maximum context length is 2048 tokens. However, your request has 800"
            " input tokens plus 2045 'max_tokens'.",
            400,
            "BadRequestError",
        ),
        2048,
        800,
    ),
    (
        400,
        openai("…your messages resulted in 204308 tokens.", "context_length_exceeded"),
        0,
        0,
    ),
    (
        400,
        vllm("The input (61709 tokens) is longer than the model's context length (40960 tokens)."),
        40_960,
        61_709,
    ),
    (
        400,
        vllm(
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You"
            " requested a total of 9000 tokens: 8000 tokens from the input messages."
        ),
        4096,
        9000,
    ),
    (
        500,
        {
            "error": {
                "code": 500,
                "message": "the request exceeds the available context size.",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 1407,
                "n_ctx": 256,
            }
        },
        256,
        1407,
    ),
    (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (134123) exceeds the maximum number of tokens"
                    " allowed (131072).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        131_072,
        134_123,
    ),
    (
        400,
        {
            "type": "error",
            "error": {"message": "prompt is too long: 208310 tokens > 200000 maximum"},
        },
        200_000,
        208_310,
    ),
    (
        400,
        {
            "object": "error",
            "message": "Prompt contains 66385 tokens and 0 draft tokens, too large for model with"
            " 32768 maximum context length",
            "code": "3051",
        },
        32_768,
        66_385,
    ),
    (400, openai("Invalid request: Your request exceeded model token limit : 8192"), 8192, 0),
    (400, openai("Input token length too long"), 0, 0),
    (
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 150000"
            " tokens.",
        },
        131_072,
        150_000,
    ),
    (
        422,
        openai(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given:"
            " 9000 `inputs` tokens and 1 `max_new_tokens`"
        ),
        8193,
        9000,
    ),
    (
        400,
        {
            "error": "Trying to keep the first 6547 tokens when context the overflows. However, the"
            " model is loaded with context length of only 4096 tokens, which is not enough."
        },
        4096,
        6547,
    ),
    (400, {"error": "… context length (n_keep: 13055>= n_ctx: 4096). Try to load …"}, 4096, 13_055),
    (400, openai("Please reduce the length of the messages or completion."), 0, 0),
    (
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": json.dumps(
                        vllm(
                            "This model's maximum context length is 8192 tokens. However, you"
                            " requested 8246 tokens"
                        )
                    ),
                    "provider_name": "DeepInfra",
                },
            }
        },
        8192,
        8246,
    ),
    (400, {"detail": [{"loc": ["body"], "msg": "prompt is too long"}]}, 0, 0),
    (400, {"detail": "input length exceeds the context length"}, 0, 0),
    (400, b"Error: prompt exceeds maximum context length", 0, 0),
    (
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 -"
            " received 5000. Try using a shorter prompt."
        },
        4081,
        5000,
    ),
    (400, {"message": "Input is too long for requested model."}, 0, 0),
    (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "input length and `max_tokens` exceed context limit: 198000 + 8192 >"
                " 200000, decrease input length or `max_tokens` and try again",
            },
        },
        200_000,
        198_000,
    ),
    (
        400,
        openai("The prompt is too long: 140000, model maximum context length: 131071"),
        131_071,
        140_000,
    ),
    (
        422,
        openai("Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
        4096,
        5000,
    ),
    (
        400,
        {
            "message": "Please reduce the length of the messages or completion. Current length is"
            " 9000 while limit is 8192",
            "code": "context_length_exceeded",
        },
        8192,
        9000,
    ),
    (
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, your prompt contains at"
            " least 8193 input tokens.",
            400,
        ),
        8192,
        8193,
    ),
    (
        400,
        openai(
            "prompt token count of 70000 exceeds the limit of 64000",
            "model_max_prompt_tokens_exceeded",
        ),
        64_000,
        70_000,
    ),
    (
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in"
            " 300000 tokens.",
            "context_length_exceeded",
        ),
        272_000,
        300_000,
    ),
    (400, openai("Range of input length should be [1, 30720]"), 30_720, 0),
    (400, {"error": {"code": "1261", "message": "Prompt 超长"}}, 0, 0),
    (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, 0, 0),
    (400, {"error": {"code": "tokens_too_long", "message": "Prompt tokens too long"}}, 0, 0),
    (
        400,
        {"error": {"message": "invalid params, context window exceeds limit (2013)"}},
        0,
        0,
    ),
]


@pytest.mark.parametrize(("status", "body", "limit", "asked"), LONG)
def test_a_prompt_that_is_too_long_is_told_with_its_numbers(
    status: int, body: Any, limit: int, asked: int
):
    error = failed(status, body)
    assert (error.cause, error.kind, error.code) == (
        "too_long",
        "capability",
        "context_length_exceeded",
    )
    assert error.lack == Lack("context", limit=limit, asked=asked)
    assert (error.meaning.closes, error.meaning.next_entry) == ("nobody", True)


LACKS: list[tuple[int, Any, Lack]] = [
    (400, openai("registry.ollama.ai/library/x:1b does not support tools"), Lack("tools")),
    (404, openai("No endpoints found that support tool use. To learn more", 404), Lack("tools")),
    (
        400,
        vllm(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
        Lack("tools"),
    ),
    (500, openai("tools param requires --jinja flag", 500, "server_error"), Lack("tools")),
    (400, openai("x does not support Function Calling"), Lack("tools")),
    (400, openai("`tool calling` is not supported with this model"), Lack("tools")),
    (400, openai("Function calling is not enabled for models/x"), Lack("tools")),
    (
        400,
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            "unsupported_parameter",
            param="max_tokens",
        ),
        Lack("token_limit_name", "max_tokens", "max_completion_tokens"),
    ),
    (
        400,
        openai("nope", "unsupported_parameter", param="max_tokens"),
        Lack("token_limit_name", "max_tokens", "max_completion_tokens"),
    ),
    (
        400,
        openai("Unrecognized request argument supplied: max_completion_tokens"),
        Lack("token_limit_name", "max_completion_tokens", "max_tokens"),
    ),
    (
        400,
        openai(
            "Unsupported value: 'temperature' does not support 0.3 with this model. Only the"
            " default (1) value is supported.",
            "unsupported_value",
            param="temperature",
        ),
        Lack("parameter", "temperature"),
    ),
    (
        400,
        openai("'messages.2' : property 'reasoning_content' is unsupported"),
        Lack("parameter", "reasoning_content"),
    ),
    (400, openai("`temperature` may only be 1 here"), Lack("parameter", "temperature")),
    (
        400,
        openai("Model does not support parallel tool calls"),
        Lack("parameter", "parallel_tool_calls"),
    ),
    (400, openai("json mode is not supported"), Lack("parameter", "response_format")),
    (
        400,
        {
            "message": "messages.1.assistant.reasoning: property 'messages.1.assistant.reasoning'"
            " is unsupported",
            "code": "wrong_api_format",
        },
        Lack("parameter", "reasoning"),
    ),
    (400, openai("deepseek-x does not support this tool_choice"), Lack("parameter", "tool_choice")),
    (
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "parallel_tool_calls"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
        },
        Lack("parameter", "parallel_tool_calls"),
    ),
    (
        400,
        openai("Argument not supported on this model: presencePenalty"),
        Lack("parameter", "presencePenalty"),
    ),
    (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": 'Invalid JSON payload received. Unknown name "additionalProperties"'
                    " at 'tools[0].function_declarations[0].parameters': Cannot find field.",
                }
            }
        ],
        Lack("schema", "additionalProperties"),
    ),
    (400, openai("Invalid schema for function 'f': In context=()"), Lack("schema")),
    (400, openai("No endpoints found that support image input", 404), Lack("images")),
    (400, vllm("At most 0 image(s) may be provided in one prompt."), Lack("images")),
    (400, vllm("System message must be at the beginning."), Lack("system_first")),
    (
        500,
        openai("Conversation roles must alternate user/assistant/user/assistant/...", 500),
        Lack("system_first"),
    ),
    (400, openai("Unexpected role 'system' after role 'tool'"), Lack("system_first")),
    (
        400,
        openai("`max_tokens` must be less than or equal to `8192`, the maximum value for"),
        Lack("output_limit", limit=8192),
    ),
    (
        400,
        openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        Lack("output_limit", limit=8192),
    ),
    (
        400,
        openai(
            "max_tokens is too large: 5000. This model supports at most 4096 completion tokens,"
            " whereas you provided 5000."
        ),
        Lack("output_limit", limit=4096),
    ),
    (400, {"message": "This model doesn't support tool use."}, Lack("tools")),
    (
        400,
        {"message": "This model doesn\N{RIGHT SINGLE QUOTATION MARK}t support tool use."},
        Lack("tools"),
    ),
    (400, vllm('"required" tool choice requires --tool-call-parser to be set'), Lack("tools")),
    (400, {"message": "This model doesn't support system messages."}, Lack("system_first")),
    (
        400,
        openai("Developer instruction is not enabled for models/gemma-3-27b-it"),
        Lack("system_first"),
    ),
    (
        400,
        {"message": "This model doesn't support the image content block that you provided."},
        Lack("images"),
    ),
    (400, openai("Image content is not supported by this model"), Lack("images")),
    (
        400,
        {"error": "Model grok-4 does not support parameter stop."},
        Lack("parameter", "stop"),
    ),
    (
        400,
        {"error": "Model grok-4 does not support parameter reasoningEffort."},
        Lack("parameter", "reasoningEffort"),
    ),
    (
        400,
        openai("Extra inputs are not permitted, field: 'parallel_tool_calls', value: True"),
        Lack("parameter", "parallel_tool_calls"),
    ),
    (
        422,
        {"message": "unknown field: parameter 'seed' is not a valid field"},
        Lack("parameter", "seed"),
    ),
    (
        400,
        openai("`temperature` and `top_p` cannot both be specified for this model."),
        Lack("parameter", "top_p"),
    ),
    (400, openai("Range of max_tokens should be [1, 8192]"), Lack("output_limit", limit=8192)),
    (
        400,
        {"message": "The maximum tokens you requested exceeds the model limit of 4096. Try again"},
        Lack("output_limit", limit=4096),
    ),
]


@pytest.mark.parametrize(("status", "body", "lack"), LACKS)
def test_what_an_entry_lacks_is_read_from_its_refusal(status: int, body: Any, lack: Lack):
    error = failed(status, body)
    assert (error.cause, error.lack) == ("capability", lack)
    assert error.meaning.closes == "nobody"


CAUSES: list[tuple[int, Any, str]] = [
    (
        413,
        openai("Request too large for model `x` … (TPM): Limit 6000, Requested 12328, please")
        | {"code": "rate_limit_exceeded"},
        "too_large",
    ),
    (413, {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "nein"}}, "x"),
    (
        429,
        openai("Request too large for x on tokens per min (TPM): Limit 1, Requested 2"),
        "too_large",
    ),
    (413, b"<html><h1>413 Request Entity Too Large</h1></html>", "too_large"),
    (429, openai("Rate limit reached … Limit 6000, Used 5034, Requested 1443"), "rate_limit"),
    (429, b"", "rate_limit"),
    (429, openai("You exceeded your current quota", "insufficient_quota"), "quota"),
    (
        429,
        [{"error": {"message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}}],
        "rate_limit",
    ),
    (402, openai("Insufficient Balance"), "quota"),
    (402, openai("This request requires more credits, or fewer max_tokens."), "quota"),
    (400, openai("Your credit balance is too low to access the API"), "quota"),
    (401, openai("Incorrect API key provided", "invalid_api_key"), "auth"),
    (400, openai("API key not valid. Please pass a valid API key.", 400), "auth"),
    (403, b"<html>Forbidden</html>", "auth"),
    (
        404,
        openai("The model `x-1` does not exist or you do not have access", "model_not_found"),
        "m",
    ),
    (400, {"object": "error", "message": "Invalid model: x-1", "type": "invalid_model"}, "m"),
    (404, openai('model "x:1b" not found, try pulling it first'), "m"),
    (400, openai("The model `x` has been decommissioned", "model_decommissioned"), "m"),
    (404, b"404 page not found", "m"),
    (529, {"type": "error", "error": {"type": "overloaded_error"}}, "overloaded"),
    (
        429,
        openai("The engine is currently overloaded", kind="engine_overloaded_error"),
        "overloaded",
    ),
    (503, openai("Loading model", 503, "unavailable_error"), "overloaded"),
    (500, b"", "broken"),
    (504, b"<html>", "timeout"),
    (400, openai("was", "content_filter"), "blocked"),
    (400, openai("The response was filtered due to … content management policy"), "blocked"),
    (400, openai("Content Exists Risk"), "blocked"),
    (400, {"error": {"type": "content_filter", "message": "considered high risk"}}, "blocked"),
    (
        403,
        openai("x requires moderation. Your input was flagged for violence", 403),
        "blocked",
    ),
    (400, openai("Failed to call a function. Please adjust", "tool_use_failed"), "failed_answer"),
    (400, openai("We could not parse the JSON body of your request."), "malformed"),
    (400, b"", "refused"),
    (400, openai("something nobody ever heard of", "E_1234"), "refused"),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}, "refused"),
    (418, b"teapot", "refused"),
    (400, openai("Unknown parameter: 'messages[0].role'"), "capability"),
    (400, [{"error": {"message": "The request was blocked: PROHIBITED_CONTENT"}}], "blocked"),
    (403, b"<html>Sorry, your request was blocked</html>", "auth"),  # a firewall, and no policy
    (400, {"error": {"code": "1301", "message": "内容可能包含不安全或敏感内容"}}, "blocked"),
    (400, openai("The system has detected potentially unsafe or sensitive content"), "blocked"),
    (400, {"error": {"code": "1026", "message": "input new_sensitive"}}, "blocked"),
    (422, openai("NSFW content detected"), "blocked"),
    (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, "quota"),
    (403, {"error": "Your newly created teams doesn't have any credits yet."}, "quota"),
    (
        429,
        {
            "error": {
                "message": "Your project has exceeded its monthly spending cap.",
                "status": "RESOURCE_EXHAUSTED",
            }
        },
        "quota",
    ),
    (400, openai("Model Not Exist"), "m"),
    (400, {"message": "The provided model identifier is invalid."}, "m"),
    (403, {"message": "You don't have access to the model with the specified model ID."}, "m"),
    (
        429,
        {
            "message": "Service tier capacity exceeded for this model.",
            "type": "service_tier_capacity_exceeded",
        },
        "overloaded",
    ),
]


@pytest.mark.parametrize(("status", "body", "cause"), CAUSES)
def test_each_failure_has_its_cause(status: int, body: Any, cause: str):
    expected = {"m": "missing_model", "x": "too_large"}.get(cause, cause)
    assert failed(status, body).cause == expected


def test_only_a_content_policy_and_a_broken_body_end_a_chain():
    ends = {row.cause for row in WORDINGS if not failed_as(row.cause).meaning.next_entry}
    assert ends == {"blocked", "malformed"}


def failed_as(cause: Any) -> ProviderError:
    return ProviderBusy("unknown", 400, cause=cause)


def test_a_part_that_cannot_be_left_out_is_no_lack():
    error = failed(400, openai("Invalid parameter: messages with role 'tool' must follow"))
    assert (error.cause, error.lack) == ("capability", None)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b'{"error":' * 5000, b'"\\ud800"'])
def test_a_body_without_sense_is_read_to_no_harm(body: bytes):
    assert failed(400, body).cause == "refused"


@pytest.mark.parametrize("filling", ["a" * 4_000_000, "exceed " * 500_000, "0," * 2_000_000])
def test_however_much_a_service_says_little_of_it_is_looked_at(filling: str):
    many = [{"message": f"{number} {filling[:5000]}"} for number in range(1000)]
    told = told_in(json.dumps({"error": many}).encode())
    assert len(told.words) <= 4000
    assert len(told_in(json.dumps(openai(filling)).encode()).words) <= 4000
    assert len(told_in(filling.encode()).words) <= 4000
    assert failed(400, openai(filling)).cause == "refused"


def test_no_word_of_a_service_is_kept():
    secret = "sk-AbC123geheim"
    error = failed(400, openai(f"Unsupported parameter: '{secret}' {secret}", secret, secret))
    assert secret not in repr(error) + str(vars(error))


@given(st.binary(max_size=300), st.integers(400, 599))
def test_any_bytes_are_some_failure(body: bytes, status: int):
    error = failed(status, body)
    assert error.status == status


KEYS = st.sampled_from(
    ["error", "message", "detail", "code", "type", "param", "loc", "raw", "n_ctx"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@st.composite
def shaped(draw: st.DrawFn, depth: int = 4) -> Any:
    kind = draw(st.integers(0, 2)) if depth else 0
    if kind == 0:
        return draw(LEAVES)
    count = draw(st.integers(0, 4))
    inner = [draw(shaped(depth - 1)) for _ in range(count)]
    return inner if kind == 1 else {draw(KEYS): each for each in inner}


@given(shaped())
def test_any_json_is_some_failure(value: Any):
    reading_of(told_in(json.dumps(value).encode()), 400)


# --- what strict readers refuse -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":"Hi \\ud83d"}', {"a": "Hi \N{REPLACEMENT CHARACTER}"}),
        (b'{"a":"\\ud83d\\ude00 \\ude00"}', {"a": "\U0001f600 \N{REPLACEMENT CHARACTER}"}),
        (b'{"\\ud83d":1}', {"\N{REPLACEMENT CHARACTER}": 1}),
        (b'{"a":"\xff"}', {"a": "\N{REPLACEMENT CHARACTER}"}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":"x\x01\n"}', {"a": "x\x01\n"}),
        (b'{"a":NaN,"b":-Infinity,"c":1e999}', {"a": None, "b": None, "c": None}),
        (b'{"a":1,"a":2}', {"a": 2}),
        ('{"a":"ä"}'.encode("utf-16"), {"a": "ä"}),
        (b'{"a":1' + b"0" * 5000 + b"}", {"a": None}),
        (b"[" * 50_000, None),
        (b'{"a":', None),
        (b"", None),
    ],
)
def test_text_is_kept_and_what_is_no_number_is_null(raw: bytes, value: Any):
    assert decoded_value(raw) == value


@given(st.binary(max_size=200))
def test_what_is_read_can_be_sent_on(raw: bytes):
    msgspec.json.encode(decoded_value(raw))
    msgspec.json.encode(decoded_value(b'{"a":"' + raw + b'"}'))


# --- how an answer ended --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "native", "end"),
    [
        ("stop", None, "stop"),
        ("end_turn", None, "stop"),
        ("eos", None, "stop"),
        ("STOP", None, "stop"),
        ("FINISH_REASON_STOP", None, "stop"),
        ("tool_use", None, "tool_calls"),
        ("max_tokens", None, "length"),
        ("MAX_TOKENS", None, "length"),
        ("model_length", None, "length"),
        ("insufficient_system_resource", None, "length"),
        ("SAFETY", None, "content_filter"),
        ("refusal", None, "content_filter"),
        ("error", None, "error"),
        ("MALFORMED_FUNCTION_CALL", None, "error"),
        ("TOO_MANY_TOOL_CALLS", None, "error"),
        ("malformed_tool_use", None, "error"),
        ("MODEL_ARMOR", None, "content_filter"),
        ("OTHER", None, "length"),
        ("null", None, None),
        ("null", "MAX_TOKENS", "length"),
        ("gibberish", None, "length"),
        ("stop", "MAX_TOKENS", "length"),
        ("stop", "SAFETY", "content_filter"),
        ("stop", "tool_use", "stop"),
        ("stop", "gibberish", "stop"),
        ("length", "STOP", "length"),
        (None, None, None),
        (5, None, None),
        ("", None, None),
        (None, "MAX_TOKENS", "length"),
    ],
)
def test_how_an_answer_ended(word: object, native: object, end: str | None):
    assert end_of(word, native) == end


def answered(**choice: Any) -> Any:
    message = {"role": "assistant", "content": "Ich lege jetzt die"}
    raw = json.dumps({"choices": [{"index": 0, "message": message} | choice]}).encode()
    return read_answer(raw, resolved="", asked_model="m", provider="p")


def test_a_word_that_nobody_publishes_is_no_whole_plan():
    assert answered(finish_reason="gibberish").finish_reason == "length"
    assert answered(finish_reason="max_tokens").finish_reason == "length"
    assert answered(finish_reason=None).finish_reason == "stop"
    assert answered().finish_reason == "stop"


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "error"},
        {"error": {"code": 502, "message": "upstream"}, "finish_reason": "error"},
        {"error": {"message": "upstream"}},
    ],
)
def test_half_a_sentence_that_ended_in_an_error_is_no_answer(choice: Any):
    with pytest.raises(ProviderBusy) as caught:
        answered(**choice)
    assert (caught.value.cause, caught.value.may_have_spent) == ("failed_answer", True)
    assert caught.value.meaning.closes == "nobody"


@pytest.mark.parametrize("code", [401, 429, 503])
def test_whatever_an_answer_says_it_failed_of_it_may_have_spent(code: int):
    with pytest.raises(ProviderError) as caught:
        answered(error={"code": code, "message": "upstream"})
    assert (caught.value.status, caught.value.may_have_spent) == (code, True)


def test_an_empty_error_beside_an_answer_is_none():
    assert answered(error=None).finish_reason == "stop"
    assert answered(error={"code": None, "message": ""}).finish_reason == "stop"


def test_a_lone_surrogate_costs_one_character():
    raw = b'{"choices":[{"message":{"content":"Hi \\ud83d"}}]}'
    answer = read_answer(raw, resolved="", asked_model="m", provider="p")
    assert answer.content == "Hi \N{REPLACEMENT CHARACTER}"


def test_a_failed_answer_is_judged_by_its_error_and_not_what_it_says():
    said = {"role": "assistant", "content": "x", "message": "Rate limit; invalid api key"}
    for raw in (
        {"error": {"message": "upstream"}, "choices": [{"message": said}]},
        {"choices": [{"message": said, "error": {"message": "upstream"}}]},
    ):
        with pytest.raises(ProviderBusy) as caught:
            read_answer(json.dumps(raw).encode(), resolved="", asked_model="m", provider="p")
        assert caught.value.cause == "failed_answer"
