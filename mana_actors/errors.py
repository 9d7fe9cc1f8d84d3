"""Errors of the processes, split by one question: whether trying again would help.

ActorsError
├── TransientError            trying again may help
│   └── ProviderBusy          the model service was slow, full, broken or out of reach
└── TerminalError             trying again changes nothing
    ├── BudgetExhausted       the next model call does not fit the owner's cap
    ├── CatalogueInvalid      the tool file that was shipped is wrong
    └── ProviderRefused       the model service understood the request and said no

`ProviderError` is the common face of ProviderBusy and ProviderRefused.
"""

from typing import Literal

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
"""Kinds of tick §10.1, then four of our own: no answer in time, no connection, no sense in it,
and nobody who may see the prompt."""


class ActorsError(Exception):
    """Root of everything the processes raise on purpose."""


class TransientError(ActorsError):
    """It may pass: wait, then try again."""


class TerminalError(ActorsError):
    """It will not pass by itself: report it."""


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
    """A tool of the catalogue is not well formed; `field` says where."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"tool catalogue, {self.field}: {self.reason}"


class ProviderError(ActorsError):
    """A model call failed; carries kind, HTTP status (0 = none) and a short code, never any text.

    `retry_after_s` is what the provider asked for in seconds, or None; `provider` is the label of
    who failed, as far as known. Prompts, keys and bodies of answers are never part of it.
    """

    retryable = False

    def __init__(
        self,
        kind: ProviderErrorKind,
        status: int = 0,
        retry_after_s: float | None = None,
        code: str = "",
        provider: str = "unknown",
    ) -> None:
        super().__init__(kind, status, retry_after_s, code, provider)
        self.kind: ProviderErrorKind = kind
        self.status, self.retry_after_s = status, retry_after_s
        self.code, self.provider = code, provider

    def __str__(self) -> str:
        details = f"status={self.status} code={self.code or '-'} provider={self.provider}"
        return f"model call failed: {self.kind} {details}"


class ProviderBusy(ProviderError, TransientError):
    """The same request may succeed later."""

    retryable = True


class ProviderRefused(ProviderError, TerminalError):
    """The same request will fail again."""
