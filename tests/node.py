"""A whole node as its own process tree: `python -m supervisor.node.keeper` and what it starts."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from state.log.stamps import format_instant, instant_of
from supervisor.node.credentials import RAY_TEMP, ray_place
from supervisor.node.keeper import COMMAND, JOIN_COMMAND
from supervisor.node.keeper.state import read_state
from tests.postgres import LOG_OWNER, Database

START_S = 120.0
END_S = 50.0
FOLDER_PREFIX = "mana-node-"
LLM_KEY = "sk-" + "7e57" * 8
_OURS = ("MANA_", "RAY_", "SYNC_", "PORT", "TICK_", "POLICY_MODE")

AGENT_POINTS = (
    "after_gate",
    "after_claim",
    "after_hold",
    "before_model_call",
    "after_answer",
    "before_settle",
    "after_journal",
    "in_commit",
    "after_commit_before_reply",
)
READING_POINTS = ("after_key", "after_decrypt", "after_audit")
"""Reached only by runs that read granted records."""
SUPERVISOR_POINTS = (
    "before_fold",
    "after_fold",
    "before_route",
    "after_route",
    "before_dispatch",
    "after_dispatch",
)
POINTS = AGENT_POINTS + READING_POINTS + SUPERVISOR_POINTS


class Awake(msgspec.Struct, frozen=True):
    """The process of an agent that is awake; its name is never used again."""

    process: str
    pid: int


class NodeFailed(Exception):
    """The node ended, or was not ready in time; `str` ends with what it printed last."""

    def __init__(self, problem: str, printed: str) -> None:
        super().__init__(problem, printed)
        self.problem, self.printed = problem, printed

    def __str__(self) -> str:
        return f"{self.problem}; it printed:\n{self.printed}"


class NodeProcess:
    """A node on a test's database, with a folder of its own that outlives restarts.

    `settings` are variables of the node. Every crash point has a file in `folder`; `arm` makes it.
    """

    command = COMMAND
    ready = "step: ready at "

    def __init__(self, database: Database, model_url: str | None = None, **settings: str) -> None:
        # Short, since Ray keeps Unix sockets in it, and those have paths of at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.service_key = secrets.token_urlsafe(32)
        self.url = ""
        self.killed: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []
        self._env = self._environment(database, model_url, settings)

    def _environment(
        self, database: Database, model_url: str | None, settings: Mapping[str, str]
    ) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        model = {} if model_url is None else {"MANA_LLM_URL": model_url}
        return {
            **inherited,
            **model,
            "SYNC_DATABASE_URL": database.dsn(LOG_OWNER),
            "MANA_DATABASE_PASSWORD_FILE": str(database.password_file(LOG_OWNER)),
            "MANA_SECRETS_DIR": str(database.secrets_dir),
            "MANA_SERVICE_KEY_FILE": self._secret("service_key", self.service_key),
            "MANA_LLM_API_KEY_FILE": self._secret("llm_key", LLM_KEY),
            "MANA_DATA_DIR": str(self.folder / "data"),
            "MANA_LLM_TRY": "false",  # tests count what the model is asked for
            "MANA_CRASH_AT": ",".join(f"{point}:{self._crash_file(point)}" for point in POINTS),
            "PORT": "0",
            **settings,
        }

    def _secret(self, name: str, secret: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(secret + "\n")
        return str(path)

    def _crash_file(self, point: str) -> Path:
        return self.folder / f"crash-{point}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and return once it serves; raises NodeFailed."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start it, in a session of its own, and return at once."""
        (self.folder / "data").mkdir(exist_ok=True)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.append(self._process.pid)

    def wait_until_ready(self, within_s: float = START_S) -> None:
        """Return once it serves; raises NodeFailed."""
        assert self._process is not None
        began = time.monotonic()
        while self.ready not in self.printed():
            if self._process.poll() is not None:
                printed = f"{self.printed()}\n{self.last_words_of_ray()}"
                raise NodeFailed(f"the node ended with {self._process.returncode}", printed)
            if time.monotonic() - began > within_s:
                raise NodeFailed(f"the node was not ready within {within_s} s", self.printed())
            time.sleep(0.05)
        self.url = self.printed().partition(self.ready)[2].split()[0]

    def last_words_of_ray(self) -> str:
        """The last lines of each log of Ray's parts, which say why one of them ended."""
        names = ("raylet.*", "gcs_server.*", "dashboard_agent*", "runtime_env_agent*")
        logs = ray_place(self.folder / "data").glob(f"{RAY_TEMP}/session_2*/logs/*")
        return "\n".join(
            f"{log.name}: {line}"
            for log in sorted(logs)
            if any(log.match(name) for name in names)
            for line in log.read_text(errors="replace").splitlines()[-8:]
        )

    def stop(self) -> int:
        """End it orderly with SIGTERM; returns its exit code, and raises NodeFailed if it hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired as exc:
            raise NodeFailed(f"the node did not end within {END_S} s", self.printed()) from exc

    def kill(self) -> None:
        """SIGKILL everything of it at once, Ray included."""
        while found := self.processes():
            for pid in found:
                _signal(pid, signal.SIGKILL)
            if self._process is not None:
                self._process.poll()
            time.sleep(0.02)
        if self._process is not None:
            self._process.wait(10)

    def close(self) -> None:
        """End it however it is, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    # --- what it is made of -----------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The node process itself, its keeper."""
        assert self._process is not None
        return self._process.pid

    @property
    def _output(self) -> Path:
        return self.folder / "printed"

    def printed(self) -> str:
        """What it printed since its last start."""
        return self._output.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """Every live process of its sessions, with its title."""
        found = ((pid, _session(pid)) for pid in _pids())
        return {pid: _title(pid) for pid, session in found if session in self._sessions}

    def pids_of(self, actor_class: str) -> list[int]:
        """The processes of one kind of actor."""
        title = f"ray::{actor_class}"
        return [pid for pid, is_titled in self.processes().items() if is_titled.startswith(title)]

    def supervisor(self) -> int:
        """The supervisor's process, waited for while it restarts."""
        return wait_for(lambda: next(iter(self.pids_of("SupervisorActor")), None), "a supervisor")

    def restarts(self) -> int:
        """How often its keeper started it again."""
        state = read_state(self.folder / "data")
        return 0 if state is None else state.restarts

    # --- crash points -----------------------------------------------------------------------------

    def arm(self, *points: str) -> None:
        """Whoever reaches one of these points next kills itself."""
        for point in points:
            self._crash_file(point).touch()

    def is_armed(self, point: str) -> bool:
        """Whether nobody came by yet."""
        return self._crash_file(point).exists()

    def disarm(self) -> None:
        """Nobody shall die any more."""
        for point in POINTS:
            self._crash_file(point).unlink(missing_ok=True)

    # --- asking it --------------------------------------------------------------------------------

    def http(self, verb: str, path: str, **options: Any) -> httpx2.Response:
        """One request to its gateway, with the service key."""
        headers = {"X-Service-Key": self.service_key} | options.pop("headers", {})
        return httpx2.request(verb, self.url + path, headers=headers, timeout=15, **options)

    def status(self) -> dict[str, Any]:
        """What `/internal/status` says."""
        return self.http("GET", "/internal/status").json()

    def supervision(self) -> dict[str, Any]:
        """What its supervisor says of itself; waits for one that is busy or starts again.

        The gateway would tell what it knew last.
        """
        since = format_instant(instant_of(datetime.now(UTC)))

        def said() -> dict[str, Any] | None:
            told = self.status().get("supervisor")
            return told if told and told["at"] >= since else None

        return wait_for(said, "a supervisor that answers")

    def awake(self) -> dict[tuple[str, str], Awake]:
        """Every agent that is awake now, by (user, agent)."""
        return {
            (one["user"], one["agent"]): Awake(one["process"], one["pid"])
            for one in self.supervision()["awake"]
        }


class JoinedProcess(NodeProcess):
    """A machine that serves agents of another node's Ray: `url` is that Ray's address."""

    command = JOIN_COMMAND
    ready = "step: ready for agents of the Ray at "

    def raylet(self) -> int:
        """Its part of Ray, waited for while it starts again."""
        return wait_for(
            lambda: next((p for p, t in self.processes().items() if "/raylet/raylet" in t), None),
            "a raylet",
            START_S,
        )


def wait_for(look: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """What `look` returns as soon as it is true; raises TimeoutError naming what was waited for."""
    give_up = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what}: not within {within_s} s")
        time.sleep(0.05)
    return found


def send(pid: int, signal_: signal.Signals) -> None:
    """Send a signal to a process that must be there."""
    os.kill(pid, signal_)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int | None:
    """The session of a live process; None for a dead one, also when it is not reaped yet."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in "ZX" else int(session)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
