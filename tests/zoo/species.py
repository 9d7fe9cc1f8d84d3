"""The personalities, as published; each names where its rules were read."""

from __future__ import annotations

import json
from typing import Any

from tests.zoo.keeper import Personality
from tests.zoo.rules import (
    NAME,
    AfterTool,
    AtMost,
    Carries,
    Forbids,
    Ids,
    KnownMembers,
    KnownModels,
    Names,
    NoTools,
    ObjectArguments,
    Only,
    Pairs,
    Refusal,
    Room,
    SaysSomething,
    SchemaWords,
    Signed,
    SystemFirst,
    UniqueIds,
)
from tests.zoo.speech import Habits


def _openai(
    message: str, *, param: str | None = None, code: Any = None, status: int = 400
) -> Refusal:
    """An error in OpenAI's shape."""
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    return Refusal(status, {"error": error})


def _flat(message: str, *, kind: str = "BadRequestError", code: Any = 400) -> Refusal:
    """An error as vLLM of old, SGLang and Mistral write it: no object around it."""
    status = code if isinstance(code, int) else 400
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    return Refusal(status, body)


def _google(message: str, status: int = 400, word: str = "INVALID_ARGUMENT") -> Refusal:
    """An error of Gemini's OpenAI door: the object comes in a list."""
    return Refusal(status, [{"error": {"code": status, "message": message, "status": word}}])


def _llama(message: str, kind: str = "invalid_request_error", **more: Any) -> Refusal:
    return Refusal(400, {"error": {"code": 400, "message": message, "type": kind} | more})


OPENAI_RULES = (
    KnownModels(
        _openai(
            "The model `<model>` does not exist or you do not have access to it.",
            code="model_not_found",
            status=404,
        )
    ),
    Names(
        NAME,
        _openai(
            "Invalid 'messages[2].tool_calls[0].function.name': string does not match pattern."
            " Expected"
            " a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            param="messages[2].tool_calls[0].function.name",
            code="invalid_value",
        ),
    ),
    Ids(
        r".{1,40}",
        _openai(
            "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with"
            " maximum"
            " length 40, but got a string with length <length> instead.",
            param="messages[2].tool_calls[0].id",
            code="string_above_max_length",
        ),
    ),
    UniqueIds(
        _openai("Duplicate value for 'tool_call_id' of '<id>' in messages.", param="messages")
    ),
    Pairs(
        _openai(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to"
            " each 'tool_call_id'. The following tool_call_ids did not have response messages:"
            " <id>",
            param="messages.[<index>].role",
        )
    ),
    SaysSomething(
        _openai(
            "Invalid value for 'content': expected a string, got null.",
            param="messages.[<index>].content",
        )
    ),
)

VLLM_SYSTEM = Refusal(
    400,
    {
        "error": {
            "message": "System message must be at the beginning.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
    },
)

OPENAI = Personality(
    name="openai",
    source="platform.openai.com/docs/api-reference/chat",
    model="gpt-4.1-mini",
    rules=(
        *OPENAI_RULES,
        Room(
            1_000_000,
            _openai(
                "This model's maximum context length is <context> tokens. However, your messages"
                " resulted in <prompt> tokens. Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            ),
        ),
    ),
    habits=Habits(
        usage="details",
        around={"system_fingerprint": "fp_1", "service_tier": "default"},
    ),
)

OPENAI_REASONING = Personality(
    name="openai-reasoning",
    source="sipeed/picoclaw#16 (max_tokens); openai reasoning guide (temperature)",
    model="gpt-5-mini",
    rules=(
        *OPENAI_RULES,
        Forbids(
            "max_tokens",
            _openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
                " 'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
        ),
        Only(
            "temperature",
            1,
            _openai(
                "Unsupported value: 'temperature' does not support <value> with this model. Only"
                " the"
                " default (1) value is supported.",
                param="temperature",
                code="unsupported_value",
            ),
        ),
    ),
    habits=Habits(usage="details"),
)

AZURE = Personality(
    name="azure",
    source="learn.microsoft.com: Azure OpenAI v1; onyx-dot-app/onyx#10893 (filters)",
    model="my-deployment",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "error": {
                        "code": "DeploymentNotFound",
                        "message": "The API deployment for this resource does not exist. If you"
                        " created"
                        " the deployment within the last 5 minutes, please wait a moment and try"
                        " again.",
                    }
                },
            )
        ),
        *OPENAI_RULES[1:],
    ),
    habits=Habits(
        usage="details",
        stream="azure",
        around={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]},
        choice={"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}},
    ),
)

