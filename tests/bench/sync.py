"""What devices push and are sent, over real HTTP; gateway and device share a process, and a core.

So whoever has a core for each gets more.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from tests.bench.figures import Figure, Say, percentile
from tests.bench.ground import Ground, ground
from tests.owners import open_house
from tests.sync_parts import EPOCH, SyncDevice, update

BATCH = 200
"""What clients push at once."""
UNBOUNDED: dict[str, Any] = {"sync_rows_per_minute": 0, "sync_mb_per_minute": 0}


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Pushes of one change and of 200, then a new device that reads all, and the fold of it."""
    pushes = 20 if quick else 100
    async with ground(say) as made:
        with tempfile.TemporaryDirectory() as folder:
            async with open_house(made.database, Path(folder), **UNBOUNDED) as house:
                writer = SyncDevice(house, "u1", "writer")
                say(f"pushing {pushes} times one change, and {BATCH} changes")
                one, many = await _pushed(writer, pushes)
                say("reading all as a new device")
                rows, seconds = await _read(SyncDevice(house, "u1", "reader"))
        folded = await _folded(made)
    rate = pushes * BATCH / sum(many)
    return [
        Figure(
            name=f"push, {BATCH} changes at once",
            value=rate,
            unit="changes/s",
            beside="one change a push",
            other=pushes / sum(one),
            ratio=rate / (pushes / sum(one)),
        ),
        *(
            Figure(name=f"push of {BATCH}, p{share}", value=percentile(many, share / 100) * 1000,
                   unit="ms", beside="of one change", other=percentile(one, share / 100) * 1000)
            for share in (50, 99)
        ),
        Figure(
            name="initial sync",
            value=rows / seconds,
            unit="rows/s",
            beside="the same rows folded",
            other=folded,
            ratio=rows / seconds / folded,
        ),
    ]  # fmt: skip


async def _pushed(device: SyncDevice, pushes: int) -> tuple[list[float], list[float]]:
    """Seconds of each push of one change and of a batch, in turns."""
    one: list[float] = []
    many: list[float] = []
    for number in range(pushes):
        for taken, size in ((one, 1), (many, BATCH)):
            changes = [
                {**update(f"m{(number + n) % 1000}", title=f"{number} {n}"), "table": "aiMissions"}
                for n in range(size)
            ]
            began = time.perf_counter()
            await device.push(*changes, app="ai", since="2999-01-01T00:00:00.000Z")
            taken.append(time.perf_counter() - began)
    return one, many


async def _read(device: SyncDevice) -> tuple[int, float]:
    """Rows that a device without anything is sent, and seconds."""
    began = time.perf_counter()
    found, _ = await device.pull(EPOCH, table="aiMissions", app="ai")
    return len(found), time.perf_counter() - began


async def _folded(made: Ground) -> float:
    """Changes per second of a fold of all that was pushed."""
    database = Database(made.access("mana_supervisor"), max_connections=2)
    store = SnapshotStore(database, await made.lease(ScheduleStore(database)))
    began, rows = time.perf_counter(), 0
    while (folded := await store.fold(limit=5000)).rows:
        rows += folded.rows
    await database.close()
    return rows / (time.perf_counter() - began)
