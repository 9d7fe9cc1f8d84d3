"""Who is worth calling: a circuit breaker for each provider and each of its models."""

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Literal

import msgspec

from mana_actors.llm.router.aliases.registry import Target

THRESHOLD = 2
BACKOFF_S = 60.0
MOST_MODELS = 1000
"""How many models' trouble is remembered. Callers choose the names, so there has to be a limit."""

_log = logging.getLogger(__name__)

Listener = Callable[[str, bool], None]
Scope = Literal["provider", "model", "only-model"]


class ProviderTrouble(msgspec.Struct, frozen=True):
    """What a failed call says about a provider or a model.

    `provider`: it was not reached, or does not let us in. `model`: this model failed; when others
    of the provider do too, it is the provider. `only-model`: the provider is well. `at_once` needs
    no second failure; `wait_s` replaces the usual back-off.
    """

    reason: str
    scope: Scope = "provider"
    at_once: bool = False
    wait_s: float | None = None


class ModelHealth(msgspec.Struct, frozen=True):
    """A circuit as people see it; instants are unix seconds, None = never."""

    status: Literal["healthy", "unhealthy"]
    consecutive_failures: int
    last_error: str | None
    last_check_unix: float | None
    unhealthy_until_unix: float | None


class ProviderHealth(ModelHealth, frozen=True):
    """A provider as people see it, and those of its models that had trouble."""

    models: Mapping[str, ModelHealth] = {}


class Admission(msgspec.Struct, frozen=True):
    """Permission to call a target; `ticket` marks the half-open circuits that this call tests."""

    target: Target
    ticket: int


class _Circuit(msgspec.Struct):
    healthy: bool = True
    failures: int = 0
    last_error: str | None = None
    last_check: float = 0.0
    until: float = 0.0
    suspects: frozenset[str] = frozenset()  # models that failed since the last success
    ticket: int = 0  # of the call that tries the half-open circuit out

    def is_closed_off(self, now: float) -> bool:
        """Whether the back-off still lasts; a clock that is set back ends it."""
        return self.last_check <= now < self.until

    def admits(self, now: float) -> bool:
        return self.healthy or not (self.is_closed_off(now) or self.ticket)

    def succeed(self, now: float) -> None:
        self.healthy, self.failures, self.last_error = True, 0, None
        self.last_check, self.until, self.suspects = now, 0.0, frozenset()

    def fail(self, reason: str, now: float, wait_s: float, *, trips: bool) -> None:
        self.failures += 1
        if trips or not self.healthy:
            left = self.until if self.is_closed_off(now) else 0.0
            self.healthy, self.until = False, max(left, now + wait_s)
        self.last_error, self.last_check = reason, now