ANTHROPIC = Personality(
    name="anthropic",
    source="docs.claude.com: OpenAI SDK compatibility; anthropics/claude-code#6242, trycua/cua#524",
    model="claude-sonnet-4-5",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "error": {
                        "code": "not_found_error",
                        "message": "model: <model>",
                        "type": "not_found_error",
                        "param": None,
                    }
                },
            )
        ),
        Names(
            r"[a-zA-Z0-9_-]{1,128}",
            _openai("tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
        ),
        Ids(
            r"[a-zA-Z0-9_-]+",
            _openai(
                "messages.2.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            ),
        ),
        UniqueIds(_openai("messages.2.content.1: `tool_use` ids must be unique")),
        Pairs(
            _openai(
                "messages.<index>: `tool_use` ids were found without `tool_result` blocks"
                " immediately"
                " after: <id>. Each `tool_use` block must have a corresponding `tool_result`"
                " block in"
                " the next message."
            )
        ),
        SaysSomething(_openai("messages: text content blocks must be non-empty"), empty_text=False),
        Room(
            200_000,
            _openai("prompt is too long: <prompt> tokens > <context> maximum"),
            counts_output=False,
        ),
    ),
    habits=Habits(ids="anthropic", content="absent"),
)

GEMINI = Personality(
    name="gemini",
    source="ai.google.dev: thought signatures; 0xsline/OpenChatCut#6, TokenRhythm/opensquilla#225",
    model="gemini-3-pro-preview",
    rules=(
        KnownModels(
            _google(
                "models/<model> is not found for API version v1main, or is not supported for"
                " generateContent.",
                404,
                "NOT_FOUND",
            )
        ),
        Signed(
            _google(
                "Function call is missing a thought_signature in functionCall parts. This is"
                " required"
                " for tools to work correctly, and missing thought_signature may lead to degraded"
                " model performance. Additional data, function call `default_api:<name>` , position"
                " <index>. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures"
                " for more details."
            )
        ),
        Pairs(
            _google(
                "Please ensure that the number of function response parts is equal to the number of"
                " function call parts of the function call turn."
            )
        ),
        Names(NAME, _google("Invalid function name.")),
    ),
    habits=Habits(thoughts="signature", usage="thinking_apart", stream="gemini", content="absent"),
)

GEMINI_SCHEMA = Personality(
    name="gemini-schema",
    source="ai.google.dev: function declarations take a subset of OpenAPI's schema",
    model="gemini-2.0-flash",
    rules=(
        SchemaWords(
            frozenset({"additionalProperties", "$schema", "exclusiveMinimum"}),
            _google(
                'Invalid JSON payload received. Unknown name "<word>" at'
                " 'tools[0].function_declarations[0].parameters': Cannot find field."
            ),
        ),
    ),
    habits=Habits(usage="gemini", ids="none", stream="gemini", content="absent"),
)

DEEPSEEK_RULES = (
    KnownModels(
        Refusal(
            400,
            {
                "error": {
                    "message": "Model Not Exist",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "invalid_request_error",
                }
            },
        )
    ),
    Pairs(
        _openai(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to"
            " each 'tool_call_id'. (insufficient tool messages following tool_calls message)",
            code="invalid_request_error",
        )
    ),
    UniqueIds(_openai("Duplicate value for 'tool_call_id' of <id>", code="invalid_request_error")),
    Room(
        131_072,
        _openai(
            "This model's maximum context length is <context> tokens. However, you requested"
            " <asked>"
            " tokens (<prompt> in the messages, <output> in the completion). Please reduce the"
            " length"
            " of the messages or completion.",
            code="invalid_request_error",
        ),
    ),
)

DEEPSEEK_CHAT = Personality(
    name="deepseek-chat",
    source="api-docs.deepseek.com; evalstate/fast-agent#621 (context)",
    model="deepseek-chat",
    rules=DEEPSEEK_RULES,
    habits=Habits(usage="deepseek", content="empty"),
)

