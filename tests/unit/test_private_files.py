"""Folders that are ours alone: what is made, and what others put in their place is refused."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mana_actors.crash import keep_to_ourselves
from state import private_files
from state.private_files import (
    FolderNotOurs,
    open_to_others,
    own_root,
    private_folder,
    socket_folder,
)

SOMEBODY = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
OWN = 0o711 if os.geteuid() == 0 else 0o700


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is made has its mode whatever the umask is."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_private_folder_is_for_us_alone_and_found_again(tmp_path: Path):
    for _ in range(2):
        private_folder(tmp_path / "ours")
        assert mode(tmp_path / "ours") == 0o700


def test_a_link_in_place_of_a_private_folder_is_refused(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "ours").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderNotOurs, match="ours is no folder"):
        private_folder(tmp_path / "ours")


@pytest.mark.parametrize("open_mode", [0o701, 0o710, 0o720, 0o702, 0o777, 0o1777])
def test_an_open_folder_in_its_place_is_refused(tmp_path: Path, open_mode: int):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours").chmod(open_mode)
    with pytest.raises(FolderNotOurs, match="open to others"):
        private_folder(tmp_path / "ours")


@as_root
def test_a_folder_of_somebody_else_in_its_place_is_refused(tmp_path: Path):
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "ours").chmod(0o700)
    os.chown(tmp_path / "ours", SOMEBODY, SOMEBODY)
    with pytest.raises(FolderNotOurs, match="another user"):
        private_folder(tmp_path / "ours")


def test_a_data_directory_is_made_with_what_lacks_above_it(tmp_path: Path):
    own_root(tmp_path / "a" / "b" / "data")
    for made in ("a", "a/b", "a/b/data"):
        assert mode(tmp_path / made) == OWN, made


def test_an_empty_data_directory_is_taken_over_and_a_used_one_left_as_it_is(tmp_path: Path):
    empty, used = tmp_path / "empty", tmp_path / "used"
    for folder in (empty, used):
        folder.mkdir()
        folder.chmod(0o755)
    (used / "of-the-operator").touch()
    own_root(empty)
    own_root(used)
    assert (mode(empty), mode(used)) == (OWN, 0o755)


@pytest.mark.parametrize("open_mode", [0o775, 0o757, 0o1777])
def test_a_data_directory_that_others_write_is_refused_with_the_remedy(
    tmp_path: Path, open_mode: int
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(open_mode)
    with pytest.raises(FolderNotOurs, match=r"data can be written by others: chmod go-w"):
        own_root(tmp_path / "data")


@as_root
def test_a_data_directory_of_somebody_else_is_refused_also_behind_their_link(tmp_path: Path):
    own_root(tmp_path / "ours")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    own_root(tmp_path / "link")
    os.lchown(tmp_path / "link", SOMEBODY, SOMEBODY)
    os.chown(tmp_path / "ours", 0, 0)
    with pytest.raises(FolderNotOurs, match="another user"):
        own_root(tmp_path / "link")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", SOMEBODY, SOMEBODY)
    with pytest.raises(FolderNotOurs, match="another user"):
        own_root(tmp_path / "theirs")


@pytest.mark.parametrize("odd", ["line\nbreak", "not\udcffutf-8", "bell\a"])
def test_a_data_directory_that_programs_could_misread_is_one_line(tmp_path: Path, odd: str):
    with pytest.raises(FolderNotOurs, match="has a line break or what is no text") as told:
        own_root(tmp_path / odd)
    assert str(told.value).isprintable()
    assert list(tmp_path.iterdir()) == []
    own_root(tmp_path / "with a blank")


def test_a_data_directory_that_cannot_be_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    for impossible in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing")):
        with pytest.raises(FolderNotOurs, match="--data-dir") as refused:
            own_root(impossible)
        assert "\n" not in str(refused.value)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the place of /tmp, in which no socket's path is too long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(private_files, "SHORT_BASE", folder)
        yield Path(folder)


@pytest.mark.parametrize("characters", range(1, 250, 8))
def test_sockets_fit_wherever_the_data_directory_is(short: Path, characters: int):
    name = "/long-enough-name"
    folder = socket_folder(short / ("d" * characters), "ray", len(name))
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{folder}{name}")


def test_two_data_directories_never_share_a_short_folder(tmp_path: Path):
    names = {socket_folder(tmp_path / (letter * 120), "ray", 10) for letter in "ab"}
    assert len(names | {socket_folder(tmp_path / ("a" * 120), "keyholder", 10)}) == 3


@pytest.mark.parametrize("odd", ["a b", "é", "a,b", "o'd", 'o"d', "50%", "a\\b", "a\nb"])
def test_a_path_that_some_program_cannot_take_holds_no_sockets(odd: str):
    root = Path("/data", odd)
    folder = socket_folder(root, "ray", 10)
    assert root not in folder.parents
    assert str(folder).isascii()
    assert socket_folder(Path("/data/plain-1.x_y"), "ray", 10) == Path("/data/plain-1.x_y/ray")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with what a node writes, each with its right mode."""
    root = tmp_path / "data"
    own_root(root)
    for folder in ("secrets", "logs", "ray"):
        private_folder(root / folder)
    (root / "ray" / "t").mkdir()
    (root / "ray" / "t").chmod(0o777)  # as Ray does
    (root / "pg-18").mkdir()
    (root / "pg-18").chmod(0o755)
    for name in ("node.json", "secrets/key", "logs/node.log", "pg-18/postgres"):
        (root / name).touch()
        (root / name).chmod(0o755 if name.startswith("pg-") else 0o600)
    (root / "link").symlink_to("node.json")
    return root


