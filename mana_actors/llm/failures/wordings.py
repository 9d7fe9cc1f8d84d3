"""How services word their failures, as published by them or by people who met them.

Rows are tried in order; the first that fits says the cause. A number or a name in the words is kept
for whoever fits the request anew. Words change: a row that no longer fits costs a step along the
chain, never a wrong blame, since what is unknown is a refusal of that entry alone.
"""

import re

import msgspec

from mana_actors.llm.failures.bodies import Told
from mana_actors.llm.failures.cause import Cause, Lack, LackKind


class Wording(msgspec.Struct, frozen=True):
    """One way to say a cause: by one of `codes` (types count as such), by `words`, or by either.

    Groups of `words` named `limit`, `asked`, `name` and `instead` fill in what is lacking; `name`
    is for words that name no parameter but mean one.
    `statuses` are the HTTP statuses under which it counts, none = under each. `source` says whose
    wording it is, and where it is written down.
    """

    cause: Cause
    source: str
    codes: tuple[str, ...] = ()
    words: tuple[re.Pattern[str], ...] = ()
    lack: LackKind | None = None
    name: str = ""
    statuses: frozenset[int] = frozenset()


_NUMBER = r"(?P<{}>\d[\d,]{{0,11}})"
_NAME = r"['\"`]?(?P<name>[A-Za-z_][A-Za-z_.\[\]\d]{0,79})['\"`]?"


def _says(*patterns: str) -> tuple[re.Pattern[str], ...]:
    filled = (
        each.replace("<LIMIT>", _NUMBER.format("limit"))
        .replace("<ASKED>", _NUMBER.format("asked"))
        .replace("<NAME>", _NAME)
        .replace("not support", "(?:not|n['\u2019]t) support")
        for each in patterns
    )
    return tuple(re.compile(each, re.IGNORECASE | re.DOTALL) for each in filled)