DEEPSEEK_REASONER = Personality(
    name="deepseek-reasoner",
    source="api-docs.deepseek.com/guides/thinking_mode; hotovo/aider-desk#529",
    model="deepseek-reasoner",
    rules=(
        *DEEPSEEK_RULES,
        Carries(
            "reasoning_content",
            _openai(
                "Missing `reasoning_content` field in the assistant message at message index"
                " <index>."
                " For more information, please refer to"
                " https://api-docs.deepseek.com/guides/thinking_mode#tool-calls",
                code="invalid_request_error",
            ),
        ),
    ),
    habits=Habits(thoughts="reasoning_content", usage="deepseek", content="empty"),
)

DEEPSEEK_V4 = Personality(
    name="deepseek-v4",
    source="earendil-works/pi#3636 (its wording)",
    model="deepseek-v4-flash",
    rules=(
        *DEEPSEEK_RULES,
        Carries(
            "reasoning_content",
            _openai(
                "The `reasoning_content` in the thinking mode must be passed back to the API.",
                code="invalid_request_error",
            ),
        ),
    ),
    habits=Habits(thoughts="reasoning_content", usage="deepseek"),
)

KIMI = Personality(
    name="kimi",
    source="platform.moonshot.ai; sipeed/picoclaw#588, continuedev/continue#11711",
    model="kimi-k2.5",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "error": {
                        "message": "Not found the model <model> or Permission denied",
                        "type": "resource_not_found_error",
                    }
                },
            )
        ),
        Only(
            "temperature",
            1,
            Refusal(
                400,
                {
                    "error": {
                        "message": "invalid temperature: only 1 is allowed for this model",
                        "type": "invalid_request_error",
                    }
                },
            ),
        ),
        Carries(
            "reasoning_content",
            Refusal(
                400,
                {
                    "error": {
                        "message": "thinking is enabled but reasoning_content is missing in"
                        " assistant"
                        " tool call message at index <index>",
                        "type": "invalid_request_error",
                    }
                },
            ),
        ),
        UniqueIds(_openai("tool_call_id <id> is duplicated")),
        Pairs(_openai("tool_call_id <id> is not found")),
        SaysSomething(
            _openai("message at position <index> with role 'assistant' must not be empty")
        ),
    ),
    habits=Habits(ids="kimi", thoughts="reasoning_content", content="empty"),
)

MISTRAL = Personality(
    name="mistral",
    source="docs.mistral.ai; nearai/ironclaw#1241 (ids), avante-corp/avante.nvim#2695 (order)",
    model="mistral-medium-latest",
    rules=(
        KnownModels(_flat("Invalid model: <model>", kind="invalid_model", code="1500")),
        KnownMembers(
            message=frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "prefix"}),
            call=frozenset({"id", "type", "function", "index"}),
            function=frozenset({"name", "arguments"}),
            no=Refusal(
                422,
                {
                    "object": "error",
                    "message": {
                        "detail": [
                            {
                                "type": "extra_forbidden",
                                "loc": ["body", "messages", "<index>", "assistant", "<member>"],
                                "msg": "Extra inputs are not permitted",
                                "input": "…",
                            }
                        ]
                    },
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                    "raw_status_code": 422,
                },
            ),
        ),
        Ids(
            r"[a-zA-Z0-9]{9}",
            _flat(
                "Tool call id was <id> but must be a-z, A-Z, 0-9, with a length of 9.",
                kind="invalid_function_call",
                code="3280",
            ),
        ),
        UniqueIds(
            _flat("Duplicate tool call id in assistant message", kind="invalid_request_error")
        ),
        AfterTool(
            frozenset({"user", "system"}),
            _flat(
                "Unexpected role '<role>' after role 'tool'",
                kind="invalid_request_message_order",
                code="3230",
            ),
        ),
        Pairs(
            _flat(
                "Not the same number of function calls and responses",
                kind="invalid_request_message_order",
                code="3230",
            )
        ),
        SaysSomething(
            _flat(
                "Assistant message must have either content or tool_calls, but not none.",
                kind="invalid_request_error",
                code="3240",
            )
        ),
    ),
    habits=Habits(ids="nine", content="empty", stream="xai"),
)

