"""`mana up` and `mana down` on an embedded installation, also where a part of it was killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from state.store import embedded
from supervisor.node.address import read_node
from supervisor.node.keeper import COMMAND
from supervisor.node.keeper.processes import MARK, mark_of
from tests.faults.scene import FAST
from tests.node import wait_for
from tests.ports import free_port
from tests.postgres import new_folder, remove_folder

PATIENCE_S = 240.0
WELL_S = 60.0


class Installation:
    """A data folder with a node that commands start and end, as people do."""

    def __init__(self) -> None:
        self.folder = new_folder()
        self.port = free_port()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MANA_", "RAY_"))}
        ours = {"MANA_DATA_DIR": str(self.folder), "PORT": str(self.port)}
        self.env = {**inherited, **FAST, **ours, "MANA_WARM_POOL": "1"}
        self._left: list[subprocess.Popen[bytes]] = []

    def mana(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One command, to its end."""
        return subprocess.run(
            [sys.executable, "-c", "from supervisor.cli import main; main()", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def up(self) -> str:
        """Start it; what was said."""
        done = self.mana("up")
        assert done.returncode == 0, done.stderr
        assert "mana is up" in done.stderr
        wait_for(self.is_well, "a node that is well", WELL_S)  # a busy one may miss a look
        return done.stderr

    @property
    def keeper(self) -> int:
        node = read_node(self.folder)
        assert node is not None
        return node.pid

    @property
    def postgres(self) -> int | None:
        return embedded.process(self.folder)

    def is_well(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=15).status_code == 200
        except httpx2.TransportError:
            return False

    def processes(self) -> dict[int, str]:
        """Every live process that names this folder in its command or its environment."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes()
                    told = words + (entry / "environ").read_bytes()
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if os.fsencode(self.folder) in told and state not in "ZX":
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode()
        return found

    def leave_behind(self) -> int:
        """A process that bears the node's mark and hears nothing of its end."""
        marked = self.env | {MARK: mark_of(self.folder)}
        left = subprocess.Popen(["sleep", "600"], env=marked, start_new_session=True)
        self._left.append(left)
        return left.pid

    def close(self) -> None:
        self.mana("down")
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for left in self._left:
            left.wait()
        remove_folder(self.folder)


@pytest.fixture
def installed() -> Iterator[Installation]:
    """Nothing runs there yet."""
    made = Installation()
    yield made
    made.close()


def test_what_commands_start_they_end_whatever_was_killed(installed: Installation) -> None:
    installed.up()
    keeper, postgres = installed.keeper, installed.postgres

    second = subprocess.run(
        COMMAND, env=installed.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert f"process {keeper}" in second.stderr
    assert installed.postgres == postgres, "a second node left the first one's Postgres alone"
    wait_for(installed.is_well, "a node that is well", WELL_S)

    assert installed.mana("down").returncode == 0
    assert installed.processes() == {}, "down returned when everything was gone"
    installed.up()

    stuck = installed.leave_behind()
    os.kill(installed.keeper, signal.SIGKILL)
    postgres = installed.postgres
    said = installed.up()
    assert re.search(f"an earlier node left running: processes .*\\b{stuck}\\b", said)
    assert installed.postgres == postgres

    assert postgres is not None
    os.kill(postgres, signal.SIGKILL)
    wait_for(lambda: installed.postgres not in (None, postgres), "another Postgres", WELL_S)
    wait_for(installed.is_well, "a node that is well", WELL_S)
    state = msgspec.json.decode((installed.folder / "node-state.json").read_bytes())
    assert state["restarts"] == 0, "its end is mended in place"

    installed.leave_behind()
    os.kill(installed.keeper, signal.SIGKILL)
    down = installed.mana("down")
    assert (down.returncode, installed.processes()) == (0, {})
    assert installed.mana("down").stderr == f"nothing ran on {installed.folder}\n"
