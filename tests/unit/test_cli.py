import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mana_actors.client import ServerAway
from state.store.connect import Refused, Unavailable
from supervisor import __version__
from supervisor.cli import gateway_client, run
from supervisor.cli.commands.own.client import token_for
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE
from supervisor.node import address
from supervisor.node.address import running_node

MISSION: dict[str, Any] = {
    "user_id": "anna",
    "mission_id": "[red]m1[/red]",
    "agent_id": "legacy:ai-default",
    "state": "active",
    "next_run_at": "2026-04-26T10:00:00Z",
    "wake_at": None,
    "complete": True,
    "readable": True,
    "problems": [],
    "decision": "skipped-paused",
    "reason": "the agent is paused\x1b[2J",
}


class FakeGateway:
    """A real HTTP server with canned answers by "VERB path"; remembers what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): text for name, text in self.headers.items()}
                outer.asked.append((self.command, self.path, headers, self.rfile.read(length)))
                path = self.path.partition("?")[0]
                status, content = outer.answers.get(
                    f"{self.command} {path}", (404, {"error": "not found"})
                )
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the names http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def node_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder with a key; the machine's own is not a test's to read."""
    monkeypatch.setenv("MANA_DATA_DIR", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "service_key").write_text("the-key-of-this-node")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    made = FakeGateway()
    monkeypatch.setenv("MANA_URL", made.url)
    yield made
    made.stop()


def page(*items: Any) -> tuple[int, Any]:
    return 200, {"items": items, "before": None}


def test_version_answers_at_once():
    began = time.monotonic()
    command = [sys.executable, "-c", "from supervisor.cli import main; main()", "version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout == f"{__version__}\n"
    assert time.monotonic() - began < 3  # 0.1 s; the rest is for a busy machine


@pytest.mark.parametrize("args", [["--help"], [], ["missions", "--help"], ["up", "--help"]])
def test_help_is_no_failure(args: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(args) == 0
    assert "Usage: mana" in capsys.readouterr().out


def test_no_command_loads_ray_or_a_database_driver():
    code = (
        "import sys; from supervisor.cli import run; run(['--help']);"
        "bad = {'ray', 'asyncpg', 'httpx2', 'rich.table'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nope"], USAGE, "No such command"),
        (["missions", "run"], USAGE, "MISSION"),
        (["runs", "--limit", "0"], USAGE, "--limit"),
        (["up", "--port", "x"], USAGE, "--port"),
        (["up", "--port", "70000"], USAGE, "PORT"),
        (["up", "--database-url", "postgresql://u@h/d"], USAGE, "MANA_SERVICE_KEY_FILE"),
        (["status"], UNREACHABLE, "mana up"),
        (["logs"], UNREACHABLE, "mana up"),
        (["snapshots", "verify"], UNREACHABLE, "mana up"),
    ],
)
def test_a_failure_is_one_line_and_its_exit_code_says_which_kind(
    args: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("MANA_DATA_DIR", str(tmp_path / "new"))
    assert run(args) == code
    error = capsys.readouterr().err
    assert error.startswith("mana: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_group_without_a_command_says_what_it_has(capsys: pytest.CaptureFixture[str]):
    assert run(["people"]) == USAGE
    error = capsys.readouterr().err
    assert error.startswith("Usage: mana people [OPTIONS] COMMAND")
    assert [line.split()[:1] for line in error.splitlines()].count(["add"]) == 1


def test_the_key_of_the_node_is_shown_to_its_gateway(gateway: FakeGateway):
    gateway.answers["GET /internal/runs"] = page()
    assert run(["runs"]) == 0
    (_, path, headers, _) = gateway.asked[0]
    assert headers["x-service-key"] == "the-key-of-this-node"
    assert path == "/internal/runs?limit=50"


def test_lists_print_tables_or_json(gateway: FakeGateway, capsys: pytest.CaptureFixture[str]):
    gateway.answers["GET /internal/missions"] = page(MISSION)
    assert run(["missions", "--agent", "anna/coach"]) == 0
    assert gateway.asked[0][1] == "/internal/missions?user=anna&agent=coach&limit=100"
    table = capsys.readouterr().out
    assert "[red]m1[/red]" in table
    assert "\x1b" not in table
    assert run(["missions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [MISSION]


def test_long_lists_are_read_page_by_page(gateway: FakeGateway, capsys: pytest.CaptureFixture[str]):
    gateway.answers["GET /internal/agents"] = (200, {"items": [{}] * 500, "before": "c"})
    assert run(["agents", "--limit", "1200", "--json"]) == 0
    asked = [path.partition("?")[2] for _, path, _, _ in gateway.asked]
    assert asked == ["limit=500", "limit=500&before=c", "limit=200&before=c"]
    assert len(json.loads(capsys.readouterr().out)) == 1200


def test_run_now_quotes_ids_and_sends_the_key(gateway: FakeGateway):
    told = (202, {"due_at": "2026-04-26T10:00:00Z", "created": True})
    gateway.answers["POST /internal/missions/u%2F1/m%201/run"] = told
    assert run(["missions", "run", "u/1", "m 1", "--key", "k1"]) == 0
    assert gateway.asked[0][2]["idempotency-key"] == "k1"


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["--installation", "--tokens", "5"], {"kind": "installation", "tokens": 5}),
        (["--each-user", "--money", "2.5"], {"kind": "each-user", "micros": 2_500_000}),
        (["--each-agent", "--tokens", "none"], {"kind": "each-agent", "tokens": None}),
        (["--user", "u/1", "--tokens", "0"], {"kind": "user", "user": "u/1", "tokens": 0}),
        (
            ["--agent", "u/a/b", "--tokens", "1", "--money", "none"],
            {"kind": "agent", "user": "u", "agent": "a/b", "tokens": 1, "micros": None},
        ),
    ],
)
def test_a_limit_is_sent_as_the_api_wants_it(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], args: list[str], sent: Any
):
    row = {"kind": "agent", "user_id": "u", "agent_id": "a", "tokens": None, "micros": 1_500_000}
    gateway.answers["PUT /internal/limits"] = (200, {"items": [row]})
    assert run(["limits", "set", *args]) == 0
    assert json.loads(gateway.asked[-1][3]) == sent
    out = capsys.readouterr().out
    assert "u/a" in out
    assert "1.5" in out