GROQ = Personality(
    name="groq",
    source="console.groq.com/docs/errors; janhq/jan#8136 (members), gpt-researcher#985 (413)",
    model="llama-3.3-70b-versatile",
    rules=(
        KnownModels(
            _openai(
                "The model `<model>` does not exist or you do not have access to it.",
                code="model_not_found",
                status=404,
            )
        ),
        KnownMembers(
            message=frozenset({"role", "content", "tool_calls", "tool_call_id", "name"}),
            call=frozenset({"id", "type", "function"}),
            function=frozenset({"name", "arguments"}),
            no=Refusal(
                400,
                {
                    "error": {
                        "message": "'messages.<index>' : for 'role:assistant' the following must be"
                        " satisfied[('messages.<index>' : property '<member>' is unsupported)]",
                        "type": "invalid_request_error",
                    }
                },
            ),
        ),
        AtMost(
            ("max_tokens", "max_completion_tokens"),
            32_768,
            Refusal(
                400,
                {
                    "error": {
                        "message": "`max_tokens` must be less than or equal to `<limit>`, the"
                        " maximum"
                        " value for `max_tokens` is less than the `context_window` for this model",
                        "type": "invalid_request_error",
                        "param": "max_tokens",
                    }
                },
            ),
        ),
        Pairs(_openai("'messages.<index>' : tool call `<id>` has no result")),
    ),
    habits=Habits(
        usage="plain",
        around={"x_groq": {"id": "req_1"}, "usage_breakdown": None},
    ),
    listed={"context_window": 131_072, "max_completion_tokens": 32_768},
)

RAW = json.dumps(
    {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "messages.1.content.1: `tool_use` ids must be unique",
        },
    }
)

OPENROUTER = Personality(
    name="openrouter",
    source="openrouter.ai/docs: errors, reasoning; charmbracelet/crush#279 (metadata.raw)",
    model="vendor/thinker",
    rules=(
        KnownModels(
            Refusal(400, {"error": {"message": "<model> is not a valid model ID", "code": 400}})
        ),
        UniqueIds(
            Refusal(
                400,
                {
                    "error": {
                        "message": "Provider returned error",
                        "code": 400,
                        "metadata": {
                            "raw": RAW,
                            "provider_name": "Vendor",
                        },
                    }
                },
            )
        ),
        Pairs(Refusal(400, {"error": {"message": "Provider returned error", "code": 400}})),
    ),
    habits=Habits(
        thoughts="details",
        usage="details",
        stream="openrouter",
        choice={"native_finish_reason": "stop"},
        around={"provider": "Vendor"},
    ),
    listed={"context_length": 200_000},
)

TOGETHER = Personality(
    name="together",
    source="docs.together.ai/docs/error-codes; bytedance/UI-TARS-desktop#626 (422)",
    model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    rules=(
        KnownModels(
            _openai(
                "Unable to access model <model>. Please visit https://api.together.ai/models to"
                " view"
                " the list of supported models.",
                code="model_not_available",
                status=404,
            )
        ),
        Room(
            131_072,
            Refusal(
                422,
                {
                    "error": {
                        "message": "Input validation error: `inputs` tokens + `max_new_tokens`"
                        " must be"
                        " <= <context>. Given: <prompt> `inputs` tokens and <output>"
                        " `max_new_tokens`",
                        "type": "invalid_request_error",
                        "param": "max_tokens",
                        "code": None,
                    }
                },
            ),
        ),
    ),
    habits=Habits(whole="eos", content="empty"),
    listed={"context_length": 131_072},
)

VLLM = Personality(
    name="vllm",
    source="vllm-project/vllm#41114, nashsu/llm_wiki#45 (system messages)",
    model="Qwen/Qwen3.5-27B",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "error": {
                        "message": "The model `<model>` does not exist.",
                        "type": "NotFoundError",
                        "param": "model",
                        "code": 404,
                    }
                },
            )
        ),
        SystemFirst(VLLM_SYSTEM),
        ObjectArguments(_flat("Can only get item pairs from a mapping.")),
        Room(
            65_536,
            Refusal(
                400,
                {
                    "error": {
                        "message": "This model's maximum context length is <context> tokens."
                        " However,"
                        " you requested <asked> tokens (<prompt> in the messages, <output> in the"
                        " completion). Please reduce the length of the messages or completion.",
                        "type": "BadRequestError",
                        "param": None,
                        "code": 400,
                    }
                },
            ),
        ),
    ),
    habits=Habits(thoughts="reasoning", arguments="spaced", choice={"stop_reason": None}),
    listed={"max_model_len": 65_536},
)