class Circuits:
    """The circuits of all providers and models.

    `threshold` failures in a row open a circuit for `backoff_s` seconds; then one call at a time
    tries it out. What probes and what calls find is kept apart: a provider that answers a probe
    but fails its calls stays closed off. `listener` hears when a provider's health changes; what it
    raises is logged. `now` is in unix seconds.
    """

    def __init__(
        self,
        threshold: int = THRESHOLD,
        backoff_s: float = BACKOFF_S,
        listener: Listener | None = None,
    ) -> None:
        if threshold < 1:
            raise ValueError("threshold: needs to be at least 1")
        if backoff_s < 0:
            raise ValueError("backoff_s: needs to be at least 0")
        self._threshold, self._backoff_s, self._listener = threshold, backoff_s, listener
        self._calls: dict[str, _Circuit] = {}
        self._probes: dict[str, _Circuit] = {}
        self._models: dict[Target, _Circuit] = {}
        self._tickets = count(1)

    def is_available(self, target: Target, now: float) -> bool:
        """Whether `admit` would let a call through."""
        return all(circuit.admits(now) for circuit in self._around(target))

    def admit(self, target: Target, now: float) -> Admission | None:
        """Permission to call `target`, until `release`; a half-open circuit admits one call."""
        if not self.is_available(target, now):
            return None
        ticket = next(self._tickets)
        for circuit in self._around(target):
            circuit.ticket = circuit.ticket if circuit.healthy else ticket
        return Admission(target, ticket)

    def release(self, admission: Admission) -> None:
        """The call is over, with whatever result."""
        for circuit in self._around(admission.target):
            if circuit.ticket == admission.ticket:
                circuit.ticket = 0

    def succeeded(self, target: Target, now: float) -> None:
        """A call was answered: provider and model are well."""
        was_well = self._is_well(target.provider)
        self._models.pop(target, None)
        self._calls.setdefault(target.provider, _Circuit())
        for circuit in self._of(target.provider):
            circuit.succeed(now)
        self._announce(target.provider, was_well=was_well)

    def failed(self, target: Target, trouble: ProviderTrouble, now: float) -> None:
        """A call failed."""
        was_well = self._is_well(target.provider)
        wait_s = self._backoff_s if trouble.wait_s is None else trouble.wait_s
        if trouble.scope != "provider":
            while target not in self._models and len(self._models) >= MOST_MODELS:
                self._models.pop(next(iter(self._models)))
            circuit = self._models.setdefault(target, _Circuit())
            trips = trouble.at_once or circuit.failures + 1 >= self._threshold
            circuit.fail(trouble.reason, now, wait_s, trips=trips)
        if trouble.scope != "only-model":
            circuit = self._calls.setdefault(target.provider, _Circuit())
            circuit.suspects |= {target.model}
            is_its_own = trouble.scope == "provider"
            is_enough = circuit.failures + 1 >= self._threshold or (trouble.at_once and is_its_own)
            # One model that fails again and again says nothing about the others of its provider.
            trips = is_enough and (is_its_own or len(circuit.suspects) > 1)
            circuit.fail(trouble.reason, now, wait_s, trips=trips)
        self._announce(target.provider, was_well=was_well)

    def probed(self, provider: str, problem: str | None, now: float) -> None:
        """A probe found `problem`, or None; it says nothing about calls."""
        was_well = self._is_well(provider)
        circuit = self._probes.setdefault(provider, _Circuit())
        if problem is None:
            circuit.succeed(now)
        else:
            trips = circuit.failures + 1 >= self._threshold
            circuit.fail(problem, now, self._backoff_s, trips=trips)
        self._announce(provider, was_well=was_well)

    def wait_s(self, targets: Iterable[Target], now: float) -> float | None:
        """Seconds until the first of `targets` may be called; None if one may, or there is none."""
        waits = [
            max((c.until - now for c in self._around(target) if c.is_closed_off(now)), default=0.0)
            for target in targets
        ]
        return min(waits, default=0.0) or None

    def snapshot(self, expected: Iterable[str] = ()) -> dict[str, ProviderHealth]:
        """Every provider that was called or probed, and the `expected` ones; copies."""
        found: dict[str, ProviderHealth] = {}
        for name in sorted({*self._calls, *self._probes, *expected}):
            models = {t.model: _worst([c]) for t, c in self._models.items() if t.provider == name}
            worst = msgspec.structs.asdict(_worst(self._of(name)))
            found[name] = ProviderHealth(**worst, models=models)
        return found

    def forget(self, provider: str) -> None:
        """Forget everything about `provider`, which is gone or has a new address."""
        was_well = self._is_well(provider)
        self._calls.pop(provider, None)
        self._probes.pop(provider, None)
        self._models = {t: c for t, c in self._models.items() if t.provider != provider}
        self._announce(provider, was_well=was_well)

    def _of(self, provider: str) -> list[_Circuit]:
        found = (self._calls.get(provider), self._probes.get(provider))
        return [circuit for circuit in found if circuit is not None]

    def _around(self, target: Target) -> list[_Circuit]:
        model = self._models.get(target)
        return [*self._of(target.provider), *([] if model is None else [model])]

    def _is_well(self, provider: str) -> bool:
        return all(circuit.healthy for circuit in self._of(provider))

    def _announce(self, provider: str, *, was_well: bool) -> None:
        is_well = self._is_well(provider)
        if is_well == was_well:
            return
        _log.info("provider_turned provider=%s healthy=%s", provider, is_well)
        try:
            if self._listener is not None:
                self._listener(provider, is_well)
        except Exception:  # noqa: BLE001 - it is told, not asked
            _log.exception("health_listener_failed provider=%s", provider)


def _worst(circuits: list[_Circuit]) -> ModelHealth:
    return ModelHealth(
        "healthy" if all(circuit.healthy for circuit in circuits) else "unhealthy",
        max((circuit.failures for circuit in circuits), default=0),
        next((circuit.last_error for circuit in circuits if circuit.last_error), None),
        max((circuit.last_check for circuit in circuits), default=0.0) or None,
        max((circuit.until for circuit in circuits), default=0.0) or None,
    )
