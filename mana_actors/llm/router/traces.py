"""Spans of model calls in OpenTelemetry's GenAI names, without a word of what was said.

The SDK is loaded only where an endpoint is configured; elsewhere a span costs nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from mana_actors.json_values import as_object
from mana_actors.llm.completions import token_count
from mana_actors.llm.router.aliases.registry import Target

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_PROVIDER_NAMES = {"google": "gcp.gemini"}  # the others are called as their entry is


class CallSpan(Protocol):
    """One model call under way."""

    def answered(self, target: Target, usage: object) -> None:
        """Who answered, and the tokens it counted."""
        ...

    def failed(self, error_type: str) -> None:
        """The kind of error it ended in."""
        ...


class Tracing(Protocol):
    """Makes spans."""

    def call(self, operation: str, model: str) -> AbstractContextManager[CallSpan]:
        """A span around one call, ended with the block."""
        ...

    def close(self) -> None:
        """Send the spans that are left."""
        ...


class _NoSpan:
    def answered(self, target: Target, usage: object) -> None:
        """Record nothing."""

    def failed(self, error_type: str) -> None:
        """Record nothing."""


class NoTracing:
    """No tracing at all."""

    _span: AbstractContextManager[CallSpan] = nullcontext(_NoSpan())

    def call(self, operation: str, model: str) -> AbstractContextManager[CallSpan]:  # noqa: ARG002 - one for all
        """A span that records nothing."""
        return self._span

    def close(self) -> None:
        """Do nothing."""


class _OtelSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, target: Target, usage: object) -> None:
        counts = as_object(usage) or {}
        self._span.set_attributes(
            {
                "gen_ai.provider.name": _PROVIDER_NAMES.get(target.provider, target.provider),
                "gen_ai.response.model": target.model,
                "gen_ai.usage.input_tokens": token_count(counts, "prompt_tokens") or 0,
                "gen_ai.usage.output_tokens": token_count(counts, "completion_tokens") or 0,
            }
        )

    def failed(self, error_type: str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only where it is wanted

        self._span.set_attribute("error.type", error_type)
        self._span.set_status(StatusCode.ERROR)


class OtelTracing:
    """Sends spans to an OTLP/HTTP collector in the background; losing some is no error."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mana_actors.llm")

    @contextmanager
    def call(self, operation: str, model: str) -> Generator[CallSpan]:
        """A client span named as the conventions ask: `chat {model}`."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": model}
        span = self._tracer.start_span(
            f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes
        )
        try:
            yield _OtelSpan(span)
        finally:
            span.end()

    def close(self) -> None:
        """Send the spans that are left."""
        self._provider.shutdown()


def tracing(endpoint: str | None) -> Tracing:
    """Spans to the collector whose base address this is, or none at all."""
    if endpoint is None:
        return NoTracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": "mana-llm"}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider)