SGLANG = Personality(
    name="sglang",
    source="QwenLM/Qwen3#1321 (context); docs.sglang.ai: OpenAI API",
    model="default",
    rules=(
        SystemFirst(_flat("System message must be at the beginning.")),
        Room(
            65_536,
            _flat(
                "Requested token count exceeds the model's maximum context length of <context>"
                " tokens."
                " You requested a total of <asked> tokens: <prompt> tokens from the input"
                " messages and"
                " <output> tokens for the completion."
            ),
        ),
    ),
    habits=Habits(thoughts="reasoning_content", choice={"matched_stop": 151645}),
)

LLAMA_CPP = Personality(
    name="llama-cpp",
    source="ggml-org/llama.cpp#15780 (context); SillyTavern/SillyTavern#5276 (template)",
    model="model.gguf",
    rules=(
        SystemFirst(
            _llama(
                "Unable to generate parser for this template. Automatic parser generation failed:"
                " \n------------\nWhile executing CallExpression at line 85, column 32 in source:\n"
                "Error: Jinja Exception: System message must be at the beginning."
            )
        ),
        SaysSomething(_llama("Assistant message must contain either 'content' or 'tool_calls'!")),
        Room(
            65_536,
            _llama(
                "the request exceeds the available context size, try increasing it",
                "exceed_context_size_error",
                n_prompt_tokens=20_000,
                n_ctx=65_536,
            ),
            counts_output=False,
        ),
    ),
    habits=Habits(
        ids="none",
        thoughts="reasoning_content",
        stream="llama",
        around={"timings": {"prompt_n": 1, "predicted_n": 1}},
    ),
)

OLLAMA = Personality(
    name="ollama",
    source="docs.ollama.com/openai; ollama issue threads on `does not support tools`",
    model="qwen3:8b",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "error": {
                        "message": "model '<model>' not found",
                        "type": "not_found_error",
                        "param": None,
                        "code": None,
                    }
                },
            )
        ),
        ObjectArguments(_openai("invalid tool call arguments", code=None)),
    ),
    habits=Habits(thoughts="reasoning", content="empty", stream="xai"),
)

OLLAMA_THINKING = Personality(
    name="ollama-thinking",
    source="templates that leave <think> in the text, and counts under Ollama's own names",
    model="deepseek-r1:8b",
    habits=Habits(thoughts="think", usage="ollama", content="empty"),
)

LM_STUDIO = Personality(
    name="lm-studio",
    source="lmstudio-ai/lmstudio-bug-tracker#546 (text), #2322 (status 200)",
    model="qwen/qwen3-8b",
    rules=(
        Only(
            "tool_choice",
            "auto",
            Refusal(400, {"error": "Invalid tool_choice type: 'object'."}),
        ),
        Room(
            65_536,
            Refusal(
                400,
                {
                    "error": "Trying to keep the first <prompt> tokens when context the overflows."
                    " However, the model is loaded with context length of only <context> tokens,"
                    " which"
                    " is not enough. Try to load the model with a larger context length, or"
                    " provide a"
                    " shorter input"
                },
            ),
            counts_output=False,
        ),
    ),
    habits=Habits(ids="nine", usage="plain", stream="crlf", around={"stats": {}}),
)

XAI = Personality(
    name="xai",
    source="docs.x.ai; yym68686/uni-api#105, cline/cline#2764 (arguments)",
    model="grok-4",
    rules=(
        KnownModels(
            Refusal(
                404,
                {
                    "code": "Some requested entity was not found",
                    "error": "The model <model> does not exist or your team does not have access"
                    " to it.",
                },
            )
        ),
        Forbids(
            "stream_options",
            Refusal(
                400,
                {
                    "code": "Client specified an invalid argument",
                    "error": "Argument not supported: stream_options",
                },
            ),
        ),
    ),
    habits=Habits(
        thoughts="reasoning_content", usage="thinking_apart", stream="xai", content="empty"
    ),
)

