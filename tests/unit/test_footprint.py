"""What a process says of its own memory and CPU."""

from pathlib import Path

import pytest

from mana_actors.agent import footprint
from mana_actors.agent.footprint import READ_EVERY_S, Footprint


def test_shared_pages_count_in_parts():
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    assert 0 < Footprint().memory_bytes() <= resident * 1.5


def test_where_the_kernel_keeps_the_share_to_itself_pages_count_whole(
    monkeypatch: pytest.MonkeyPatch,
):
    read_text = Path.read_text

    def no_rollup(path: Path) -> str:
        if path.name == "smaps_rollup":
            raise PermissionError(path)
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", no_rollup)
    assert Footprint().memory_bytes() > 1024 * 1024


def test_the_kernel_is_asked_seldom(monkeypatch: pytest.MonkeyPatch):
    now, readings = 100.0, iter([10, 20])
    monkeypatch.setattr(footprint.time, "monotonic", lambda: now)
    monkeypatch.setattr(footprint, "_proportional_bytes", lambda: next(readings))
    mine = Footprint()
    assert [mine.memory_bytes(), mine.memory_bytes()] == [10, 10]
    now += READ_EVERY_S
    assert mine.memory_bytes() == 20


def test_cpu_time_only_grows():
    mine = Footprint()
    before = mine.cpu_s()
    assert 0 < before <= mine.cpu_s()
