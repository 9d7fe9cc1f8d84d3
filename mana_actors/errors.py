"""Errors of planning; `state.errors` has their roots, split by whether trying again would help.

TransientError
└── ProviderBusy              the model service was slow, full, broken or out of reach
TerminalError
├── BudgetExhausted           the next model call does not fit the owner's cap
├── CatalogueInvalid          a tool is not well formed
└── ProviderRefused           the model service understood the request and said no

`ProviderError` is the common face of ProviderBusy and ProviderRefused.
"""

from typing import Literal

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.llm.failures.cause import Cause, Lack, cause_of_kind
from mana_actors.llm.failures.meaning import MEANINGS, Meaning
from mana_actors.llm.failures.wasted import Wasted
from state.errors import TerminalError, TransientError

ProviderErrorKind = Literal[
    "blocked",
    "truncated",
    "auth",
    "rate_limit",
    "capability",
    "no_healthy_provider",
    "unknown",
    "timeout",
    "network",
    "invalid_answer",
    "exposure",
]
"""What the model service may say, then four of our own: no answer in time, no connection, no sense
in the answer, and no provider that may see the prompt."""


class BudgetExhausted(TerminalError):
    """An agent asked to spend more tokens than its cap has left."""

    def __init__(self, agent: str, asked: int, left: int) -> None:
        super().__init__(agent, asked, left)
        self.agent, self.asked, self.left = agent, asked, left

    def __str__(self) -> str:
        return (
            f"budget of agent {self.agent} exhausted: asked {self.asked} tokens, {self.left} left"
        )


class CatalogueInvalid(TerminalError):
    """A tool is not well formed; `field` says where."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"tool catalogue, {self.field}: {self.reason}"


class ProviderError(Exception):
    """A model call failed; carries kind, HTTP status (0 = none) and a short code, never any text.

    `retry_after_s` is what the provider asked for in seconds, or None; `provider` is the label of
    who failed, as far as known. `cause` is why, by which its `meaning` is looked up; `lack` is what
    the entry said it cannot take. `usage` is what the failed attempt reported, None = nothing;
    `may_have_spent` says whether it may have spent tokens all the same. `wasted` is what all the
    attempts of a chain spent, where there was one. Prompts, keys and bodies of
    answers are never part of it.
    """

    retryable = False

    def __init__(
        self,
        kind: ProviderErrorKind,
        status: int = 0,
        retry_after_s: float | None = None,
        code: str = "",
        provider: str = "unknown",
        *,
        cause: Cause | None = None,
        lack: Lack | None = None,
        usage: TokenUsage | None = None,
        may_have_spent: bool | None = None,
    ) -> None:
        super().__init__(kind, status, retry_after_s, code, provider)
        self.kind: ProviderErrorKind = kind
        self.status, self.retry_after_s = status, retry_after_s
        self.code, self.provider = code, provider
        self.cause: Cause = cause or cause_of_kind(kind, status, code)
        self.lack, self.usage = lack, usage
        by_cause = self.meaning.may_have_spent
        self.may_have_spent = by_cause if may_have_spent is None else may_have_spent
        self.wasted = Wasted()

    @property
    def meaning(self) -> Meaning:
        """What follows from it."""
        return MEANINGS[self.cause]

    def __str__(self) -> str:
        details = f"status={self.status} code={self.code or '-'} provider={self.provider}"
        return f"model call failed: {self.kind} {details}"


class ProviderBusy(ProviderError, TransientError):
    """The same request may succeed later."""

    retryable = True


class ProviderRefused(ProviderError, TerminalError):
    """The same request will fail again."""