# --- kinds of service that nobody names, each for one oddity --------------------------------------

ODD = (
    Personality(
        name="same-ids",
        source="several relays give each call of a turn one id",
        rules=OPENAI_RULES,
        habits=Habits(ids="same"),
        models=("model-1",),
    ),
    Personality(
        name="ids-again",
        source="llama.cpp templates count calls from 0 in each turn",
        rules=OPENAI_RULES,
        habits=Habits(ids="again", usage="total_only"),
    ),
    Personality(
        name="long-ids",
        source="Gemini relays put the signature into the id",
        rules=OPENAI_RULES,
        habits=Habits(ids="long", usage="zeros"),
    ),
    Personality(
        name="prefixed-names",
        source="gpt-oss and Kimi templates: functions.NAME",
        rules=OPENAI_RULES,
        habits=Habits(prefix="functions.", usage="half"),
    ),
    Personality(
        name="object-arguments",
        source="Ollama's own shape through relays: arguments are no text",
        rules=OPENAI_RULES,
        habits=Habits(arguments="object", usage="anthropic", called="tool_use", whole="end_turn"),
    ),
    Personality(
        name="calls-in-text",
        source="Qwen and Hermes templates without a tool parser",
        habits=Habits(in_text=True, usage="missing", thoughts="think"),
    ),
    Personality(
        name="cerebras",
        source="Kilo-Org/kilocode#10375: it thinks aloud and refuses to hear it again",
        rules=(
            KnownMembers(
                message=frozenset({"role", "content", "tool_calls", "tool_call_id", "name"}),
                call=frozenset({"id", "type", "function"}),
                function=frozenset({"name", "arguments"}),
                no=Refusal(
                    400,
                    {
                        "message": "messages.<index>.assistant.<member>: property"
                        " 'messages.<index>.assistant.<member>' is unsupported",
                        "type": "invalid_request_error",
                        "param": "validation_error",
                        "code": "wrong_api_format",
                    },
                ),
            ),
        ),
        habits=Habits(thoughts="reasoning"),
    ),
    Personality(
        name="thinking-parts",
        source="docs.mistral.ai: reasoning, thinking chunks in the content",
        rules=OPENAI_RULES,
        habits=Habits(thoughts="chunks", content="parts", usage="strings"),
    ),
    Personality(
        name="default-api",
        source="Gemini's names for functions, through relays",
        rules=OPENAI_RULES,
        habits=Habits(prefix="default_api.", arguments="doubled"),
    ),
    Personality(
        name="channel-names",
        source="gpt-oss without a parser of its channels",
        rules=OPENAI_RULES,
        habits=Habits(suffix="<|channel|>commentary"),
    ),
    Personality(
        name="small",
        source="a local model whose context nobody raised",
        rules=(
            Room(
                8192,
                _flat(
                    "This model's maximum context length is <context> tokens. However, you"
                    " requested"
                    " <asked> tokens (<prompt> in the messages, <output> in the completion). Please"
                    " reduce the length of the messages or completion."
                ),
            ),
        ),
    ),
    Personality(
        name="parts",
        source="OpenAI's content parts; Mistral's thinking chunks",
        rules=OPENAI_RULES,
        habits=Habits(content="parts", usage="null"),
    ),
)

NAMED = (
    OPENAI,
    OPENAI_REASONING,
    AZURE,
    ANTHROPIC,
    GEMINI,
    GEMINI_SCHEMA,
    DEEPSEEK_CHAT,
    DEEPSEEK_REASONER,
    DEEPSEEK_V4,
    KIMI,
    MISTRAL,
    GROQ,
    OPENROUTER,
    TOGETHER,
    VLLM,
    SGLANG,
    LLAMA_CPP,
    OLLAMA,
    OLLAMA_THINKING,
    LM_STUDIO,
    XAI,
)
ALL = (*NAMED, *ODD)

NO_TOOLS = NoTools(
    Refusal(
        400,
        {
            "error": {
                "message": "registry.ollama.ai/library/small:1b does not support tools",
                "type": "api_error",
                "param": None,
                "code": None,
            }
        },
    )
)
