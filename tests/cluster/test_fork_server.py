"""The fork server and a worker's first moments, with stand-ins for the raylet and its script."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mana_actors.fork_server import variables
from mana_actors.fork_server.request import ARGUMENTS, StartRequest
from tests.node import wait_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPT = HERE / "fake_ray" / "default_worker.py"
PATIENT_S = 60.0

Facts = dict[str, Any]
Change = Callable[[list[str]], list[str]]


def _as_it_is(command: list[str]) -> list[str]:
    return command


def _with(text: str) -> Change:
    """The command with one more argument, or another value for one."""
    name = text.partition("=")[0]

    def changed(command: list[str]) -> list[str]:
        if not any(a.startswith(name) for a in command):
            return [*command, text]
        return [text if a.startswith(name) else a for a in command]

    return changed


def _without_webui(command: list[str]) -> list[str]:
    return [a for a in command if not a.startswith("--webui")]


def _in_another_order(command: list[str]) -> list[str]:
    return [command[0], command[2], command[1], *command[3:]]


class Raylet:
    """A stand-in for a raylet, with a folder of its own; `code` has another copy of ours."""

    def __init__(self, folder: Path, code: Path = ROOT) -> None:
        self.forks, self.out, self._code = folder / "forks", folder / "out", code
        self.out.mkdir(exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MANA_"))}
        ours = variables(self.forks, str(code))
        on_path = str(code / "mana_actors" / "fork_server" / "on_path")
        ours["PYTHONPATH"] = os.pathsep.join([on_path, str(code)])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fake_ray" / "raylet.py")],
            env=inherited | ours | {"FAKE_RAY_OUT": str(self.out), "RAY_AUTH_MODE": "disabled"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        self.pid = self._process.pid
        self._made = 0

    def spawn(
        self,
        change: Change = _as_it_is,
        **env: str,
    ) -> str:
        """Start a worker; its id."""
        self._made += 1
        name = f"w{self._made}"
        own = {"--worker-id": name, "--runtime-env-hash": "0"}
        command = [str(SCRIPT), *(f"{a}={own.get(a, 'x')}" for a in ARGUMENTS)]
        asked = {"command": change(command), "env": env, "output": str(self.out / f"{name}.log")}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()
        return name

    def processes_of(self, name: str) -> list[Facts]:
        """Every process that went on as this worker."""
        return [json.loads(p.read_text()) for p in self.out.glob(f"{name}.*") if p.suffix != ".log"]

    def facts(self, name: str) -> Facts:
        """Where a worker runs, as soon as it says so."""
        (one,) = wait_for(lambda: self.processes_of(name), f"worker {name}", PATIENT_S)
        return one

    def start(
        self,
        change: Change = _as_it_is,
        **env: str,
    ) -> Facts:
        """Start a worker and wait for it."""
        return self.facts(self.spawn(change, **env))

    def servers(self) -> list[int]:
        """The live fork servers of this folder."""
        workers = {path.suffix[1:] for path in self.out.iterdir()}
        return [p for p in _live() if str(p) not in workers and self._is_server(p)]

    def _is_server(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            is_ours = f"MANA_FORK_DIR={self.forks}".encode() in environment
            return is_ours and b"mana_actors.fork_server" in command and _parent(pid) == 1
        return False

    def serve(self) -> int:
        """Have a server started; its pid once it answers."""
        self.first = self.start()
        wait_for((self.forks / "socket").exists, "a server that answers", PATIENT_S)
        (server,) = self.servers()
        return server

    def forget_launch(self) -> None:
        """As if the last server had been started long ago."""
        os.utime(self.forks / "lock", (0, 0))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def close(self) -> None:
        self.kill()
        for path in self.out.iterdir():
            if path.suffix.removeprefix(".").isdigit():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.suffix[1:]), signal.SIGKILL)
        for server in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)


def _live() -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _state(pid) not in ("Z", "X", None)]


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_gone(pid: int) -> bool:
    """Also a zombie is there: Ray asks by the number."""
    return _state(pid) is None


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[Raylet]:
    made = Raylet(tmp_path)
    yield made
    made.close()


def test_the_first_worker_starts_as_ray_would_and_later_ones_are_forks(raylet: Raylet):
    first = raylet.start()
    assert not first["is_fork"]
    assert first["ppid"] == raylet.pid
    wait_for((raylet.forks / "socket").exists, "a server that answers", PATIENT_S)
    (server,) = raylet.servers()
    later = raylet.start()
    assert later["is_fork"]
    assert later["ppid"] == server


def test_a_server_outlives_the_worker_that_started_it(raylet: Raylet):
    server = raylet.serve()
    assert raylet.first["group"] != server
    os.killpg(raylet.first["group"], signal.SIGKILL)  # as Ray ends a worker
    wait_for(lambda: _is_gone(raylet.first["pid"]), "the worker's end", PATIENT_S)
    assert raylet.start()["ppid"] == server


def test_a_fork_is_as_the_worker_that_ray_started(raylet: Raylet):
    first = raylet.start(RAY_JOB_ID="ffffffff")
    wait_for((raylet.forks / "socket").exists, "a server that answers", PATIENT_S)
    fork = raylet.start(RAY_JOB_ID="01000000")
    assert fork["is_fork"]
    assert fork["name"] == first["name"] == "__main__"
    for same in ("path", "folder", "session", "oom", "collects", "children_are_reaped_by_us"):
        assert fork[same] == first[same], same
    assert fork["children_are_reaped_by_us"]
    assert fork["collects"]
    assert fork["threads"] == 1
    assert fork["further_files"] == first["further_files"]
    assert fork["argv"] == [a.replace("=w1", "=w2") for a in first["argv"]]
    assert fork["command"] == [a.replace("=w1", "=w2") for a in first["command"]]
    assert fork["files"] == [f.replace("w1.log", "w2.log") for f in first["files"]]
    # Which Ray's import sets, in any worker.
    assert fork["environment"].pop("RAY_CLIENT_MODE") == "0"
    assert fork["environment"] == first["environment"] | {"RAY_JOB_ID": "01000000"}
    # Ray ends a worker's whole group with it.
    assert fork["group"] == fork["pid"]


def test_forks_draw_other_numbers(raylet: Raylet):
    raylet.serve()
    drawn = [draw for _ in range(3) for draw in raylet.start()["drawn"]]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("change", "env"),
    [
        (_with("--node-id=other"), {}),
        (_with("--runtime-env-hash=7"), {}),
        (_with("--enable-resource-isolation=true"), {}),
        (_without_webui, {}),
        (_in_another_order, {}),
        (_as_it_is, {"RAY_AUTH_MODE": "token"}),
        (_as_it_is, {"LD_PRELOAD": ""}),
    ],
    ids=["argument", "runtime-env", "more", "fewer", "order", "environment", "more-environment"],
)
def test_what_was_not_tried_starts_as_ray_would(
    raylet: Raylet, change: Change, env: dict[str, str]
):
    raylet.serve()
    assert not raylet.start(change, **env)["is_fork"]
    assert raylet.start()["is_fork"]


def test_of_many_first_workers_one_starts_a_server(raylet: Raylet):
    names = [raylet.spawn() for _ in range(6)]
    facts = [raylet.facts(name) for name in names]
    wait_for((raylet.forks / "socket").exists, "a server that answers", PATIENT_S)
    assert len(raylet.servers()) == 1
    assert {one["ppid"] for one in facts} <= {raylet.pid, *raylet.servers()}
    assert raylet.start()["is_fork"]


def test_many_at_once_are_each_one_process(raylet: Raylet):
    raylet.serve()
    names = [raylet.spawn() for _ in range(12)]
    facts = [raylet.facts(name) for name in names]
    assert all(one["is_fork"] for one in facts)
    assert len({one["pid"] for one in facts}) == len(names)
    assert all(len(raylet.processes_of(name)) == 1 for name in names)


def test_a_server_that_was_killed_is_started_again(raylet: Raylet):
    server = raylet.serve()
    fork = raylet.start()
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not raylet.servers(), "the server's end", PATIENT_S)
    assert not raylet.start()["is_fork"]
    assert raylet.servers() == []  # it was started a moment ago: perhaps it ends at once each time
    raylet.forget_launch()
    assert not raylet.start()["is_fork"]
    wait_for(lambda: len(raylet.servers()) == 1, "another server", PATIENT_S)
    wait_for(lambda: raylet.start()["is_fork"], "another fork", PATIENT_S)
    assert not _is_gone(fork["pid"])  # what was forked before lives on


def test_a_stopped_server_delays_a_worker_and_makes_no_second_one(raylet: Raylet):
    server = raylet.serve()
    os.kill(server, signal.SIGSTOP)
    raylet.forget_launch()
    name = raylet.spawn()
    assert not raylet.facts(name)["is_fork"]
    assert raylet.servers() == [server]  # it lives, so there is no second one
    os.kill(server, signal.SIGCONT)
    assert raylet.start()["is_fork"]  # asked after the other, and they are served in order
    wait_for(lambda: len(_children(server)) == 1, "the end of the fork that came late", PATIENT_S)
    assert len(raylet.processes_of(name)) == 1


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for other in _live():
        with contextlib.suppress(OSError):
            if _parent(other) == pid:
                found.append(other)
    return found


def _asked(raylet: Raylet, name: str) -> socket.socket:
    """A connection on which a fork for this worker was asked for, as far as its first answer."""
    like = raylet.first
    command = [f"--worker-id={name}" if "--worker-id" in a else a for a in like["command"]]
    request = StartRequest(command, like["environment"], like["folder"])
    raw = request.to_wire()
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENT_S)
    connection.connect(str(raylet.forks / "socket"))
    socket.send_fds(connection, [len(raw).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(raw)
    return connection


def test_a_fork_that_nobody_tells_to_go_on_is_no_worker(raylet: Raylet):
    server = raylet.serve()
    with _asked(raylet, "w99") as connection:
        assert connection.recv(1) == b"r"
        assert len(_children(server)) == 1
    wait_for(lambda: not _children(server), "the end of the other fork", PATIENT_S)
    assert raylet.processes_of("w99") == []


@pytest.mark.parametrize("raw", [b"", b"\0\0\0\5wrong", b"\xff\xff\xff\xff", b"\0\0\0\1"])
def test_nonsense_ends_the_fork_and_not_the_server(raylet: Raylet, raw: bytes):
    server = raylet.serve()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENT_S)
        connection.connect(str(raylet.forks / "socket"))
        if raw:
            socket.send_fds(connection, [raw], [0, 1, 2])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert raylet.start()["is_fork"]
    assert raylet.servers() == [server]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_nobody_else_is_served(raylet: Raylet):
    raylet.serve()
    for folder in (raylet.forks, *list(raylet.forks.parents)[:-2]):
        folder.chmod(0o755)
    (raylet.forks / "socket").chmod(0o777)
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setuid(65534)
            with _asked(raylet, "w99") as connection:
                os.write(say, b"answer " + connection.recv(1))
        os._exit(0)
    os.close(say)
    os.waitpid(child, 0)
    with os.fdopen(ready, "rb") as said:
        assert said.read() in (b"answer ", b"")
    assert raylet.processes_of("w99") == []


def test_a_folder_that_others_may_write_to_is_not_used(raylet: Raylet):
    raylet.forks.mkdir(mode=0o755)
    raylet.forks.chmod(0o777)
    assert not raylet.start()["is_fork"]
    assert list(raylet.forks.iterdir()) == []


def test_a_dead_fork_is_gone_and_not_a_zombie(raylet: Raylet):
    raylet.serve()
    fork = raylet.start()["pid"]
    os.kill(fork, signal.SIGKILL)
    wait_for(lambda: _is_gone(fork), "the end of the fork", PATIENT_S)


def test_the_server_ends_with_its_raylet(raylet: Raylet):
    server = raylet.serve()
    raylet.kill()
    wait_for(lambda: server not in _live(), "the server's end", PATIENT_S)
    assert not (raylet.forks / "socket").exists()


def test_forks_end_with_their_raylet_also_where_nobody_reaps_it(raylet: Raylet):
    raylet.serve()
    fork = raylet.start()["pid"]
    os.kill(raylet.pid, signal.SIGKILL)  # its parent, this test, lets it lie
    wait_for(lambda: fork not in _live(), "the end of the fork", PATIENT_S)
    assert _state(raylet.pid) == "Z"


def test_the_server_holds_no_connection_and_one_thread(raylet: Raylet):
    server = raylet.serve()
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    files = [str(p.readlink()) for p in Path(f"/proc/{server}/fd").iterdir()]
    assert sum(where.startswith("socket:") for where in files) == 1
    assert len(files) == 7  # three standard ones, lock, raylet, folder, listener


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Another copy of the code, which may be changed."""
    for package in ("state", "mana_actors"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=ignored)
    return tmp_path / "code"


