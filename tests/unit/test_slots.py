"""A node keeps only so many connections open, and a process that dies keeps none."""

import subprocess
import sys
from pathlib import Path

from state.slots import Slot, Slots

HOLD = """
import sys
from state.slots import Slot, Slots
slot = Slot(Slots(sys.argv[1], 1))
print(slot.take(), flush=True)
sys.stdin.read()
"""


def test_there_are_as_many_slots_as_were_said(tmp_path: Path) -> None:
    slots = Slots(str(tmp_path / "slots"), 2)
    first, second, third = Slot(slots), Slot(slots), Slot(slots)
    assert [slot.take() for slot in (first, second, third, first)] == [True, True, False, True]
    second.give_back()
    assert [slot.take() for slot in (third, second)] == [True, False]
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "slots").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "slots").stat().st_mode & 0o777 == 0o700


def test_a_killed_process_leaves_its_slot_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    ours = Slot(Slots(str(tmp_path), 1))
    assert not ours.take()
    holder.kill()
    holder.communicate()
    assert ours.take()


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    assert not Slot(Slots(str(tmp_path / "missing" / "slots"), 1)).take()
    assert not Slot(Slots(str(tmp_path), 0)).take()
