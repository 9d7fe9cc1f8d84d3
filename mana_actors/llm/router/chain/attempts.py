"""The way of one request along its chain: who was passed by and why, and how it ended."""

from collections.abc import Iterable
from typing import Protocol

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.llm.router.contract import Attempt, Target


class Observer(Protocol):
    """Who wants to know, for metrics."""

    def resolved(self, alias: str, target: Target) -> None:
        """`target` served a request for `alias`."""
        ...

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None:
        """`to_target` was called because `from_target` did not serve; None = nobody was left."""
        ...

    def provider_healthy(self, provider: str, healthy: bool) -> None:
        """A provider turned."""
        ...


class NobodyObserves:
    """An Observer that looks away."""

    def resolved(self, alias: str, target: Target) -> None: ...

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None: ...

    def provider_healthy(self, provider: str, healthy: bool) -> None: ...


class NoProviderLeft(ProviderBusy):
    """No entry of the chain could serve (`no_healthy_provider`, 503); `attempts` say why.

    `retry_after_s` is when the first of them may be called again, None = unknown.
    """

    def __init__(self, attempts: tuple[Attempt, ...], retry_after_s: float | None = None) -> None:
        code = attempts[-1].reason.replace("-", "_") if attempts else ""
        super().__init__("no_healthy_provider", 503, retry_after_s, code)
        self.args = (attempts, retry_after_s)  # what pickle gives back to the constructor
        self.attempts = attempts


class Trail:
    """What happened so far; fallbacks are told once it is known who was really called next."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._attempts: list[Attempt] = []
        self._told = 0

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Who did not serve, in order."""
        return tuple(self._attempts)

    def passed_by(self, target: Target, reason: str) -> None:
        """`target` did not serve."""
        self._attempts.append(Attempt(target, reason))

    def called(self, target: Target | None) -> None:
        """`target` is called now; None = nobody is left."""
        untold, self._told = self._attempts[self._told :], len(self._attempts)
        for attempt in untold:
            self._observer.fell_back(attempt.target, target, attempt.reason)

    def ended(self, retry_after_s: float | None) -> ProviderError:
        """The error for a chain that nobody of served."""
        self.called(None)
        reasons = {attempt.reason for attempt in self._attempts}
        if _are_only(reasons, "exposure"):
            return ProviderRefused("exposure", 403)
        if _are_only(reasons - {"exposure", "unconfigured"}, "capability"):
            return ProviderRefused("capability", 400)
        return NoProviderLeft(self.attempts, retry_after_s)


def _are_only(reasons: Iterable[str], reason: str) -> bool:
    return set(reasons) == {reason}
