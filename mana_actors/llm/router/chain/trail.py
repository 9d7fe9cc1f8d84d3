"""The way of one request along its chain: who was passed by and why, and how it ended."""

from operator import attrgetter
from typing import Protocol

import msgspec

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.router.aliases.registry import Price, Target

_NOT_ALLOWED = frozenset({"exposure", "unconfigured", "capability"})


class PassedBy(msgspec.Struct, frozen=True):
    """An entry that did not serve: `unconfigured`, `cache-unhealthy`, or an error's kind."""

    target: Target
    reason: str


class Observer(Protocol):
    """Is told what routing did, for metrics."""

    def resolved(self, alias: str, target: Target) -> None:
        """`target` served a request for `alias`."""
        ...

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None:
        """`to_target` was called because `from_target` did not serve; None = nobody was left."""
        ...

    def provider_healthy(self, provider: str, healthy: bool) -> None:
        """A provider's health changed."""
        ...


class NobodyObserves:
    """An Observer that does nothing."""

    def resolved(self, alias: str, target: Target) -> None: ...

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None: ...

    def provider_healthy(self, provider: str, healthy: bool) -> None: ...


class NoProviderLeft(ProviderBusy):
    """No entry of the chain could serve (`no_healthy_provider`, 503); `attempts` say why.

    `retry_after_s` is when the first of them may be called again, None = unknown.
    """

    def __init__(self, attempts: tuple[PassedBy, ...], retry_after_s: float | None = None) -> None:
        code = attempts[-1].reason.replace("-", "_") if attempts else ""
        super().__init__("no_healthy_provider", 503, retry_after_s, code)
        self.args = (attempts, retry_after_s)  # what pickle gives back to the constructor
        self.attempts = attempts


class Trail:
    """What happened so far; fallbacks are told once it is known who was really called next."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._attempts: list[PassedBy] = []
        self._told = 0
        self.wasted = Wasted()
        self._errors: list[ProviderError] = []

    @property
    def attempts(self) -> tuple[PassedBy, ...]:
        """Who did not serve, in order."""
        return tuple(self._attempts)

    @property
    def callable_later(self) -> list[Target]:
        """The entries that were passed by only for their present state, not for what they are."""
        return [each.target for each in self._attempts if each.reason not in _NOT_ALLOWED]

    def passed_by(self, target: Target, reason: str) -> None:
        """`target` did not serve."""
        self._attempts.append(PassedBy(target, reason))

    def failed(self, error: ProviderError, price: Price) -> None:
        """A call brought an error; what it spent for that is owed, at the entry's price."""
        usage = error.usage or TokenUsage()
        prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        if tokens := max(total, prompt + completion):
            self.wasted = self.wasted.plus(tokens, price.micros(prompt, completion, total))
        elif error.may_have_spent:
            self.wasted = self.wasted.plus(0, 0, unreported=1)
        self._errors.append(error)

    def called(self, target: Target | None) -> None:
        """`target` is called now; None = nobody is left."""
        untold, self._told = self._attempts[self._told :], len(self._attempts)
        for each in untold:
            self._observer.fell_back(each.target, target, each.reason)

    def ended(self, retry_after_s: float | None) -> ProviderError:
        """The error for a chain of which no entry served."""
        self.called(None)
        reasons = {each.reason for each in self._attempts}
        refusals = [error for error in self._errors if error.cause == "refused"]
        waited_for = reasons - _NOT_ALLOWED - {f"http_{error.status}" for error in refusals}
        if waited_for:
            return NoProviderLeft(self.attempts, retry_after_s)
        if refusals:  # asked again, they would say it again
            return refusals[-1]
        if reasons - {"exposure", "unconfigured"} == {"capability"}:
            lacks = [error.lack for error in self._errors if error.lack is not None]
            lack = max(lacks, key=attrgetter("limit"), default=None)  # of the roomiest
            is_long = lack is not None and lack.kind == "context"
            code = "context_length_exceeded" if is_long else ""
            return ProviderRefused("capability", 400, None, code, lack=lack)
        if reasons == {"exposure"}:
            return ProviderRefused("exposure", 403)
        return NoProviderLeft(self.attempts, retry_after_s)
