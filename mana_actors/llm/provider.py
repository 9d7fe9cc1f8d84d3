"""The interface behind which a model is called: any chat-completions service, or the LlmRouter."""

from math import ceil
from typing import Protocol

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest
from state.rules.exposure import Exposure

LEAST_OUTPUT = 1024
"""A model whose context leaves less than this for an answer that may be longer is no help."""


class AliasFacts(msgspec.Struct, frozen=True):
    """What a model or alias costs at most, over every entry of its chain that may serve.

    Prices are micro-units of the alias file's currency per token; `context_tokens` is the smallest
    context of the chain. `longest_prompt_bytes` (0 = unknown) is what the roomiest entry takes
    beside the least answer, `largest_context_tokens` that entry's context; `unpriced` are the
    entries without a price. Without `bytes_per_token` the deployment's setting holds.
    """

    bytes_per_token: float | None = None
    context_tokens: int = 200_000
    micros_per_prompt_token: float = 0.0
    micros_per_completion_token: float = 0.0
    largest_context_tokens: int = 0
    longest_prompt_bytes: int = 0
    unpriced: tuple[str, ...] = ()

    def tokens_of(self, prompt_bytes: int) -> int:
        """What a prompt of so many bytes needs of the roomiest entry's context."""
        room = max(1, self.largest_context_tokens - LEAST_OUTPUT)
        return LEAST_OUTPUT + ceil(prompt_bytes * room / max(1, self.longest_prompt_bytes))


class ModelProvider(Protocol):
    """Answers model requests."""

    async def complete(
        self, request: ModelRequest, *, deadline_s: float, exposure: Exposure = "any"
    ) -> ModelAnswer:
        """The whole answer to `request` within `deadline_s` seconds; raises ProviderError.

        No provider beyond `exposure` sees the request.
        """
        ...

    async def facts(self, model: str, exposure: Exposure = "any") -> AliasFacts:
        """What `model` costs at most; cached, and the defaults where nobody knows better."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; the provider is not used afterwards."""
        ...


def provider_label(resolved_model: str) -> str:
    """The provider part of `provider/model` as a metric label: a plain word, else "unknown"."""
    head, slash, _ = resolved_model.partition("/")
    is_word = head.replace("-", "").replace("_", "").isalnum() and head.isascii()
    return head.lower() if slash and is_word and len(head) <= 40 else "unknown"
