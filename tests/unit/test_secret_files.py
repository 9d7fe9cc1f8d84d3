"""Files of secrets: for us alone, whole or not at all, never overwritten by accident, durable."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from state import secret_files
from state.secret_files import (
    SecretEmpty,
    kept_secret,
    new_secret,
    replace_secret,
    write_new_secret,
)

Write = Callable[[Path, str], object]
WRITERS: tuple[Write, ...] = (write_new_secret, replace_secret)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("write", WRITERS)
def test_a_secret_and_the_folder_made_for_it_are_ours_alone(tmp_path: Path, write: Write):
    before = os.umask(0)
    try:
        write(tmp_path / "made" / "secret", "text")
    finally:
        os.umask(before)
    assert mode(tmp_path / "made") == 0o700
    assert mode(tmp_path / "made" / "secret") == 0o600
    assert (tmp_path / "made" / "secret").read_text() == "text\n"


def test_a_secret_that_is_there_is_overwritten_only_on_purpose(tmp_path: Path):
    path = tmp_path / "secret"
    assert write_new_secret(path, "first")
    assert not write_new_secret(path, "second")
    assert path.read_text() == "first\n"
    replace_secret(path, "third")
    assert path.read_text() == "third\n"


def test_a_kept_secret_is_made_once(tmp_path: Path):
    secret = kept_secret(tmp_path / "secret")
    assert len(secret) >= 43
    assert kept_secret(tmp_path / "secret") == secret


@pytest.mark.parametrize("nothing", ["", "\n", "  \n"])
def test_a_file_without_a_secret_is_never_believed(tmp_path: Path, nothing: str):
    (tmp_path / "secret").write_text(nothing)
    with pytest.raises(SecretEmpty, match="secret is empty: remove it"):
        kept_secret(tmp_path / "secret")


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_planted_in_the_way_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
):
    def guessed(_: int) -> str:
        return "guessed"

    monkeypatch.setattr(secret_files.secrets, "token_hex", guessed)
    theirs = tmp_path / "theirs"
    theirs.write_text("nothing")
    (tmp_path / f".secret.{os.getpid()}.guessed").symlink_to(theirs)
    with pytest.raises(FileExistsError):
        write(tmp_path / "secret", "text")
    assert theirs.read_text() == "nothing"
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_a_writer_killed_at_any_step_leaves_a_whole_secret_or_none(tmp_path: Path, write: Write):
    names = ("open", "fdopen", "fsync", "link", "rename", "replace", "unlink", "close")
    path, reached = tmp_path / "secret", 0
    while True:  # kills the writer at its first step, at its second, and so on
        path.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _write_until_step(write, path, names, reached)
        status = os.waitpid(child, 0)[1]
        assert not path.exists() or path.read_text() == "the whole text\n"
        if not os.WIFSIGNALED(status):
            break
        reached += 1
    assert os.WEXITSTATUS(status) == 0
    assert reached >= 4
    assert path.read_text() == "the whole text\n"


def _write_until_step(write: Write, path: Path, names: tuple[str, ...], last: int) -> None:
    """In a child: write, and be killed at the call of the system with this number."""
    calls = iter(range(1_000))

    def killing(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **named: object) -> object:
            if next(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        return call

    for name in names:
        setattr(os, name, killing(name))
    try:
        write(path, "the whole text")
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing of a test may go on in the child
        os._exit(1)


def test_of_many_that_write_at_once_one_is_told_that_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(_: Path) -> bool:
        return False

    path = tmp_path / "secret"
    monkeypatch.setattr(Path, "exists", never)  # all look before any has written
    texts = [new_secret() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(write_new_secret, [path] * 8, texts))
    assert told.count(True) == 1
    assert path.read_text().strip() == texts[told.index(True)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS)
def test_a_write_that_fails_leaves_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "secret", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", WRITERS)
def test_text_is_on_disk_before_it_has_its_name_and_the_name_on_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
):
    path = tmp_path / "secret"
    seen: list[tuple[str, bool]] = []

    def noted(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, path.exists()))

    monkeypatch.setattr(os, "fsync", noted)
    write(path, "text")
    assert seen == [("file", False), ("folder", True)]
