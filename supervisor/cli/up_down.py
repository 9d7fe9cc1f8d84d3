"""`mana up` and `mana down`: the node process, its progress and its end."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mana_actors.logs import turn_over
from state.store import embedded
from supervisor.cli.environment import make_data_dir
from supervisor.cli.failures import FAILED, UNREACHABLE, Failure
from supervisor.cli.gateway_client import Gateway
from supervisor.node.address import (
    NodeRecord,
    log_file,
    node_file,
    read_node,
    running_node,
)
from supervisor.node.credentials import read_service_key
from supervisor.node.keeper import COMMAND, JOIN_COMMAND
from supervisor.node.keeper.processes import end_all, mark_of, marked
from supervisor.node.keeper.sole import holder, sole_node
from supervisor.node.keeper.state import read_state
from supervisor.node.settings import Settings
from supervisor.node.steps import STEP

POLL_S = 0.1
TELL_EVERY_S = 5.0
UNWELL_S = 60.0
DOWN_S = 100.0
"""Longer than a keeper takes at most, its Postgres included."""
KILL_S = 10.0
LAST_LINES = 12
ERROR = "error: "
"""What a node that cannot start says last."""


def say(line: str) -> None:
    """Progress, for a person; data goes to stdout."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


def start(env: Mapping[str, str], settings: Settings) -> tuple[NodeRecord, bool]:
    """The node of a data directory, up and well, and whether it was started now."""
    data_dir = Path(settings.data_dir)
    make_data_dir(data_dir)
    with _one_at_a_time(data_dir):
        running = running_node(data_dir)
        if running is not None:
            _wait_while_it_starts_again(data_dir)
            return running, False
        node_file(data_dir).unlink(missing_ok=True)
        process, shown = _detached(COMMAND, env, data_dir)
        return _wait_until_well(process, settings, shown), True


def _wait_while_it_starts_again(data_dir: Path) -> None:
    """Return once a node that lost a part is up again; it may also end meanwhile."""
    log = log_file(data_dir)
    steps, began = Steps(log, log.stat().st_size if log.exists() else 0), time.monotonic()
    while (state := read_state(data_dir)) is not None and state.phase != "up":
        steps.show()
        steps.tell(f"it is {state.phase}, because {state.why or 'somebody asked for it'}", began)
        time.sleep(POLL_S)


def join(env: Mapping[str, str], settings: Settings) -> bool:
    """Have this machine serve agents of another node's Ray; False where it does already."""
    data_dir = Path(settings.data_dir)
    make_data_dir(data_dir)
    with _one_at_a_time(data_dir):
        if holder(data_dir) is not None:
            return False
        process, steps = _detached(JOIN_COMMAND, env, data_dir)
        began = time.monotonic()
        while (state := read_state(data_dir)) is None or state.phase != "up":
            ended = process.poll()
            steps.show()
            if ended is not None:
                _raise_as_it_said(steps, ended, data_dir)
            steps.tell("still starting", began)
            time.sleep(POLL_S)
        steps.show()
        return True


def _detached(
    command: Sequence[str], env: Mapping[str, str], data_dir: Path
) -> "tuple[subprocess.Popen[bytes], Steps]":
    """A keeper in a session of its own, and what it logs."""
    log = log_file(data_dir)
    log.parent.mkdir(exist_ok=True, mode=0o700)
    turn_over(log)
    with log.open("ab") as output:
        steps = Steps(log, output.tell())
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, steps


def _raise_as_it_said(steps: "Steps", code: int, data_dir: Path) -> NoReturn:
    said = [line for line in steps.lines if line.startswith(ERROR)]
    if said:  # the node's own last word
        raise Failure(said[-1].removeprefix(ERROR))
    for line in steps.lines:
        say(f"  | {line}")
    raise Failure(f"the node ended with {code}; its log is {log_file(data_dir)}")


def foreground(env: Mapping[str, str], settings: Settings, command: tuple[str, ...]) -> None:
    """Become the node's keeper; raises Failure where one runs already."""
    make_data_dir(Path(settings.data_dir))
    running = running_node(Path(settings.data_dir))
    if running is not None:
        raise Failure(f"mana is already up at {running.url} (process {running.pid})")
    sys.stdout.flush()
    os.execve(sys.executable, command, dict(env))  # noqa: S606 - no shell is meant


