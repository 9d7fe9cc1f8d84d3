"""The idle poll while an old snapshot keeps consumed feed rows from being removed."""

from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from tests.bench.figures import Figure, Say, side_by_side
from tests.bench.ground import Ground, ground, sql
from tests.postgres import SUPERUSER

CHUNK = 50_000


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Polls from the last seen seq, from the beginning, and of a feed that was never used."""
    rows = 100_000 if quick else 600_000
    async with ground(say) as made:
        database = Database(made.access("mana_supervisor"), max_connections=2)
        store = SnapshotStore(database, await made.lease(ScheduleStore(database)))

        async def poll(floor: int) -> None:
            if await store.feed_waits(floor):
                raise AssertionError("the feed is not empty")

        (clean,) = await side_by_side([lambda: poll(0)], 200)
        old = await made.connect(SUPERUSER)
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await old.fetchval("SELECT count(*) FROM mana_ai.change_feed")
        floor = await _consume(made, say, rows)
        say("polling")
        times = 40 if quick else 100
        floored, unfloored = await side_by_side([lambda: poll(floor), lambda: poll(0)], times)
        await old.close()
        await database.close()
    name = f"idle poll, old snapshot, {rows:,} rows consumed"
    return [
        Figure(
            name=f"{name}: with floor",
            value=floored,
            unit="ms",
            beside="with an unused feed",
            other=clean,
            ratio=floored / clean,
        ),
        Figure(
            name=f"{name}: with floor",
            value=floored,
            unit="ms",
            beside="without floor (at most a twentieth of the time)",
            other=unfloored,
            ratio=floored / unfloored,
        ),
    ]


async def _consume(ground: Ground, say: Say, rows: int) -> int:
    """Rows that came into the feed and were taken out again, as folds do; the last seq."""
    floor = 0
    for done in range(0, rows, CHUNK):
        await ground.sql.execute(sql("feed"), CHUNK)
        floor = await ground.sql.fetchval("SELECT max(seq) FROM mana_ai.change_feed")
        await ground.sql.execute("DELETE FROM mana_ai.change_feed")
        say(f"{done + CHUNK:,} rows consumed")
    return int(floor)
