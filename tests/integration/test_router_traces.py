"""Spans as a collector gets them over OTLP/HTTP: GenAI names, and nothing that was said."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter, alias_file

CANARY = "Kanarienvogel"


class Collector:
    """Keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spans(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and attributes of every span."""
        found: list[tuple[str, dict[str, Any]]] = []
        for body in self.bodies:
            request: Any = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += [(span.name, _values(span)) for span in scope.spans]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _values(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


def test_calls_become_spans_without_a_word_of_them(tmp_path: Path, collector: Collector):
    with FakeProvider([{"content": CANARY, "usage": [3, 2]}, {"status": 500}]) as fake:
        source = alias_file(tmp_path, fake.url, fake.url, near_only="yes")
        with RunningRouter(tmp_path, source, otlp_endpoint=collector.url) as router:
            messages = [{"role": "user", "content": CANARY}]
            assert router.chat(messages=messages).status_code == 200
            assert router.chat(messages=messages).status_code == 503
        # The router has ended, and sent what it had.
    (good, bad) = collector.spans()
    assert good == (
        "chat mana/fast-text",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "mana/fast-text",
            "gen_ai.response.model": "small",
            "gen_ai.provider.name": "near",
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
        },
    )
    assert bad[1]["error.type"] == "no_healthy_provider"
    assert not any(CANARY.encode() in body for body in collector.bodies)


def test_without_an_endpoint_the_sdk_is_not_even_loaded():
    import subprocess
    import sys

    code = (
        "import sys; from mana_actors.llm.router.telemetry import tracing\n"
        "tracing(None); sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
