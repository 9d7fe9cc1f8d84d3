"""What a node's keeper rests on: one node per folder, and processes that are found and ended."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli import run
from supervisor.cli.failures import UNREACHABLE
from supervisor.health.ray_guard import SILENT_LOOKS, RayGuard
from supervisor.health.ray_life import RayLife
from supervisor.node.address import running_node, write_node
from supervisor.node.keeper.life import Life
from supervisor.node.keeper.processes import MARK, descendants, end_all, mark_of, marked
from supervisor.node.keeper.sole import LOCK, AlreadyRuns, holder, sole_node
from supervisor.node.keeper.state import MOST_RESTARTS, NodeState, read_state, write_state
from tests.node import wait_for

HOLDS = """
import sys, time
from supervisor.node.keeper.sole import sole_node
with sole_node(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""
TREE = """
import subprocess, sys, time
sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
below = subprocess.Popen(sleeps, start_new_session=True)
print(below.pid, flush=True)
if len(sys.argv) == 1:
    time.sleep(600)
"""
BOUND = """
import os, sys, time
from supervisor.node.keeper.processes import end_with_parent
if os.fork() == 0:
    end_with_parent(os.getppid())
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""
ADOPTS = """
import os, subprocess, sys
from supervisor.node.keeper.processes import adopt_orphans, descendants, end_all
adopt_orphans()
between = subprocess.Popen([sys.executable, "-c", sys.argv[1], "leaves"], stdout=subprocess.PIPE)
orphan = int(between.stdout.readline())
between.wait()
def left():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
    return descendants(os.getpid())
assert end_all(left, 10) == {orphan}, orphan
assert not os.path.exists(f"/proc/{orphan}")
"""


WORK = """
import os, subprocess, sys, time
from supervisor.node.keeper.processes import end_with_parent
end_with_parent(os.getppid())
starts, failing, tell = sys.argv[1], int(sys.argv[2]), int(sys.argv[-1])
with open(starts, "a") as file:
    file.write("x")
    file.flush()
    is_up = os.path.getsize(starts) > failing
over = subprocess.Popen(["true"])
over.wait()
os.write(tell, b"ready\\n" if is_up else f"Ray's raylet {over.pid}\\n".encode())
time.sleep(600)
"""
KEEPS = """
import asyncio, os, sys
from supervisor.node.keeper.__main__ import Keeper
from supervisor.node.keeper.sole import sole_node
from supervisor.node.settings import Settings
folder, work, failing = sys.argv[1:]
settings = Settings(data_dir=folder, secrets_dir=folder)
command = [sys.executable, "-c", work, f"{folder}/starts", failing]
with sole_node(folder):
    print(asyncio.run(Keeper(settings, command, os.environ).run()), flush=True)
"""


class Scripts:
    """Python programs of a test, ended with it."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """One that runs."""
        started = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._started.append(started)
        return started

    def close(self) -> None:
        for one in self._started:
            one.kill()
            one.communicate()


@pytest.fixture
def scripts() -> Iterator[Scripts]:
    """Where a test starts its programs."""
    made = Scripts()
    yield made
    made.close()


def line(process: "subprocess.Popen[str]") -> str:
    """What it prints next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    """Whether it ended; somebody may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_folder_has_one_node_and_says_which(tmp_path: Path, scripts: Scripts):
    first = scripts.start(HOLDS, str(tmp_path))
    assert line(first) == "held"
    assert holder(tmp_path) == first.pid
    with pytest.raises(AlreadyRuns, match=f"process {first.pid}"), sole_node(tmp_path):
        pass
    assert holder(tmp_path) == first.pid, "the second took nothing from the first"
    first.kill()
    first.wait()
    assert holder(tmp_path) is None
    with sole_node(tmp_path):
        assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o600


def test_a_number_that_went_to_another_process_is_no_node(tmp_path: Path):
    (tmp_path / LOCK).write_text(str(os.getpid()))
    write_node(tmp_path, os.getpid(), "http://127.0.0.1:1", "1")
    assert holder(tmp_path) is None
    assert running_node(tmp_path) is None


def test_who_only_asks_is_not_in_the_way_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("supervisor.node.keeper.sole.PATIENCE_S", 60.0)
    asks = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(asks, fcntl.LOCK_SH)
    (tmp_path / LOCK).write_text(str(os.getpid()))
    assert holder(tmp_path) is None, "two who ask see no node in each other"
    done = threading.Timer(0.3, os.close, [asks])
    done.start()
    with sole_node(tmp_path):
        assert holder(tmp_path) == os.getpid()
    done.join()


def test_what_a_killed_node_left_is_found_by_its_mark_and_ended(tmp_path: Path, scripts: Scripts):
    other = tmp_path / "other"
    other.mkdir()
    mine = scripts.start(TREE, **{MARK: mark_of(tmp_path)})
    theirs = scripts.start(TREE, **{MARK: mark_of(other)})
    below, spared = int(line(mine)), int(line(theirs))
    mine.kill()  # its child has a session of its own, and lives on
    mine.wait()
    assert end_all(lambda: marked(mark_of(tmp_path)), 10) == {below}
    assert is_gone(below)
    assert not is_gone(spared)
    assert end_all(lambda: marked(mark_of(other)), 10) == {theirs.pid, spared}


def test_a_process_does_not_end_its_own_ancestors(tmp_path: Path, scripts: Scripts):
    looks = (
        "import subprocess, sys\n"
        "look = 'import sys; from supervisor.node.keeper.processes import marked;"
        " print(marked(sys.argv[1]))'\n"
        "subprocess.run([sys.executable, '-c', look, sys.argv[1]], check=True)\n"
    )
    mark = mark_of(tmp_path)
    assert line(scripts.start(looks, mark, **{MARK: mark})) == "set()"


def test_orphans_of_the_work_are_its_keepers_to_end(scripts: Scripts):
    assert scripts.start(ADOPTS, TREE).wait(30) == 0


def test_a_process_bound_to_its_parent_ends_with_it(scripts: Scripts):
    parent = scripts.start(BOUND)
    bound = int(line(parent))
    assert bound in descendants(parent.pid)
    parent.send_signal(signal.SIGKILL)
    wait_for(lambda: is_gone(bound), "the end of the bound process")


def test_the_state_of_a_node_is_told_while_it_lives(tmp_path: Path, scripts: Scripts):
    keeper = scripts.start(HOLDS, str(tmp_path))
    assert line(keeper) == "held"
    first = NodeState.of(keeper.pid)
    write_state(tmp_path, first.now("restarting", "Ray's raylet (process 7) ended"))
    told = read_state(tmp_path)
    assert told is not None
    assert (told.phase, told.restarts, told.why[:12]) == ("restarting", 1, "Ray's raylet")
    assert told.now("up").restarts == 1
    for number in range(30):
        told = told.now("restarting", f"life {number} ended").now("up")
    assert [one.why for one in told.latest[:2]] == ["life 29 ended", "life 28 ended"]
    assert (len(told.latest), told.restarts) == (MOST_RESTARTS, 31), "the state stays small"
    keeper.kill()
    keeper.wait()
    assert read_state(tmp_path) is None


def test_commands_say_that_a_node_starts_again_and_why(
    tmp_path: Path, scripts: Scripts, capsys: pytest.CaptureFixture[str]
):
    keeper = scripts.start(HOLDS, str(tmp_path))
    assert line(keeper) == "held"
    write_node(tmp_path, keeper.pid, "http://127.0.0.1:1", "1")
    state = NodeState.of(keeper.pid).now("restarting", "Ray's raylet (process 7) ended")
    write_state(tmp_path, state)
    assert run(["status", "--data-dir", str(tmp_path)]) == UNREACHABLE
    assert "restarting, because Ray's raylet (process 7) ended" in capsys.readouterr().err


LOSES = r"""
import os, sys, time
os.write(int(sys.argv[2]), b"ready\nlost: Ray's raylet does not answer\n")
time.sleep(600)
"""


async def test_work_that_says_what_it_lost_is_over():
    ready = asyncio.Event()
    life = Life((sys.executable, "-c", LOSES), os.environ, on_ready=ready.set)
    try:
        ended = await asyncio.wait_for(life.over, 30)
    finally:
        os.kill(life.child, signal.SIGKILL)
        os.waitpid(life.child, 0)  # noqa: ASYNC222 - it is dead
    assert (ended.why, ready.is_set()) == ("Ray's raylet does not answer", True)


class Silent(RayLife):
    """Says what the test wrote down, look by look."""

    def __init__(self, said: list[bool]) -> None:
        self._said = said

    async def look(self) -> dict[str, str]:
        return {"raylet": "does not answer"} if self._said.pop(0) else {}


async def test_ray_is_lost_after_so_many_silent_looks_in_a_row():
    lost: list[str] = []
    looks = [True] * (SILENT_LOOKS - 1) + [False] + [True] * SILENT_LOOKS
    await RayGuard(Silent(looks), lost.append, every_s=0).run()
    assert (lost, looks) == (["does not answer"], [])


@pytest.mark.parametrize(("failing", "code"), [(2, "0"), (3, "1")])
def test_a_node_whose_ray_ends_while_it_starts_is_tried_thrice(
    tmp_path: Path, scripts: Scripts, failing: int, code: str
):
    keeper = scripts.start(KEEPS, str(tmp_path), WORK, str(failing))
    if code == "0":

        def is_up() -> bool:
            state = read_state(tmp_path)
            return state is not None and state.phase == "up"

        wait_for(is_up, "a node that is up")
        keeper.send_signal(signal.SIGTERM)
    said, _ = keeper.communicate(timeout=60)
    assert said.count("the node starts again") == 2
    assert said.splitlines()[-1] == code
    assert (tmp_path / "starts").read_text() == "xxx"
