"""The router's metrics: every label comes from the alias file or is the word "unknown"."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mana_actors.http.door import Ending
from mana_actors.json_values import as_object
from mana_actors.llm.completions import token_count
from mana_actors.llm.router.aliases.registry import Target

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN = "unknown"
_LLM_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120)
_HTTP_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)


class RouterMetrics:
    """Counts calls and observes the router. Only names given to `know` become labels."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._known: frozenset[str] = frozenset()
        self._shown: frozenset[str] = frozenset()
        self._resolved = self._counter(
            "alias_resolved", "Alias requests by the entry that served.", ("alias", "target")
        )
        self._fallback = self._counter(
            "fallback", "Entries passed by, and why.", ("from_model", "to_model", "reason")
        )
        self._healthy = Gauge(
            "mana_llm_provider_healthy",
            "1 while a provider is held for healthy.",
            ("provider",),
            registry=self._registry,
        )
        self._calls = self._counter(
            "llm_requests", "Model calls.", ("provider", "model", "streaming")
        )
        self._tokens = self._counter(
            "tokens", "Tokens as providers counted them.", ("provider", "model", "type")
        )
        self._errors = self._counter(
            "llm_errors", "Model calls that failed.", ("provider", "model", "error_type")
        )
        self._latency = self._histogram(
            "llm_latency_seconds", "Of model calls.", ("provider", "model"), _LLM_BUCKETS
        )
        self._requests = self._counter(
            "requests", "HTTP requests.", ("method", "endpoint", "status")
        )
        self._request_latency = self._histogram(
            "request_latency_seconds", "Of HTTP requests.", ("method", "endpoint"), _HTTP_BUCKETS
        )

        self._ended = self._counter(
            "connections_ended", "Connections that the router ended or refused.", ("reason",)
        )

    def know(self, names: Iterable[str], providers: Iterable[str]) -> None:
        """Allow these aliases and entries as labels, and show the health of these providers."""
        self._known = frozenset(names)
        wanted = frozenset(providers)
        for name in wanted - self._shown:
            self._healthy.labels(name).set(1)
        for name in self._shown - wanted:
            self._healthy.remove(name)
        self._shown = wanted

    # --- what the router observes -----------------------------------------------------------------

    def resolved(self, alias: str, target: Target) -> None:
        """An alias was served by an entry of its chain."""
        self._resolved.labels(self._label(alias), self._label(target.name)).inc()

    def fell_back(self, from_target: Target, to_target: Target | None, reason: str) -> None:
        """An entry did not serve; the next one tried, or None at the end."""
        to = "" if to_target is None else self._label(to_target.name)
        self._fallback.labels(self._label(from_target.name), to, reason).inc()

    def provider_healthy(self, provider: str, healthy: bool) -> None:
        """A provider's health changed; before `know` has named it, it is not shown."""
        if provider in self._shown:
            self._healthy.labels(provider).set(1 if healthy else 0)

    # --- what the API counts ----------------------------------------------------------------------

    def answered(self, target: Target, usage: object, seconds: float) -> None:
        """A whole answer has been sent."""
        names = self._split(target.name)
        self._calls.labels(*names, "false").inc()
        self._spent(names, usage, seconds)

    def stream_began(self, asked: str) -> None:
        """A stream was asked for."""
        self._calls.labels(*self._split(asked), "true").inc()

    def stream_ended(self, target: Target, usage: object, seconds: float) -> None:
        """A stream came to its end."""
        self._spent(self._split(target.name), usage, seconds)

    def failed(self, asked: str, error_type: str) -> None:
        """A call that ended in an error, counted under the name that was asked for."""
        self._errors.labels(*self._split(asked), error_type).inc()

    def served(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """One HTTP request; `method` and `endpoint` are as the edge tells them, fit for labels."""
        self._requests.labels(method, endpoint, str(status)).inc()
        self._request_latency.labels(method, endpoint).observe(seconds)

    def connection_ended(self, reason: Ending) -> None:
        """One connection that the door ended or refused."""
        self._ended.labels(reason).inc()

    def render(self) -> bytes:
        """The text Prometheus reads."""
        return generate_latest(self._registry)

    def _spent(self, names: tuple[str, str], usage: object, seconds: float) -> None:
        self._latency.labels(*names).observe(seconds)
        for kind in ("prompt", "completion"):
            if tokens := token_count(as_object(usage) or {}, f"{kind}_tokens"):
                self._tokens.labels(*names, kind).inc(tokens)

    def _label(self, name: str) -> str:
        return name if name in self._known else UNKNOWN

    def _split(self, name: str) -> tuple[str, str]:
        """Provider and model of a name the registry has; an alias's provider is `mana`."""
        provider, slash, model = self._label(name).partition("/")
        return (provider, model) if slash else (UNKNOWN, UNKNOWN)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"mana_llm_{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"mana_llm_{name}", text, labels, buckets=buckets, registry=self._registry)