def test_code_that_was_changed_is_never_forked(tmp_path: Path, copied: Path):
    raylet = Raylet(tmp_path, copied)
    try:
        server = raylet.serve()
        assert raylet.start()["is_fork"]
        time.sleep(0.01)  # a file's time has a grain
        (copied / "mana_actors" / "messages.py").touch()
        assert not raylet.start()["is_fork"]
        wait_for(lambda: server not in _live(), "the server's end", PATIENT_S)
        raylet.forget_launch()
        raylet.start()
        wait_for(lambda: raylet.start()["is_fork"], "a fork of the new code", PATIENT_S)
    finally:
        raylet.close()


def test_another_ray_is_never_forked(tmp_path: Path, copied: Path):
    here = copied / "mana_actors" / "fork_server" / "__init__.py"
    here.write_text(here.read_text().replace('TRIED = "2.60.0"', 'TRIED = "2.59.0"'))
    raylet = Raylet(tmp_path, copied)
    try:
        raylet.start()
        assert (raylet.forks / "lock").exists()
        wait_for(lambda: not raylet.servers(), "the server's end", PATIENT_S)
        assert not raylet.start()["is_fork"]
        assert not (raylet.forks / "socket").exists()
        assert "Ray 2.60.0 was not tried, 2.59.0 was" in (raylet.out / "w1.log").read_text()
    finally:
        raylet.close()


def test_another_sitecustomize_still_runs(raylet: Raylet, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import os\nos.environ['SAID'] = 'both'\n")
    path = os.pathsep.join([str(ROOT / "mana_actors/fork_server/on_path"), str(ROOT), str(other)])
    assert raylet.start(PYTHONPATH=path)["environment"]["SAID"] == "both"
