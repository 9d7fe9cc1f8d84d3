import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import run
from supervisor.cli.failures import FAILED, UNREACHABLE
from tests.unit.test_cli import FakeGateway

STATE: dict[str, Any] = {
    "status": "healthy",
    "source": "/etc/mana/aliases.yaml",
    "url": "http://127.0.0.1:4000",
    "problem": None,
    "aliases": [{"name": "mana/fast-text", "chain": ["near/small", "far/large"]}],
    "providers": {
        "near": {
            "status": "healthy",
            "consecutive_failures": 0,
            "last_error": None,
            "unhealthy_until_unix": None,
        }
    },
}
ANSWERED: dict[str, Any] = {
    "ok": True,
    "resolved": "near/small",
    "exposure": "local",
    "prompt_tokens": 9,
    "completion_tokens": 1,
    "cost_micros": None,
    "latency_ms": 12.3,
}


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    monkeypatch.setenv("MANA_DATA_DIR", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "service_key").write_text("the-key-of-this-node")
    made = FakeGateway()
    monkeypatch.setenv("MANA_URL", made.url)
    yield made
    made.stop()


def test_status_shows_chains_and_providers(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    gateway.answers["GET /internal/llm"] = 200, STATE
    assert run(["llm", "status"]) == 0
    said = capsys.readouterr().out
    assert "near/small > far/large" in said
    assert "/etc/mana/aliases.yaml" in said


@pytest.mark.parametrize(
    "more", [{"status": "degraded"}, {"problem": "alias file, default: names no alias"}]
)
def test_status_fails_when_something_is_wrong(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], more: dict[str, Any]
):
    gateway.answers["GET /internal/llm"] = 200, STATE | more
    assert run(["llm", "status"]) == FAILED
    assert next(iter(more.values())) in capsys.readouterr().out


def test_a_try_says_who_answered(gateway: FakeGateway, capsys: pytest.CaptureFixture[str]):
    gateway.answers["POST /internal/llm/test"] = 200, ANSWERED
    assert run(["llm", "test", "mana/fast-text"]) == 0
    said = capsys.readouterr().out
    assert said == "mana/fast-text: near/small (local), 9+1 tokens, 12 ms\n"
    assert json.loads(gateway.asked[-1][3]) == {"model": "mana/fast-text"}


def test_a_try_that_failed_says_why(gateway: FakeGateway, capsys: pytest.CaptureFixture[str]):
    refused = {"ok": False, "kind": "exposure", "error": "nobody is within it", "status": 403}
    gateway.answers["POST /internal/llm/test"] = 200, refused
    assert run(["llm", "test", "mana/fast-text"]) == FAILED
    assert "exposure: nobody is within it" in capsys.readouterr().out
    assert run(["llm", "test", "mana/fast-text", "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["kind"] == "exposure"


def test_a_router_that_is_away_is_one_line(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    gateway.answers["GET /internal/llm"] = 503, {"error": "the model router does not answer"}
    assert run(["llm", "status"]) in (FAILED, UNREACHABLE)
    assert "the model router does not answer" in capsys.readouterr().err


WARNED = "limits in money do not bound near/small: there is no price"
MODEL: dict[str, Any] = {
    "name": "near/small",
    "abilities": {"context": 8192, "tools": False, "limit_name": "max_completion_tokens"},
    "told_by": {"context": "asked", "tools": "learnt", "limit_name": "learnt"},
    "price": None,
}


def test_status_shows_what_is_known_of_models_and_who_told_it(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    more: dict[str, Any] = {"models": [MODEL], "warnings": [WARNED]}
    gateway.answers["GET /internal/llm"] = 200, STATE | more
    assert run(["llm", "status"]) == 0
    said = capsys.readouterr().out
    for words in ("8,192 (asked)", "no (learnt)", "max_completion_tokens (learnt)", WARNED):
        assert words in said


@pytest.mark.parametrize("calls", [True, False])
def test_a_try_says_whether_tools_are_called(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], *, calls: bool
):
    told = ANSWERED | {"calls_tools": calls, "warnings": [WARNED]}
    gateway.answers["POST /internal/llm/test"] = 200, told
    assert run(["llm", "test", "mana/fast-text"]) == 0
    said = capsys.readouterr().out
    assert ("it calls tools" in said, WARNED in said) == (calls, True)


def test_a_limit_in_money_that_bounds_nothing_is_said_at_once(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    gateway.answers["PUT /internal/limits"] = 200, {"items": [], "warnings": [WARNED]}
    assert run(["limits", "set", "--installation", "--money", "5"]) == 0
    assert WARNED in capsys.readouterr().err