@pytest.mark.parametrize(
    "args",
    [
        ["--tokens", "5"],
        ["--installation"],
        ["--installation", "--user", "u", "--tokens", "5"],
        ["--agent", "u", "--tokens", "5"],
        ["--installation", "--tokens", "-1"],
        ["--installation", "--tokens", "1.5"],
        ["--installation", "--tokens", "many"],
        ["--installation", "--money", "0.0000001"],
        ["--installation", "--money", "NaN"],
        ["--installation", "--money", "1e999999999"],
    ],
)
def test_a_wrong_limit_is_one_line_and_asks_nobody(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], args: list[str]
):
    assert run(["limits", "set", *args]) == USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert gateway.asked == []


def test_a_tick_is_waited_for_over_several_calls(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    stats: dict[str, Any] = {
        "dueMissionCount": 1,
        "plansWrittenBack": 1,
        "errors": [],
        "scannedAt": "",
    }
    gateway.answers["POST /internal/tick"] = (202, {"id": "t1"})
    gateway.answers["GET /internal/tick/t1"] = (200, {"state": "done", "stats": stats})
    assert run(["tick", "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stats
    gateway.answers["POST /internal/tick"] = (503, stats | {"errors": ["database down"]})
    assert run(["tick", "--wait"]) == FAILED


def test_sessions_are_listed_and_ended_by_name_or_all_at_once(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    one = {
        "name": "0011aabbccdd",
        "address": "192.0.2.7",
        "user_agent": "Firefox \x1b[2J",
        "opened_at": "2026-11-28T07:00:00Z",
        "seen_at": "2026-11-28T07:05:00Z",
        "ends_at": "2026-11-28T19:00:00Z",
    }
    gateway.answers["GET /internal/sessions"] = page(one)
    gateway.answers["DELETE /internal/sessions"] = (200, {"ended": 3})
    gateway.answers["DELETE /internal/sessions/0011aabbccdd"] = (200, {"ended": True})
    assert run(["sessions", "list"]) == 0
    told = capsys.readouterr().out
    assert "0011aabbccdd" in told
    assert "192.0.2.7" in told
    assert "\x1b" not in told, "what a browser calls itself moves no cursor"
    assert run(["sessions", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [one]
    assert run(["sessions", "end", "0011aabbccdd"]) == 0
    assert run(["sessions", "end", "--all"]) == 0
    assert "3 sessions ended" in capsys.readouterr().out
    assert [path for verb, path, _, _ in gateway.asked if verb == "DELETE"] == [
        "/internal/sessions/0011aabbccdd",
        "/internal/sessions",
    ]
    asked = len(gateway.asked)
    for wrong in (["end"], ["end", "0011aabbccdd", "--all"]):
        assert run(["sessions", *wrong]) == USAGE
    assert len(gateway.asked) == asked, "nothing was ended"
    gateway.answers["GET /internal/sessions"] = page()
    assert run(["sessions", "list"]) == 0
    assert "mana open" in capsys.readouterr().out


def test_a_status_that_is_not_well_fails(gateway: FakeGateway, capsys: pytest.CaptureFixture[str]):
    told = {"ok": False, "problems": ["fold: stuck"], "counts": None, "supervisor": None}
    gateway.answers["GET /internal/status"] = (200, told)
    assert run(["status"]) == FAILED
    assert "fold: stuck" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, {"error": "invalid or missing service key"}), UNREACHABLE, "service key"),
        ((400, {"error": "limit: bad", "field": "limit"}), USAGE, "limit"),
        ((503, {"error": "the database does not answer"}), FAILED, "database"),
        ((500, b"<html>"), FAILED, "no mana gateway"),
        ((404, b"[]"), FAILED, "no mana gateway"),
        ((404, {"error": "no such agent"}), FAILED, "no such agent: mana agents tells their ids"),
    ],
)
def test_what_a_gateway_refuses_is_one_line(
    answer: tuple[int, Any],
    code: int,
    said: str,
    gateway: FakeGateway,
    capsys: pytest.CaptureFixture[str],
):
    gateway.answers["GET /internal/runs"] = answer
    assert run(["runs"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:99999", "::", "nonsense"])
def test_an_address_without_a_gateway_is_one_line(
    url: str, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    assert run(["status", "--url", url]) in (USAGE, UNREACHABLE)
    error = capsys.readouterr().err
    assert url in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("exc", "code", "said"),
    [
        (Unavailable("QueryCanceledError"), UNREACHABLE, "a statement took too long"),
        (Unavailable("DiskFullError"), UNREACHABLE, "its disk is full"),
        (Unavailable("ConnectionRefusedError"), UNREACHABLE, "nothing listens"),
        (Refused("42P01"), FAILED, "mana migrate"),
    ],
)
def test_an_error_of_the_database_says_what_happened(
    exc: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def broken(*_: object, **__: object) -> int:
        raise exc

    monkeypatch.setattr("supervisor.cli.database.verify_snapshots", broken)
    assert run(["snapshots", "verify"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_process_id_that_went_to_another_program_is_no_node(tmp_path: Path):
    written = address.write_node(tmp_path, os.getpid(), "http://127.0.0.1:1", "1")
    assert written.pid == os.getpid()
    assert address.node_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert address.read_node(tmp_path) == written
    assert running_node(tmp_path) is None
    address.node_file(tmp_path).write_text("{half")
    assert address.read_node(tmp_path) is None


def test_the_sql_of_the_migrations_is_printed(capsys: pytest.CaptureFixture[str]):
    assert run(["migrate", "--print-sql"]) == 0
    assert "CREATE TABLE IF NOT EXISTS public.sync_changes" in capsys.readouterr().out


def test_the_end_of_the_log_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
):
    monkeypatch.setenv("MANA_DATA_DIR", str(tmp_path))
    log = address.log_file(tmp_path)
    log.parent.mkdir()
    log.write_bytes(b"one\ntwo\xff\nthree\n")
    assert run(["logs", "-n", "2"]) == 0
    assert capfdbinary.readouterr().out == b"two\xff\nthree\n"


@pytest.mark.parametrize("target", ["anna", "anna/", "/a1", ""])
def test_an_agent_is_named_by_user_and_agent(target: str, capsys: pytest.CaptureFixture[str]):
    assert run(["pause", target]) == USAGE
    assert "USER/AGENT" in capsys.readouterr().err


def test_ids_of_agents_and_missions_may_hold_slashes_and_colons(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    agent = "/internal/agents/anna/legacy%3Aai-default%2F1/pause"
    mission = "/internal/missions/anna/m%2F1/resume"
    gateway.answers["POST " + agent] = (200, {"state": "paused", "changed": True})
    gateway.answers["POST " + mission] = (200, {"state": "active", "changed": False})
    assert run(["pause", "anna/legacy:ai-default/1"]) == 0
    assert run(["resume", "anna", "--mission", "m/1"]) == 0
    said = capsys.readouterr().out
    assert said == "anna/legacy:ai-default/1 is paused\nanna: m/1 is active already\n"


@pytest.mark.parametrize(
    ("typed", "there", "meant"),
    [
        ("org/u1/ag1", ["org%2Fu1/ag1"], "org%2Fu1/ag1"),
        ("org/u1/ag/1", ["org%2Fu1/ag%2F1"], "org%2Fu1/ag%2F1"),
        ("org%2Fu1/ag1", ["org%2Fu1/ag1"], "org%2Fu1/ag1"),
        ("50%2F/a b?#", ["50%252F/a%20b%3F%23"], "50%252F/a%20b%3F%23"),
        ("żółw/-x/y", [], "%C5%BC%C3%B3%C5%82w/-x%2Fy"),
        ("a?b/c#d", [], "a%3Fb/c%23d"),
    ],
)
def test_the_agent_that_is_there_is_meant(
    gateway: FakeGateway, typed: str, there: list[str], meant: str
):
    for pair in there:
        gateway.answers[f"GET /internal/agents/{pair}/budget"] = (200, {})
    gateway.answers[f"POST /internal/agents/{meant}/pause"] = (
        200,
        {"state": "paused", "changed": True},
    )
    assert run(["pause", "--", typed]) == 0


def test_a_name_of_two_agents_is_asked_back(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    for pair in ("a%2Fb/c", "a/b%2Fc"):
        gateway.answers[f"GET /internal/agents/{pair}/budget"] = (200, {})
    assert run(["pause", "a/b/c"]) == USAGE
    assert "write a/b/c or a%2Fb/c" in capsys.readouterr().err


def test_what_cannot_be_cancelled_is_said_in_one_line(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    gateway.answers["POST /internal/runs/r1/cancel"] = (409, {"error": "the run is committed"})
    assert run(["cancel", "r1"]) == FAILED
    assert "the run is committed" in capsys.readouterr().err


def test_what_an_agents_process_holds_is_shown_with_what_differs(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
):
    memory: dict[str, Any] = {"agent_differs": False, "missions_differ": ["m1"], "state": "awake"}
    held = {"agent_version": 4, "missions": {"m1": 6}, "cap": None, "used": 5, "held": 0}
    told: dict[str, Any] = {
        "record": None,
        "policy": {
            "counts": {"propose": 1, "auto": 0, "deny": 0},
            "mode": "enforce",
            "source": "default",
            "denied": [],
            "auto": [],
            "modules": {},
            "default": "propose",
        },
        "budget": None,
        "memory": memory | {"held": held | {"under_way": ["m1"]}},
        "problems": [],
        "missions": [MISSION | {"mission_id": "m1", "version": 7}],
        "live_runs": [],
        "decisions": [],
    }
    path = "GET /internal/agents/anna/legacy%3Aai-default"
    gateway.answers[path] = (200, told)
    assert run(["agents", "show", "anna/legacy:ai-default"]) == 0
    shown = capsys.readouterr().out
    assert "holds: own record 4, 1 missions, no cap, 5 used, 0 held, 1 under way" in shown
    assert "differs: m1, held 6, stored 7" in shown
    gateway.answers[path] = (200, told | {"memory": memory | {"held": None, "state": "asleep"}})
    assert run(["agents", "show", "anna/legacy:ai-default"]) == 0
    assert "asleep: holds nothing" in capsys.readouterr().out


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_gateway_that_drips_its_answer_is_given_up(
    words: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(gateway_client, "TIMEOUT_S", 0.8)
    with dripping(words, b"X: y\r\n") as url:
        # It never falls silent, so no bound on a single read would end this.
        assert run(["status", "--url", url]) == UNREACHABLE
    assert "no answer in time" in capsys.readouterr().err


def test_a_gateway_that_answers_without_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(gateway_client, "MAX_BYTES", 100_000)
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 50_000) as url:
        assert run(["status", "--url", url]) == UNREACHABLE
    assert "too large" in capsys.readouterr().err


@contextmanager
def dripping(words: bytes, dripped: bytes) -> Generator[str]:
    """The address of a server that says so, and goes on until its caller hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    connection.sendall(words)
                    while True:
                        connection.sendall(dripped)
                        time.sleep(0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


async def test_a_gateway_that_is_away_is_what_a_client_waits_for(tmp_path: Path):
    """Whoever watches a table goes on once it is there, so this is no end of the command."""
    file = tmp_path / "token"
    file.write_text("mana_pat_x")
    with pytest.raises(ServerAway, match="nothing answers"):
        await token_for("u1", "http://127.0.0.1:1", str(file), None)