def told(data: Path) -> list[str]:
    return list(open_to_others(data, unseen=[data / "ray" / "t"], public=[data / "pg-18"]))


def test_nothing_is_said_of_what_is_as_a_node_wrote_it(data: Path):
    assert told(data) == []


@pytest.mark.parametrize(
    ("name", "open_mode", "problem"),
    [
        ("secrets/key", 0o604, "can be read by others: chmod go-r"),
        ("secrets/key", 0o602, "can be written by others: chmod go-w"),
        ("node.json", 0o660, "can be written by others: chmod go-w"),
        ("logs", 0o755, "can be read by others: chmod go-r"),
        ("logs", 0o733, "can be written by others: chmod go-w"),
        ("ray", 0o755, "can be read by others: chmod go-r"),
        ("pg-18/postgres", 0o775, "can be written by others: chmod go-w"),
        (".", 0o777, "can be written by others: chmod go-w"),
    ],
)
def test_what_others_reach_is_named(data: Path, name: str, open_mode: int, problem: str):
    (data / name).chmod(open_mode)
    assert told(data) == [f"{data / name} {problem}"]


@pytest.mark.parametrize("name", ["secrets", "secrets/key", "ray", "link"])
@as_root
def test_what_is_somebody_elses_is_named(data: Path, name: str):
    os.lchown(data / name, SOMEBODY, SOMEBODY)
    assert told(data) == [f"{data / name} belongs to another user ({SOMEBODY})"]


@as_root
def test_the_account_of_postgres_may_have_its_part(data: Path):
    for folder in ("postgres", "postgres/data"):
        (data / folder).mkdir(mode=0o700)
        (data / folder).chmod(0o700)
    os.chown(data / "postgres" / "data", SOMEBODY, SOMEBODY)
    (data / "postgres" / "mana.conf").touch(mode=0o600)
    (data / "postgres" / "mana.conf").chmod(0o640)
    os.chown(data / "postgres" / "mana.conf", 0, SOMEBODY)
    assert told(data) == []


def test_a_folder_above_that_others_write_is_named(data: Path):
    data.parent.chmod(0o777)
    (line,) = told(data)
    assert line.startswith(f"{data.parent} lets others")
    data.parent.chmod(0o1777)
    assert told(data) == []


def test_of_very_many_files_the_rest_is_said_not_to_be_looked_at(
    data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(private_files, "LOOK_AT_MOST", 1)
    (line,) = told(data)
    assert "not looked at" in line


def test_what_a_process_of_ours_writes_is_for_us_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        keep_to_ourselves()
        (tmp_path / "file").touch(mode=0o666)
        (tmp_path / "folder").mkdir(mode=0o777)
    finally:
        os.umask(before)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (0o600, 0o700)
