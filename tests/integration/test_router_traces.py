"""Spans as a collector gets them over OTLP/HTTP: GenAI names, and nothing that was said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector import Collector
from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter, alias_file

CANARY = "Kanarienvogel"


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
        "import sys; from mana_actors.llm.router.traces import tracing\n"
        "tracing(None); sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
