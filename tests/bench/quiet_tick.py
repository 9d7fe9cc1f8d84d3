"""A tick when nothing is due (poll, due query, beat) on a small log and on a large one."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from mana_actors.crash import crash_points
from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from supervisor.supervision.fold import FoldLoop
from supervisor.supervision.loop import DUE_LIMIT
from supervisor.supervision.metrics import Metrics
from tests.bench.figures import Figure, Say, side_by_side
from tests.bench.ground import Ground, ground_on, server, sql

TARGET_MS, TARGET_RATIO = 5.0, 1.5
USERS_PER_ROW = 1 / 200
MISSIONS_EACH = 2

CHUNK = 100_000


class QuietTick:
    """One supervisor's tick without its processes."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._database = Database(ground.access("mana_supervisor"), max_connections=8)
        self._schedule = ScheduleStore(self._database)

    async def begin(self) -> int:
        """Take the shard and fold what is there; returns the rows."""
        self._lease = await self._ground.lease(self._schedule)
        snapshots = SnapshotStore(self._database, self._lease)
        self._folding = FoldLoop(snapshots, Metrics(), lambda _folded: None, crash_points(None))
        return await self._folding.everything()

    async def once(self) -> None:
        """What the supervisor does at a tick."""
        folded = await self._folding.everything()
        due = await self._schedule.due(self._lease, DUE_LIMIT)
        now = datetime.now(UTC)
        lives = await self._schedule.beat(self._lease, folded_at=now, ticked_at=now)
        if folded or due or not lives:
            raise AssertionError("the tick was not quiet")

    async def close(self) -> None:
        await self._database.close()


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Two databases of one server, ticks in turns."""
    small, large = 10_000, 200_000 if quick else 1_000_000
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(server(say))
        ticks: list[QuietTick] = []
        for rows in (small, large):
            made = await stack.enter_async_context(ground_on(postgres))
            await fill(made, say, rows)
            tick = QuietTick(made)
            stack.push_async_callback(tick.close)
            say(f"folded {await tick.begin():,} rows")
            ticks.append(tick)
        await made.sql.execute("CHECKPOINT")
        say("ticking")
        few, many = await side_by_side([tick.once for tick in ticks], 100 if quick else 400)
    return [
        Figure(
            name=f"quiet tick at {large:,} log rows",
            value=many,
            unit="ms",
            beside=f"at {small:,}",
            other=few,
            ratio=many / few,
            target=f"≤ {TARGET_RATIO}x, ≤ {TARGET_MS:.0f} ms",
            met=many / few <= TARGET_RATIO and many <= TARGET_MS,
        )
    ]


async def fill(ground: Ground, say: Say, rows: int) -> None:
    """A log of so many rows of other apps, and one mission, due in a year, for each hundred."""
    users = int(rows * USERS_PER_ROW)
    say(f"writing a log of {rows:,} rows")
    await ground.sql.execute("SET session_replication_role = replica")
    for first in range(1, rows + 1, CHUNK):
        await ground.sql.execute(sql("other_apps"), first, min(first + CHUNK - 1, rows), users)
        say(f"{min(first + CHUNK - 1, rows):,} rows")
    await ground.sql.execute("RESET session_replication_role")
    await ground.missions("m", users, MISSIONS_EACH, datetime.now(UTC) + timedelta(days=365))
    await ground.sql.execute("VACUUM ANALYZE public.sync_changes")
