"""The search finds what is planted: in any encoding, in files, in the memory of a process."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import canary
from tests.canary import Hit

WORD, KEY = "mehlabcdefghijklmnop", bytes(range(40, 72))
TEXT, BYTES = canary.text_needle("text", WORD), canary.key_needle("key", KEY)
# Made of halves, so that the program's own text does not hold the word.
HALVES = f"'{WORD[:9]}' + '{WORD[9:]}'"
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "hex": lambda raw: raw.hex().encode(),
    "base64": base64.b64encode,
    "urlsafe": base64.urlsafe_b64encode,
}
PLANTS = {
    "as it is": f"kept = {HALVES}",
    "beside wide characters": f"kept = {HALVES} + '„“'",
    "beside an emoji": f"kept = {HALVES} + chr(0x1F382)",
    "as bytes": f"kept = ({HALVES}).encode()",
    "in freed memory": f"kept = ['x' * 2000 + {HALVES} for _ in range(500)]; del kept",
    "in shared memory": "import mmap, os; f = os.open('/dev/shm', os.O_TMPFILE | os.O_RDWR);"
    f" os.ftruncate(f, 8192); kept = mmap.mmap(f, 8192); kept[5000:5020] = ({HALVES}).encode()",
}


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_texts_and_keys_are_found_in_every_encoding(encoding: str, before: int) -> None:
    for needle, plain in ((TEXT, WORD.encode()), (BYTES, KEY)):
        data = ENCODINGS[encoding](b"x" * before + plain + b"yz")
        assert canary.found([TEXT, BYTES], "here", data) == {Hit(needle.name, "here")}


def test_text_is_found_in_json_and_in_wide_encodings() -> None:
    quoted = f"„{WORD}“"
    for data in (
        json.dumps({"a": quoted}).encode(),
        json.dumps({"a": json.dumps(quoted)}).encode(),
        *(quoted.encode(name) for name in ("utf-16-le", "utf-16-be", "utf-32-le")),
    ):
        assert canary.found([TEXT], "here", data) == {Hit("text", "here")}


def test_files_are_found_by_what_they_hold_and_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"\0" * 9000 + WORD.encode("utf-16-le"))
    (tmp_path / f"session_{WORD}").touch()
    (tmp_path / "clean").write_text(WORD[:-1])
    hits = canary.in_files([TEXT], [tmp_path])
    places = {"deep/log", f"session_{WORD}"}
    assert hits == {Hit("text", str(tmp_path / place)) for place in places}


@pytest.mark.parametrize("plant", PLANTS)
def test_memory_is_found_out(plant: str) -> None:
    with process(PLANTS[plant]) as pid:
        assert canary.in_memory([TEXT, BYTES], pid) == {"text"}


def test_a_process_that_never_had_it_is_clean() -> None:
    with process("kept = 'something else'") as pid:
        assert canary.in_memory([TEXT, BYTES], pid) == set()


def test_environment_and_arguments_are_found_out() -> None:
    with process("", WORD, secret=WORD) as pid:
        places = {f"environ of {pid}", f"cmdline of {pid}"}
        assert canary.in_surroundings([TEXT], pid) == {Hit("text", place) for place in places}


@contextmanager
def process(program: str, *arguments: str, **environment: str) -> Generator[int]:
    """A Python that ran a program and waits."""
    ready = "import sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", f"{program}\n{ready}", *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running.pid
        assert running.stdin is not None
        running.stdin.close()
