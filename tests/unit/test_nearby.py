import os
from pathlib import Path

import pytest

from supervisor.health import nearby
from supervisor.health.room import Reserve, Room, RoomWatch
from supervisor.node.keeper.sole import sole_node
from supervisor.node.keeper.state import NodeState, write_state
from supervisor.node.settings import Settings


def test_a_silent_gateway_is_looked_around(tmp_path: Path):
    settings = Settings(
        data_dir=str(tmp_path), secrets_dir=str(tmp_path / "secrets"), disk_free_mb=1_000_000
    )
    with sole_node(tmp_path):
        state = NodeState.of(os.getpid())
        write_state(tmp_path, state.now("restarting", "Ray's raylet is gone"))
        found = nearby.signs_nearby(settings)
    assert found[0].startswith("node: restarting since ")
    assert found[0].endswith("Ray's raylet is gone")
    assert any(line.startswith(f"disk: data folder {tmp_path} has ") for line in found)


@pytest.mark.parametrize(
    ("free", "inodes", "is_short"),
    [(99, None, True), (100, None, False), (100, 9, True), (100, 10, False)],
)
def test_a_folder_is_short_of_bytes_or_of_inodes(free: int, inodes: int | None, *, is_short: bool):
    assert Room(Reserve("/", 100, 10), free, inodes).is_short() == is_short


async def test_room_is_had_again_only_with_a_quarter_more_than_what_shall_stay_free():
    reserve, now, free = Reserve("/", 100), [0.0], [100]

    def look(_: object) -> dict[str, Room]:
        return {"data folder": Room(reserve, free[0])}

    rooms = RoomWatch({"data folder": reserve}, look, lambda: now[0])
    found: list[bool] = []
    for free_bytes in (100, 99, 110, 125, 110):
        free[0] = free_bytes
        now[0] += 2.0
        found.append(bool(await rooms.look()))
    assert found == [False, True, True, False, False]


async def test_room_is_asked_about_once_a_second_however_many_ask():
    asked: list[object] = []

    def look(wanted: object) -> dict[str, Room]:
        asked.append(wanted)
        return {"data folder": Room(Reserve("/", 1), 2)}

    rooms = RoomWatch({}, look, lambda: 5.0)
    for _ in range(5):
        await rooms.look()
    assert len(asked) == 1


async def test_no_room_is_asked_for_where_nothing_shall_stay_free(tmp_path: Path):
    assert not Room(Reserve(str(tmp_path), 0), 0).is_short()
