"""A node on a machine with a second OS user, who gets nothing of it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from state.private_files import short_folder
from state.store import embedded
from state.store.embedded.postmaster import recorded
from supervisor.node.address import read_node
from supervisor.node.keeper.processes import descendants, mark_of, marked
from tests.canary import ENDED, shown_of
from tests.postgres import new_folder

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may act as a second user of the machine"
)

SECOND_USER = 54_321
PROGRAM = Path(__file__).with_name("second_user.py")
MANA = (sys.executable, "-P", "-c", "from supervisor.cli import main; main()")
LISTENS = "0A"


class Installation(msgspec.Struct, frozen=True):
    """A node with an embedded Postgres, as `mana up` leaves it."""

    root: Path

    def mana(self, *args: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """A command, by somebody whose own files everybody may read and write."""
        ours = ("MANA_", "RAY_", "SYNC_", "PORT")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return subprocess.run(
            [*MANA, *args, "--data-dir", str(self.root)],
            env=inherited | {"PORT": "0", "MANA_WARM_POOL": "1"} | more,
            capture_output=True,
            text=True,
            check=False,
            umask=0,
        )

    def processes(self) -> set[int]:
        """All that belong to it, Postgres' too."""
        node, postgres = read_node(self.root), recorded(self.root / "postgres" / "data")
        assert node is not None
        assert postgres is not None
        tree = {node.pid, postgres.pid} | descendants(node.pid) | descendants(postgres.pid)
        return tree | marked(mark_of(self.root))

    def paths(self) -> list[str]:
        """Every file and folder it wrote, but for its copy of Postgres' programs."""
        found = [self.root, *self.root.rglob("*")]
        parts = [(path, path.relative_to(self.root).parts) for path in found]
        return [str(path) for path, part in parts if not (part and part[0].startswith("pg-"))]

    def attack(self, uid: int, token: str = "") -> dict[str, Any]:
        """What a user of the machine can do with it, who shows this token."""
        pids = self.processes()
        sockets = sockets_of(pids)
        inside, outside = self.paths(), unix_sockets(sockets)
        told = {
            "uid": uid,
            "token": token,
            "paths": [*inside, *(path for path in outside if path not in inside), *shared(pids)],
            "pids": sorted(pids),
            "ports": tcp_ports(sockets),
        }
        done = subprocess.run(
            [sys.executable, "-P", str(PROGRAM)],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def node() -> Iterator[Installation]:
    folder = new_folder()
    installation = Installation(folder / "data")
    try:
        up = installation.mana("up")
        assert up.returncode == 0, up.stderr
        yield installation
    finally:
        installation.mana("down")
        embedded.stop(installation.root, mode="immediate")
        shutil.rmtree(folder)


def test_another_user_of_the_machine_gets_nothing(node: Installation) -> None:
    got = node.attack(SECOND_USER)
    assert got["worked"] == []
    kinds = [told["kind"] for told in got["ports"].values()]
    assert set(kinds) == {"http", "grpc", "postgres"}, got["ports"]
    assert {port: told for port, told in got["ports"].items() if told["got"]} == {}
    assert all(told["refused"] for told in got["ports"].values() if told["kind"] == "grpc")
    assert json.loads(node.mana("status", "--json").stdout)["ok"] is True


def test_the_same_search_finds_everything_for_us(node: Installation) -> None:
    token = (node.root / "secrets" / "ray_token").read_text().strip()
    got = node.attack(0, token)
    worked = set(got["worked"])
    for name in ("secrets/ray_token", "secrets/postgres", "node.json", "postgres/mana.conf"):
        assert f"read {node.root / name}" in worked
    assert {f"connect {path}" for path in unix_sockets(sockets_of(node.processes()))} <= worked
    assert {f"read /proc/{pid}/environ" for pid in node.processes()} & worked
    grpc = [told for told in got["ports"].values() if told["kind"] == "grpc"]
    assert any(told["got"] for told in grpc), "a call with the token is answered"


def test_what_everybody_sees_of_the_processes_holds_no_secret(node: Installation) -> None:
    files = [path for path in (node.root / "secrets").rglob("*") if path.is_file()]
    secrets = {path.name: path.read_text().strip() for path in files}
    for pid in node.processes():
        shown = shown_of(pid, "cmdline").decode(errors="replace")
        assert [name for name, secret in secrets.items() if secret in shown] == []


def test_doctor_finds_nothing_open_and_names_what_is_opened(node: Installation) -> None:
    def files() -> dict[str, Any]:
        told = json.loads(node.mana("doctor", "--json").stdout)
        return next(one for one in told["checks"] if one["check"] == "files of ours")

    assert files()["ok"] is True, files()["detail"]
    node_file = node.root / "node.json"
    node_file.chmod(0o644)
    try:
        assert f"{node_file} can be read by others" in files()["detail"]
    finally:
        node_file.chmod(0o600)


@pytest.mark.parametrize("name", ["postgres", "ray", "keyholder"])
@pytest.mark.parametrize("is_link", [False, True], ids=["folder", "link"])
def test_a_folder_that_another_user_planted_is_refused_in_one_line(
    name: str, *, is_link: bool
) -> None:
    folder = new_folder()
    deep = Installation(folder / ("d" * 100))
    planted = short_folder(deep.root, name)
    if is_link:
        planted.symlink_to("/tmp")
    else:
        planted.mkdir()
        planted.chmod(0o777)
    os.lchown(planted, SECOND_USER, SECOND_USER)
    try:
        up = deep.mana("up")
        assert up.returncode != 0
        *_, last = up.stderr.splitlines()
        assert str(planted) in last
        assert "Traceback" not in up.stderr
        assert planted.is_symlink() or not any(planted.iterdir()), "it was not used"
    finally:
        deep.mana("down")
        embedded.stop(deep.root, mode="immediate")
        planted.unlink() if is_link else planted.rmdir()
        for made in ("postgres", "ray", "keyholder"):
            shutil.rmtree(short_folder(deep.root, made), ignore_errors=True)
        shutil.rmtree(folder)


# --- what processes have open ---------------------------------------------------------------------


def sockets_of(pids: set[int]) -> set[str]:
    """The inodes of their sockets."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(*ENDED):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(*ENDED):  # closed since it was listed
                    target = str(entry.readlink())
                    if target.startswith("socket:["):
                        found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def tcp_ports(sockets: set[str]) -> list[int]:
    """Where they listen; each only on loopback."""
    ports: set[int] = set()
    for table, size in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            address, _, port = words[1].partition(":")
            if words[3] != LISTENS or words[9] not in sockets:
                continue
            last = socket.inet_ntoa(bytes.fromhex(address)[-4:][::-1])
            assert last == "127.0.0.1" or int(address, 16) == 1 << 24, (address, size)
            ports.add(int(port, 16))
    assert ports
    return sorted(ports)


def unix_sockets(sockets: set[str]) -> list[str]:
    """The paths of their listening Unix sockets; none is abstract, which has no owner."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    bound = {words[7] for words in lines if len(words) > 7 and words[6] in sockets}
    assert bound
    assert not [path for path in bound if path.startswith("@")]
    return sorted(path for path in bound if Path(path).exists())


def shared(pids: set[int]) -> list[str]:
    """What in shared memory, and in the folder for temporary files, belongs to these users."""
    owners = set[int]()
    for pid in pids:
        with contextlib.suppress(*ENDED):
            owners.add(Path(f"/proc/{pid}").stat().st_uid)
    found = [*Path("/dev/shm").glob("plasma*"), *Path("/dev/shm").glob("PostgreSQL.*")]
    return [str(path) for path in found if path.stat().st_uid in owners]