def stop(data_dir: Path) -> bool:
    """End the node of a data directory and all that it started; False when nothing ran."""
    if not data_dir.is_dir():
        return False
    keeper, node = holder(data_dir), running_node(data_dir)
    if keeper is not None:
        log = log_file(data_dir)
        steps = Steps(log, log.stat().st_size if log.exists() else 0)
        say(f"stopping {node.url if node else f'process {keeper}'}")
        _signal(keeper, signal.SIGTERM)
        began = time.monotonic()
        while holder(data_dir) == keeper:
            steps.show()
            steps.tell("waiting for runs under way", began)
            if time.monotonic() - began > DOWN_S:
                late = f"did not end within {DOWN_S:.0f} s"
                say(f"  it {late} and is killed; its runs resume next time")
                _signal(keeper, signal.SIGKILL)
                began = time.monotonic()
            time.sleep(POLL_S)
        steps.show()
    with sole_node(data_dir):  # nobody starts one meanwhile
        mark = mark_of(data_dir)
        left = end_all(lambda: marked(mark), KILL_S)
        if left:
            say(f"  ended what a killed node left running: processes {', '.join(map(str, left))}")
        node_file(data_dir).unlink(missing_ok=True)
        if embedded.process(data_dir) is None:
            return keeper is not None or bool(left)
        say("  stopping Postgres")  # it outlived its node
        embedded.stop(data_dir, progress=lambda line: say(f"  {line}"))
        return True


def dashboard_address(settings: Settings, node: NodeRecord) -> str:
    """The address of the dashboard with a token that opens it once."""
    gateway = Gateway(node.commands_url, read_service_key(settings))
    return node.url + gateway.call("POST", "/internal/login")["path"]


def nobody_may_sign_in(settings: Settings, node: NodeRecord) -> bool:
    """Whether people sign in here, and nobody was added yet; False where that cannot be told."""
    gateway = Gateway(node.url, read_service_key(settings))
    try:
        return not gateway.get("/internal/people", {"limit": "1"})["items"]
    except Failure:  # they sign in elsewhere
        return False


class Steps:
    """The steps a node logs, shown as they come."""

    def __init__(self, log: Path, offset: int) -> None:
        self._log, self._offset = log, offset
        self._rest = b""
        self.lines: list[str] = []
        self.said_at = time.monotonic()

    def show(self) -> None:
        """Say the steps that were logged since the last call."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return
        self._offset += len(fresh)
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        for line in (raw.decode("utf-8", "replace") for raw in whole):
            if line.startswith(STEP):
                say(f"  {line.removeprefix(STEP)}")
                self.said_at = time.monotonic()
            elif line.strip():
                self.lines = [*self.lines, line][-LAST_LINES:]

    def tell(self, what: str, began: float) -> None:
        """Say what is waited for when nothing was said for a while."""
        now = time.monotonic()
        if now - self.said_at >= TELL_EVERY_S:
            self.said_at = now
            say(f"  {what} ({now - began:.0f} s)")


def _wait_until_well(
    process: "subprocess.Popen[bytes]", settings: Settings, steps: Steps
) -> NodeRecord:
    """Wait while it lives: the recovery of a large database takes its time."""
    began = time.monotonic()
    answered_at: float | None = None
    while True:
        ended = process.poll()
        steps.show()
        if ended is not None:
            _raise_as_it_said(steps, ended, Path(settings.data_dir))
        node = read_node(settings.data_dir)
        is_ours = node is not None and node.pid == process.pid
        health = Gateway(node.commands_url, None).health() if node and is_ours else None
        if node is not None and health is not None:
            answered_at = answered_at or time.monotonic()
            if health.get("ok") is True:
                return node
            if time.monotonic() - answered_at > UNWELL_S:
                problems = "; ".join(map(str, health.get("problems", [])))
                raise Failure(f"it runs on {node.url} but is not well: {problems}", FAILED)
        steps.tell("still starting", began)
        time.sleep(POLL_S)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as exc:
        raise Failure(f"process {pid} belongs to another user", UNREACHABLE) from exc


@contextmanager
def _one_at_a_time(data_dir: Path) -> Generator[None]:
    """Hold off a second `mana up`; it finds the node running when its turn comes."""
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  another mana up is starting it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
