"""How an answer ended, in the words of those who give answers."""

from typing import Literal

from mana_actors.agent.planner.exchange import FinishReason

End = FinishReason | Literal["error"]

_ENDS: dict[End, tuple[str, ...]] = {
    "stop": (
        "stop",  # OpenAI and all who follow it
        "end_turn",  # Anthropic
        "stop_sequence",  # Anthropic
        "eos",  # Together
        "eos_token",  # TGI
        "end_of_turn",
        "complete",  # Cohere
        "completed",  # OpenAI's responses
        "done",  # Ollama
        "normal",
        "finished",
    ),
    "tool_calls": (
        "tool_calls",  # OpenAI
        "tool_call",  # Cohere, GitHub's
        "tool_use",  # Anthropic
        "function_call",  # OpenAI before tools
        "function_calls",
    ),
    "length": (
        "length",  # OpenAI
        "max_tokens",  # Anthropic; Gemini in capitals
        "max_output_tokens",
        "max_completion_tokens",
        "max_length",
        "max_new_tokens",
        "model_length",  # Mistral: the context is full
        "model_context_window_exceeded",  # Anthropic
        "context_length_exceeded",
        "insufficient_system_resource",  # DeepSeek: broken off
        "time_limit",
        "timeout",
        "abort",  # vLLM, SGLang: broken off
        "aborted",
        "cancelled",
        "user_cancelled",
        "pause_turn",  # Anthropic: to be continued
        "load",  # Ollama: only loaded
        "unload",
    ),
    "content_filter": (
        "content_filter",  # OpenAI, Azure
        "content_filtered",
        "safety",  # Gemini
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "image_safety",
        "language",
        "refusal",  # Anthropic
        "guardrail_intervened",  # Bedrock
        "model_armor",  # Vertex
        "sensitive",  # GLM
        "error_toxic",  # Cohere
    ),
    "error": (
        "error",  # OpenRouter, Mistral
        "failed",
        "malformed_function_call",  # Gemini
        "unexpected_tool_call",
        "too_many_tool_calls",
        "malformed_response",
        "malformed_model_output",  # Bedrock
        "malformed_tool_use",
        "network_error",  # GLM
        "internal_error",
        "error_limit",  # Cohere
    ),
}
_OF_WORD: dict[str, End] = {word: end for end, words in _ENDS.items() for word in words}


def end_of(word: object, native: object = None) -> End | None:
    """What a `finish_reason` means, None where there is none.

    A word that nobody publishes is no whole answer: `length`. `native` is the word of the model's
    own service, which a service in between may have softened to "stop".
    """
    inner = _of(native) if isinstance(native, str) else None
    if not isinstance(word, str) or word.lower() in ("", "null", "none"):
        return inner  # Alibaba's own interface says "null" until the end
    outer = _of(word) or "length"
    return inner if outer == "stop" and inner not in (None, "tool_calls") else outer


def _of(word: str) -> End | None:
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")
    return _OF_WORD.get(plain) or _OF_WORD.get(plain.removeprefix("finish_reason_"))