WORDINGS: tuple[Wording, ...] = (
    # --- more than the account may send at once; before rate limits, whose codes it bears ---------
    Wording(
        "too_large",
        "Groq 413 and OpenAI 429, 'tokens per minute', in many reports",
        words=_says(
            r"request too large.{0,300}?limit:? <LIMIT>, requested:? <ASKED>",
            r"request too large",
        ),
    ),
    Wording(
        "too_large",
        "Kimi error reference, 'total message size'; nginx and gateways, 413",
        words=_says(
            r"total message size \d+ exceeds limit",
            r"(?:request entity|payload|content|request body) (?:is )?too large",
        ),
    ),
    # --- the output limit alone -------------------------------------------------------------------
    Wording(
        "capability",
        "OpenAI: this model supports at most N completion tokens",
        words=_says(r"supports at most <LIMIT> completion tokens.{0,40}?(?:provided <ASKED>)?"),
        lack="output_limit",
    ),
    Wording(
        "capability",
        "Groq: max_tokens must be less than or equal to N",
        words=_says(r"max_(?:completion_)?tokens\W? must be less than or equal to \W?<LIMIT>"),
        lack="output_limit",
    ),
    Wording(
        "capability",
        "DeepSeek: the valid range of max_tokens is [1, N]; Alibaba: range of max_tokens should be",
        words=_says(r"(?:valid )?range of max_tokens (?:is|should be) \[\d+, ?<LIMIT>\]"),
        lack="output_limit",
    ),
    Wording(
        "capability",
        "Bedrock: the maximum tokens you requested exceeds the model limit",
        words=_says(r"maximum tokens you requested exceeds the model limit of <LIMIT>"),
        lack="output_limit",
    ),
    Wording(
        "capability",
        "Anthropic: N, which is the maximum allowed number of output tokens",
        words=_says(r"max_tokens: <ASKED> > <LIMIT>, which is the maximum allowed number"),
        lack="output_limit",
    ),
    # --- more than fits into the context ----------------------------------------------------------
    Wording(
        "too_long",
        "OpenAI, vLLM, DeepSeek, OpenRouter: maximum context length",
        words=_says(
            r"maximum context length (?:is|of) <LIMIT>(?: tokens)?.{0,60}?"
            r"(?:requested|resulted in|has|contains)(?: a total of| about| at least)? <ASKED>",
            r"maximum context length (?:is|of) <LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "SGLang: the input is longer than the model's context length",
        words=_says(
            r"input \(<ASKED> tokens\) is longer than the model.s context length \(<LIMIT>"
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "llama.cpp server, exceed_context_size_error (its pull request 15780)",
        codes=("exceed_context_size_error",),
        words=_says(
            r"request \(<ASKED> tokens\) exceeds the available context size \(<LIMIT>",
            r"exceeds the available context size",
            r"requested tokens \(<ASKED>\) exceed context window of <LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "Anthropic: prompt is too long; exceed context limit",
        words=_says(
            r"prompt is too long: <ASKED> tokens > <LIMIT> maximum",
            r"exceed context limit: <ASKED> \+ [\d,]+ > <LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "Gemini: input token count exceeds the maximum",
        words=_says(
            r"token count \(<ASKED>\) exceeds the maximum number of tokens allowed \(?<LIMIT>",
            r"exceeds the maximum number of tokens allowed \(?<LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "Mistral: prompt contains N tokens, too large for model",
        words=_says(
            r"contains <ASKED> tokens.{0,80}?too large for model with <LIMIT> maximum context",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "Kimi error list: model token limit; input token length too long",
        words=_says(r"exceeded model token limit ?:? ?<LIMIT>", r"input token length too long"),
        lack="context",
    ),
    Wording(
        "too_long",
        "xAI: maximum prompt length",
        words=_says(r"maximum prompt length is <LIMIT> but the request contains <ASKED>"),
        lack="context",
    ),
    Wording(
        "too_long",
        "Together and TGI: inputs and max_new_tokens must be <= N",
        words=_says(
            r"max_new_tokens[`'\"]? must be <= <LIMIT>.{0,40}?given: <ASKED>",
            r"max_new_tokens[`'\"]? must be <= <LIMIT>",
            r"inputs[`'\"]? must have less than <LIMIT> tokens(?:\. given: <ASKED>)?",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "LM Studio: model is loaded with context length of only N; n_keep >= n_ctx",
        words=_says(
            r"keep the first <ASKED> tokens.{0,120}?context length of only <LIMIT>",
            r"n_keep: ?<ASKED> ?>= ?n_ctx: ?<LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "oMLX and others: tokens exceeds max context window",
        words=_says(r"<ASKED> tokens exceeds? (?:the )?(?:max|maximum) context window of <LIMIT>"),
        lack="context",
    ),
    Wording(
        "too_long",
        "Cohere, Copilot, Fireworks, Cerebras: both numbers in words of their own",
        words=_says(
            r"tokens in the prompt cannot exceed <LIMIT> - received <ASKED>",
            r"prompt token count of <ASKED> exceeds the limit of <LIMIT>",
            r"prompt is too long: <ASKED>, model maximum context length: <LIMIT>",
            r"current length is <ASKED> while limit is <LIMIT>",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "OpenAI's configured limit, SambaNova, Alibaba's error list, GLM 1261",
        words=_says(
            r"the configured limit of <LIMIT> tokens.{0,40}?resulted in <ASKED>",
            r"input length <ASKED> exceeds (?:the )?maximum (?:allowed )?length of <LIMIT>",
            r"range of input length should be \[\d+, ?<LIMIT>\]",
            r"prompt (?:exceeds max length|超长)",
        ),
        lack="context",
    ),
    Wording(
        "too_long",
        "OpenAI and Groq by code; vLLM, Ollama and the rest by the sense of the words",
        codes=(
            "context_length_exceeded",
            "context_length_exceeded_error",
            "string_above_max_length",
            "model_max_prompt_tokens_exceeded",  # Copilot
            "tokens_too_long",  # Baidu
            "characters_too_long",
        ),
        words=_says(
            r"(?:exceed\w{0,10}+|longer than|larger than|greater than|beyond|over) .{0,60}?"
            r"context[ _](?:length|window|size|limit)",
            r"context[ _](?:length|window|size|limit).{0,40}?(?:exceed|overflow|too small)",
            r"(?:prompt|input|messages?|request|conversation) (?:is|are|was) too long",
            r"reduce the length of (?:the |your )?(?:messages?|prompt|inputs?)",
            r"max_tokens must be at least 1, got -\d",
        ),
        lack="context",
    ),
    # --- names of the token limit, parameters -----------------------------------------------------
    Wording(
        "capability",
        "OpenAI and Azure, reasoning models: use max_completion_tokens instead of max_tokens",
        words=_says(
            r"['\"`]?(?P<name>max_(?:completion_|output_)?tokens)['\"`]? "
            r"(?:is|are) (?:not supported|deprecated).{0,60}?"
            r"use ['\"`]?(?P<instead>max_(?:completion_|output_)?tokens)",
        ),
        lack="token_limit_name",
    ),
    Wording(
        "capability",
        "Gemini: unknown name inside of the schema of a function or of the answer",
        words=_says(
            r"unknown name \\?\"(?P<name>[$\w]{1,60})\\?\" at '[^']{0,200}?"
            r"(?:parameters|schema|items|properties)[^']{0,200}'",
        ),
        lack="schema",
    ),
    Wording(
        "capability",
        "OpenAI, vLLM, llama.cpp and xgrammar, Groq, Anthropic: schemas they do not take",
        codes=("invalid_function_parameters", "invalid_json_schema"),
        words=_says(
            r"invalid (?:json )?schema for (?:function|tool|response_format)"
            r".{0,300}?['\"`](?P<name>additionalProperties|\$?[a-z][A-Za-z]{2,30})['\"`] "
            r"is (?:not permitted|not supported|required)",
            r"invalid (?:json )?schema for (?:function|tool|response_format)",
            r"(?:json )?schema (?:conversion failed|contains features not supported|is invalid)",
            r"failed to (?:parse|initialize|build|compile) (?:the )?(?:grammar|samplers)",
            r"(?:unsupported|unrecognized|unknown) (?:json )?schema",
        ),
        lack="schema",
    ),
    Wording(
        "capability",
        "Mistral error 3280; OpenAI, ids of at most 40 characters; Anthropic, pattern of an id",
        words=_says(
            r"tool call id was .{0,200}? but must be",
            r"tool_calls\[\d+\]\.id['\"`]?: string too long",
            r"tool_use(?:_id|\.id): string should match pattern",
        ),
        lack="call_ids",
    ),
    Wording(
        "capability",
        "DeepSeek and Kimi in their thinking modes: reasoning on each turn that calls a tool",
        words=_says(
            r"missing [`'\"]?(?P<name>reasoning(?:_content)?)[`'\"]? field",
            r"(?P<name>reasoning(?:_content)?)[`'\"]? (?:in the thinking mode )?must be passed",
            r"(?P<name>reasoning(?:_content)?) is missing in",
            r"must include [`'\"]?(?P<name>reasoning(?:_content)?)\b",
        ),
        lack="reasoning",
    ),
    Wording(
        "capability",
        "OpenAI: unsupported parameter or value, unrecognized argument",
        words=_says(
            r"unsupported (?:parameter|value)s?:? <NAME>",
            r"(?:unrecognized|unknown|unexpected|invalid) (?:request )?"
            r"(?:argument|parameter|field|keyword argument)s?(?: supplied)?:? "
            r"(?:parameter )?<NAME>",
            r"unknown name \\?\"(?P<name>[$\w]{1,60})\\?\"",
            r"got an unexpected keyword argument <NAME>",
        ),
        lack="parameter",
    ),
    Wording(
        "capability",
        "Groq: property 'reasoning_content' is unsupported",
        words=_says(r"property <NAME> is (?:unsupported|not supported)"),
        lack="parameter",
    ),
    Wording(
        "capability",
        "xAI and others: argument not supported on this model; does not support parameter",
        words=_says(
            r"arguments? not supported(?: (?:on|by|with|for) this model)?:? <NAME>",
            r"not support (?:the )?parameters?:? \[?<NAME>",
            r"not support (?:this |the )?"
            r"['\"`]?(?P<name>tool_choice|parallel_tool_calls|stream_options|response_format"
            r"|temperature|top_p|stop|seed|n|logprobs|reasoning_effort|frequency_penalty"
            r"|presence_penalty)\b",
            r"['\"`]?\b(?P<name>tool_choice|parallel_tool_calls|stream_options|response_format"
            r"|temperature|top_p|stop|seed|logprobs|reasoning_effort|frequency_penalty"
            r"|presence_penalty|max_completion_tokens|max_output_tokens|max_tokens)\b['\"`]?"
            r"(?: parameter)? (?:is|are) "
            r"(?:not (?:supported|allowed|permitted)|unsupported|deprecated)",
            r"(?P<name>[a-z_]{2,40}): extra inputs are not permitted",
        ),
        lack="parameter",
    ),
    Wording(
        "capability",
        "Kimi: invalid temperature: only 1 is allowed for this model",
        words=_says(r"invalid <NAME>: only .{1,20}? (?:is|are) allowed"),
        lack="parameter",
    ),
    Wording(
        "capability",
        "OpenAI by code; FastAPI services (vLLM, Mistral, SGLang) by the type of the problem",
        codes=(
            "unsupported_parameter",
            "unsupported_value",
            "unknown_parameter",
            "extra_forbidden",
        ),
        words=_says(
            r"extra inputs are not permitted, field: <NAME>", r"extra inputs are not permitted"
        ),
        lack="parameter",
    ),
    Wording(
        "capability",
        "Kimi, OpenAI's reasoning models: a temperature of 1 only; Anthropic: not both of two",
        words=_says(
            r"['\"`]?\b(?P<name>temperature|top_p)['\"`]? (?:may|must|can|should) (?:only )?be",
            r"and ['\"`]?(?P<name>top_p)['\"`]? cannot both be specified",
        ),
        lack="parameter",
    ),
    Wording(
        "capability",
        "Azure and xAI: no parallel calls of tools, which is not to say no tools",
        words=_says(r"not support (?:\w+ ){0,2}?parallel[ _-](?:tool|function)"),
        lack="parameter",
        name="parallel_tool_calls",
    ),
    Wording(
        "capability",
        "Groq and others: no JSON mode",
        words=_says(r"json mode (?:is )?not", r"not support (?:\w+ ){0,2}?json (?:mode|output)"),
        lack="parameter",
        name="response_format",
    ),
    # --- tools, images, system messages -----------------------------------------------------------
    Wording(
        "capability",
        "Ollama, OpenRouter, vLLM, llama.cpp, DeepSeek, Gemini, Groq, Bedrock: no tools",
        words=_says(
            r"not support (?:\w+ ){0,2}?(?:tools?\b|tool[ _-](?:use|call)|functions?\b)",
            r"no endpoints found that support tool",
            r"requires --(?:enable-auto-tool-choice|tool-call-parser)",
            r"tools param requires --jinja",
            r"(?:tools?|functions?)[ _-]?(?:use|calls?|calling)?[`'\"]? (?:is|are) not "
            r"(?:supported|enabled|available)",
        ),
        lack="tools",
    ),
    Wording(
        "capability",
        "OpenRouter, vLLM, DeepSeek, Ollama, Groq, Mistral, Bedrock: no images",
        words=_says(
            r"not support (?:\w+ ){0,2}?(?:images?|vision|multimodal|image_url)",
            r"no endpoints found that support image",
            r"at most 0 images?",
            r"image (?:content|inputs?) (?:is|are) not (?:supported|enabled)",
            r"not support the image content",
            r"unknown variant `?image_url",
            r"(?:is )?not a (?:vision|multimodal) model",
        ),
        lack="images",
    ),
    Wording(
        "capability",
        "templates of vLLM, llama.cpp, SGLang; Mistral, Bedrock, Gemma: where they may stand",
        words=_says(
            r"system messages? (?:must|should|can only|may only|has to) (?:be|come|appear|stand)"
            r".{0,30}?(?:beginning|first|start)",
            r"conversation roles must alternate",
            r"unexpected role ['\"`]?system",
            r"(?:only|at most) (?:supports? )?(?:one|1|a single) system message",
            r"multiple system messages",
            r"system role (?:is )?not supported",
            r"not support system messages",
            r"(?:system|developer) instruction is not (?:supported|enabled)",
            r"role ['\"`]?system['\"`]? (?:is )?(?:not supported|not allowed|must be)",
            r"expected last role user or tool.{0,80}?but got system",
        ),
        lack="system_first",
    ),
    Wording(
        "capability",
        "OpenRouter 404: no endpoints that can handle the requested parameters",
        words=_says(r"no endpoints found that (?:can handle|support)"),
    ),
    # --- a content policy: the same words are refused everywhere ----------------------------------
    Wording(
        "blocked",
        "OpenAI, Azure, Kimi, Alibaba: content filters by code",
        codes=(
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "invalid_prompt",
            "data_inspection_failed",
            "datainspectionfailed",
            "moderation_blocked",
            "prohibited_content",
        ),
        words=_says(
            r"content management policy",
            r"(?:flagged|violat\w{1,10}+).{0,80}?(?:polic(?:y|ies)|guidelines|moderation|terms of)",
            r"blocked by (?:our |the )?(?:content|safety|moderation)",
            r"input was flagged",
            r"rejected because it was considered high risk",
            r"content exists risk",
            r"may contain inappropriate content",
            r"\bprohibited_content\b",
            r"unsafe or sensitive content|不安全或敏感内容",  # GLM 1301
            r"\bnew_sensitive\b",  # MiniMax 1026 and 1027
            r"nsfw content",
        ),
        statuses=frozenset({200, 400, 403, 422, 451}),
    ),
    # --- money, keys ------------------------------------------------------------------------------
    Wording(
        "quota",
        "Gemini: a spending cap, under the code of its rate limits",
        words=_says(r"exceeded its (?:monthly )?spending cap"),
    ),
    Wording(
        "rate_limit",
        "Gemini: RESOURCE_EXHAUSTED, whose words speak of billing also for a limit per minute",
        codes=("resource_exhausted",),
    ),
    Wording(
        "quota",
        "OpenAI, Anthropic, OpenRouter, DeepSeek, Kimi, GLM, xAI, Hugging Face: no money left",
        codes=(
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
            "exceeded_current_quota_error",
            "insufficient_balance",
            "payment_required",
            "billing_error",
            "arrearage",
        ),
        words=_says(
            r"insufficient (?:account )?(?:balance|credits?|quota|funds)",
            r"exceeded your current quota",
            r"credit balance is too low",
            r"requires more credits",
            r"(?:payment required|key limit exceeded|spending limit)",
            r"exceeded your monthly included credits",
            r"usage limit for this billing cycle",
            r"monthly usage limit",
            r"(?:n['\u2019]t|not) have any credits",
            r"余额不足|账户已欠费",  # GLM 1113
        ),
    ),
    Wording(
        "auth",
        "OpenAI, Anthropic, Gemini (under a 400), Kimi: a key that is not accepted",
        codes=(
            "invalid_api_key",
            "invalid_authentication_error",
            "incorrect_api_key_error",
            "authentication_error",
            "api_key_invalid",
            "unauthenticated",
        ),
        words=_says(
            r"(?:invalid|incorrect|wrong|missing|no) (?:x-)?api[ -]key",
            r"api key (?:not valid|is invalid|expired|not found)",
            r"no auth credentials found",
        ),
    ),
    # --- models -----------------------------------------------------------------------------------
    Wording(
        "missing_model",
        "OpenAI, Azure, Groq, Mistral, Anthropic, Ollama, OpenRouter, Together, AWS: no such model",
        codes=(
            "model_not_found",
            "model_not_available",
            "deploymentnotfound",
            "model_decommissioned",
            "invalid_model",
            "unknown_model",
            "modelnotfound",
        ),
        words=_says(
            r"model [`'\"]?[^\s`'\"]{1,120}[`'\"]? (?:does not exist|not found|not exist"
            r"|is not available|is not loaded"
            r"|has been (?:decommissioned|deprecated|removed|retired))",
            r"the model [^\n]{0,120}? does not exist",
            r"(?:no such|unknown|invalid) model(?: id| name)?(?::| ['\"`])",
            r"is not a valid model",
            r"\bmodel not exist",
            r"model identifier is invalid",
            r"n['\u2019]t have access to the model",
            r"deployment for this resource does not exist",
            r"try pulling it first",
            r"unable to access (?:non-serverless )?model",
            r"no models? (?:is |are )?(?:currently )?loaded",
            r"no endpoints found for",
        ),
        statuses=frozenset({200, 400, 403, 404, 410, 422, 500}),
    ),
    # --- too much at once -------------------------------------------------------------------------
    Wording(
        "overloaded",
        "Anthropic 529, Kimi, Gemini 503, llama.cpp 503 while it loads",
        codes=("overloaded_error", "engine_overloaded_error", "engine_overloaded", "over_capacity"),
        words=_says(
            r"\boverloaded\b",
            r"(?:at|over|no available|exceeded) capacity|capacity exceeded",
            r"loading model|model is (?:currently |still )?loading",
            r"experiencing high (?:demand|load|traffic)",
        ),
    ),
    Wording(
        "rate_limit",
        "OpenAI, Groq, Anthropic, Mistral, Kimi: too many requests",
        codes=(
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limit_reached_error",
            "rate_limited",
            "too_many_requests",
            "throttling",
        ),
        words=_says(r"rate limit", r"too many requests"),
        statuses=frozenset({200, 400, 403, 429, 498, 503}),
    ),
    # --- what the model did, or we ----------------------------------------------------------------
    Wording(
        "failed_answer",
        "Groq: a tool call or JSON of the model's that does not fit; it was generated all the same",
        codes=("tool_use_failed", "json_validate_failed"),
        words=_says(r"failed to call a function", r"failed to generate json"),
    ),
    Wording(
        "malformed",
        "OpenAI, FastAPI: what arrived is no JSON",
        codes=("json_invalid", "invalid_json"),
        words=_says(
            r"could not parse the json body",
            r"(?:request )?body (?:is|was) not valid json",
            r"invalid json (?:in )?(?:request )?body",
        ),
        statuses=frozenset({400, 422}),
    ),
)

_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
_ESSENTIAL = frozenset({"messages", "model", "content", "role", "input", "stream"})
_OF_THE_ACCOUNT = frozenset({401, 402})  # they speak of it whatever their words are


def reading_of(told: Told, status: int) -> tuple[Cause, Lack | None] | None:
    """What a failure of HTTP status `status` says in words or codes, None where none is known."""
    if status in _OF_THE_ACCOUNT:
        return None
    for row in WORDINGS:
        if row.statuses and status not in row.statuses:
            continue
        found = next(filter(None, (each.search(told.words) for each in row.words)), None)
        if found is not None or not told.codes.isdisjoint(row.codes):
            return row.cause, _lack(row, told, found)
    return None


def _lack(row: Wording, told: Told, found: re.Match[str] | None) -> Lack | None:
    if row.lack is None:
        return None
    groups = {} if found is None else found.groupdict()
    name = (groups.get("name") or row.name or told.param).rstrip(".").rpartition(".")[2]
    name = name if re.fullmatch(r"\$?[A-Za-z_]{1,60}", name) else ""
    instead, kind = groups.get("instead") or "", row.lack
    if kind == "parameter" and name in _ESSENTIAL:
        return None  # it cannot be left out: something about it is wrong
    if kind == "parameter" and name in ("tools", "functions"):
        kind = "tools"
    if kind == "parameter" and name in _TOKEN_LIMITS:
        kind, instead = "token_limit_name", next(each for each in _TOKEN_LIMITS if each != name)
    return Lack(
        kind,
        name=name if kind in ("parameter", "token_limit_name", "schema", "reasoning") else "",
        instead=instead,
        limit=_tokens(groups.get("limit")) or (told.limit if kind == "context" else 0),
        asked=_tokens(groups.get("asked")) or (told.asked if kind == "context" else 0),
    )


def _tokens(text: str | None) -> int:
    return int(text.replace(",", "")) if text else 0
