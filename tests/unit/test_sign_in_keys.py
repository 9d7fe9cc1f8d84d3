"""The keys that let people in, where several doors of one gateway begin with them."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.custody import sign_in_keys
from supervisor.custody.key_folder import KeyFolder
from supervisor.custody.sign_in_keys import SignInKeys


def test_two_doors_that_begin_at_once_have_one_first_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, both = sign_in_keys.key_folder, threading.Barrier(2)

    def together(folder: Path) -> KeyFolder:
        found = look(folder)
        if not found.sign_in_private:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)
        return found

    monkeypatch.setattr(sign_in_keys, "key_folder", together)
    tmp_path.chmod(0o700)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(SignInKeys, [tmp_path] * 2)
    assert one.key_set() == other.key_set()
    assert len(look(tmp_path).sign_in_private) == 1
