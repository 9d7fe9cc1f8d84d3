"""The receipt of a run: which model answered each call, and how far the prompt travelled; pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest
from mana_actors.agent.planner.prompt_parts import KnownTexts, prompt_parts
from mana_actors.llm.provider import provider_label


class CallReceipt(msgspec.Struct, frozen=True):
    """One model call: who answered, and what was charged; a price that nobody knows is None.

    `cached_tokens` of its prompt came from the provider's cache; `carried_lost` turns did not bring
    the model what they carry, because another one had said them or it was too large to keep.
    `wasted_tokens` are charged, too: entries spent them that failed before it. `tools` are those
    offered ones that the answer called, each as often as it did; `refused` came back as failed.
    """

    provider: str
    model: str
    exposure: str
    tokens: int
    cost_micros: int | None = None
    cached_tokens: int = 0
    carried_lost: int = 0
    wasted_tokens: int = 0
    completion_tokens: int = 0
    took_ms: int = 0
    tools: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    parts: dict[str, int] = {}  # msgspec copies it
    inputs: tuple[int, ...] = ()


class Receipt:
    """Calls by a key that is the same for a journalled answer in every attempt of the run."""

    def __init__(self) -> None:
        self._known = KnownTexts()
        self._calls: dict[str, CallReceipt] = {}

    def begins(self, known: KnownTexts) -> None:
        """Its prompts begin with these texts."""
        self._known = known

    def answered(
        self,
        number: int,
        request: ModelRequest,
        answer: ModelAnswer,
        tokens: int,
        took_ms: int = 0,
    ) -> None:
        """Call `number` of the run was answered, now or, in no time, in an earlier attempt."""
        provider, _, model = answer.resolved_model.partition("/")
        named = (provider_label(answer.resolved_model), model) if model else ("unknown", provider)
        # Offered names only: one that a model made up may hold anything that it has read.
        offered = {str(tool["function"]["name"]) for tool in request.tools}
        told = answer.prompt_tokens if answer.usage_reported else 0
        parts = prompt_parts(request, self._known, told)
        self._calls[str(number)] = CallReceipt(
            *named,
            answer.exposure,
            tokens,
            answer.cost_micros,
            cached_tokens=answer.cached_tokens,
            carried_lost=answer.carried_lost,
            wasted_tokens=answer.wasted.tokens,
            completion_tokens=answer.completion_tokens if answer.usage_reported else 0,
            took_ms=took_ms,
            tools=tuple(call.name for call in answer.tool_calls if call.name in offered),
            parts=parts.tokens,
            inputs=parts.inputs,
        )

    def refused(self, names: Mapping[int, tuple[str, ...]]) -> None:
        """The tools of these calls' answers that came back as failed, by names of ours."""
        for number, of_call in names.items():
            if call := self._calls.get(str(number)):
                self._calls[str(number)] = msgspec.structs.replace(call, refused=of_call)

    def failed(self, number: int, attempt: int, provider: str, tokens: int) -> None:
        """Call `number` brought no answer in this attempt; `tokens` were charged all the same."""
        self._calls[f"{number}.{attempt}"] = CallReceipt(provider, "unknown", "", tokens)

    def of_call(self, number: int) -> str:
        """JSON text of one answered call, for `end_call`."""
        called = {str(number): self._calls[str(number)]}
        return msgspec.json.encode(called).decode()

    def as_json(self) -> str:
        """JSON text for `note_plan`."""
        return msgspec.json.encode(self._calls).decode()
