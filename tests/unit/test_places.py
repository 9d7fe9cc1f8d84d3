"""Machines and terminals that differ: each answer is one line, or the right one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli import run
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE

MANA = (sys.executable, "-c", "from mana_actors.command import main; main()")


def mana(
    *args: str | bytes, before: tuple[str, ...] = (), **env: str | None
) -> subprocess.CompletedProcess[bytes]:
    """What the command says, in an environment that differs from ours by `env`."""
    whole = {k: v for k, v in os.environ.items() if not k.startswith("MANA_")}
    for name, value in env.items():
        whole.pop(name, None)
        if value is not None:
            whole[name] = value
    return subprocess.run(
        [*before, *MANA, *args], env=whole, capture_output=True, check=False, cwd="/"
    )


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    error = done.stderr.decode()
    assert error.startswith("mana: "), error
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["up"], "/proc/nothing"),
        (["up"], "{file}"),
        (["up", "--foreground"], "{file}/x"),
        (["doctor"], "{file}"),
        (["snapshots", "verify"], "/proc/nothing"),
        (["status"], "{file}"),
        (["logs"], "{file}/x"),
        (["keys", "new"], "/proc/nothing"),
    ],
)
def test_a_folder_that_cannot_be_is_one_line(command: list[str], place: str, tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    done = mana(*command, "--data-dir", place.format(file=file))
    assert done.returncode in (FAILED, UNREACHABLE)
    one_line(done)


def test_nothing_runs_where_there_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    done = mana("down", "--data-dir", str(tmp_path / "file"))
    assert done.returncode == 0
    assert b"nothing ran on" in done.stderr


@pytest.mark.parametrize("command", ["status", "up"])
def test_without_a_home_a_folder_has_to_be_named(command: str):
    if os.geteuid() != 0:
        pytest.skip("only root may become a user without an entry")
    code = (
        "import os, runpy\n"
        "from mana_actors.command import main\n"
        "import supervisor.cli.commands.app, supervisor.cli.environment, supervisor.cli.database\n"
        "import supervisor.cli.gateway_client, supervisor.cli.up_down, httpx2, pydantic\n"
        "os.setgid(54321); os.setuid(54321); os.environ.pop('HOME', None)\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, check=False, cwd="/"
    )
    assert done.returncode == FAILED
    assert "--data-dir" in one_line(done)


@pytest.mark.parametrize("args", [("version",), ("migrate", "--print-sql"), ("--help",)])
def test_a_reader_that_leaves_is_no_error(args: tuple[str, ...]):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*MANA, *args], stdout=writer, stderr=subprocess.PIPE, check=False, cwd="/"
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_output_is_no_error():
    shell = ("/bin/sh", "-c", '"$@" >&-', "sh")
    done = mana("version", before=shell)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", [("version",), ("migrate", "--print-sql")])
def test_a_full_disk_under_the_output_is_one_line(args: tuple[str, ...]):
    done = mana(*args, before=("/bin/sh", "-c", '"$@" >/dev/full', "sh"))
    assert done.returncode == FAILED
    assert "No space left" in one_line(done)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_letter_shows_another(encoding: str):
    done = mana("--help", PYTHONIOENCODING=encoding, LANG=None, LC_ALL=None)
    assert done.returncode == 0
    done = mana("pause", "żółw…", PYTHONIOENCODING=encoding, LANG=None, LC_ALL="C")
    assert done.returncode == USAGE
    assert done.stderr.startswith(b"mana: ")


def test_an_argument_that_is_no_text_is_one_line():
    done = mana("agents", "show", b"a\xff/b", "--url", "http://127.0.0.1:1", HOME="/nonexistent")
    assert done.returncode in (USAGE, FAILED)
    one_line(done)


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("supervisor.cli.gateway_client.gateway", interrupted)
    assert run(["status"]) == 130


def installed_beside(folder: Path) -> None:
    """What another distribution of the name leaves when it is installed after us."""
    (folder / "supervisor").mkdir(parents=True)
    (folder / "supervisor" / "__init__.py").write_text("#\n")
    info = folder / "supervisor-4.2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: supervisor\nVersion: 4.2.5\n")
    (info / "RECORD").write_text("supervisor/__init__.py,,\n")
    (info / "top_level.txt").write_text("supervisor\n")


def test_another_distribution_in_our_place_is_named(tmp_path: Path):
    installed_beside(tmp_path)
    for args in (["version"], ["up"]):
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {MANA[2]}"
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, check=False, cwd="/"
        )
        assert done.returncode == FAILED
        said = one_line(done)
        assert "of supervisor (" in said
        assert "environment of its own" in said


def test_another_distribution_beside_us_stops_the_start(tmp_path: Path):
    installed_beside(tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / "supervisor")  # ours came later
    done = mana("up", "--data-dir", str(tmp_path / "data"), PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == FAILED
    assert "supervisor has files in the package supervisor" in one_line(done)


def test_a_folder_of_the_callers_that_has_our_name_is_told(tmp_path: Path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    done = mana("version", PYTHONPATH=str(tmp_path))
    assert done.returncode == FAILED
    assert str(tmp_path / "state") in one_line(done)
