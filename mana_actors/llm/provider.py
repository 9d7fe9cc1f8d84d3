"""The interface behind which a model is called; the LlmRouter will stand behind it too."""

from typing import Protocol

from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest


class ModelProvider(Protocol):
    """Somebody who answers model requests."""

    async def complete(self, request: ModelRequest, *, deadline_s: float) -> ModelAnswer:
        """The whole answer to `request` within `deadline_s` seconds; raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; the provider is not used afterwards."""
        ...


def provider_label(resolved_model: str) -> str:
    """The provider part of `provider/model` as a metric label: a plain word, else "unknown"."""
    head, slash, _ = resolved_model.partition("/")
    is_word = head.replace("-", "").replace("_", "").isalnum() and head.isascii()
    return head.lower() if slash and is_word and len(head) <= 40 else "unknown"
