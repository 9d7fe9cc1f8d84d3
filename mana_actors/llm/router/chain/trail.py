"""The way of one request along its chain: who was passed by and why, and how it ended."""

from typing import Protocol

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.llm.router.aliases.registry import Target

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

    def called(self, target: Target | None) -> None:
        """`target` is called now; None = nobody is left."""
        untold, self._told = self._attempts[self._told :], len(self._attempts)
        for each in untold:
            self._observer.fell_back(each.target, target, each.reason)

    def ended(self, retry_after_s: float | None) -> ProviderError:
        """The error for a chain of which no entry served."""
        self.called(None)
        reasons = {each.reason for each in self._attempts}
        if reasons == {"exposure"}:
            return ProviderRefused("exposure", 403)
        if reasons - {"exposure", "unconfigured"} == {"capability"}:
            return ProviderRefused("capability", 400)
        return NoProviderLeft(self.attempts, retry_after_s)
