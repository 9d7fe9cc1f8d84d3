"""How fast changes become snapshots, beside a loop with one transaction per record."""

import time
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from state.log import merge
from state.log.merge import Change
from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from tests.bench.figures import Figure, Say
from tests.bench.ground import Ground, ground, sql

BATCH = 5000
TARGET = 30_000

_BEFORE_ALL = "2026-01-01 00:00Z"


class RecordLoop:
    """What the fold replaces: for each record that has news, one transaction."""

    def __init__(self, ground: Ground) -> None:
        self._sql = ground.sql
        self._cursor = datetime.fromisoformat(_BEFORE_ALL)

    async def fold_until(self, edge: datetime, most: int) -> tuple[int, float]:
        """Fold the records with news up to an instant, at most so many: (changes, seconds)."""
        began = time.perf_counter()
        stale = await self._sql.fetch(sql("loop_stale"), self._cursor, edge)
        share = min(1.0, most / len(stale))
        elapsed = (time.perf_counter() - began) * share
        began, changes = time.perf_counter(), 0
        for row in stale[:most]:
            async with self._sql.transaction():
                changes += await self._record(row["user_id"], row["record_id"], edge)
        self._cursor = edge
        return changes, elapsed + time.perf_counter() - began

    async def _record(self, user: str, record: str, edge: datetime) -> int:
        await self._sql.execute("SELECT set_config('app.current_user_id', $1, true)", user)
        stored = await self._sql.fetchrow(sql("loop_read"), user, record)
        after = stored["last_applied_at"] if stored else datetime.fromisoformat(_BEFORE_ALL)
        rows = await self._sql.fetch(sql("loop_rows"), user, record, after, edge)
        before = (
            merge.decode_record(stored["record"], exists=True, complete=True) if stored else None
        )
        folded = merge.fold(before, _changes(rows, user, record))
        await self._sql.execute(
            sql("loop_write"),
            user,
            record,
            merge.encode_record(folded).decode(),
            rows[-1]["created_at"],
        )
        return len(rows)


def _changes(rows: Sequence[asyncpg.Record], user: str, record: str) -> list[Change]:
    return [
        merge.read_change(
            str(row["id"]),
            row["created_us"],
            row["op"],
            row["data"],
            row["field_meta"],
            user_id=user,
            record_id=record,
        )
        for row in rows
    ]


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Once with 20 changes of each record in a row, once with each record's far apart."""
    changes, missions = (20_000, 1000) if quick else (100_000, 5000)
    found: list[Figure] = []
    for run, how in ((20, "20 in a row per mission"), (1, "each of another mission")):
        async with ground(say) as made:
            await _load(made, say, changes, missions, run)
            say(f"folding {changes:,} changes, {how}")
            fold, loop = await _measured(made, 200 if quick else 400)
        found.append(
            Figure(
                name=f"fold, {how}",
                value=fold,
                unit="changes/s",
                beside="one read-fold-write transaction per record",
                other=loop,
                ratio=fold / loop,
                target=f"≥ {TARGET:,} changes/s",
                met=fold >= TARGET,
            )
        )
    return found


async def _load(ground: Ground, say: Say, changes: int, missions: int, run: int) -> None:
    say(f"writing {changes:,} changes of {missions:,} missions")
    for first in range(0, changes, BATCH):
        await ground.sql.execute(sql("changes"), first, first + BATCH, run, missions)
    await ground.sql.execute("ANALYZE public.sync_changes")
    await ground.sql.execute(sql("loop_table"))


async def _measured(ground: Ground, most: int) -> tuple[float, float]:
    """Changes per second of the fold and of the loop, batch by batch in turns."""
    database = Database(ground.access("mana_supervisor"), max_connections=2)
    store = SnapshotStore(database, await ground.lease(ScheduleStore(database)))
    loop = RecordLoop(ground)
    edges = [row["created_at"] for row in await ground.sql.fetch(sql("edges"), BATCH)]
    folds: list[tuple[int, float]] = []
    loops: list[tuple[int, float]] = []
    floor = 0
    for edge in edges:  # what a fold takes of a record is all of it, so a later page may be empty
        began = time.perf_counter()
        folded = await store.fold(floor, BATCH)
        folds.append((folded.rows, time.perf_counter() - began))
        floor = folded.floor
        loops.append(await loop.fold_until(edge, most))
    await _check(ground)
    await database.close()
    return _rate(folds), _rate(loops)


def _rate(rounds: Sequence[tuple[int, float]]) -> float:
    """Changes per second over all rounds of (changes, seconds)."""
    return sum(changes for changes, _ in rounds) / sum(seconds for _, seconds in rounds)


async def _check(ground: Ground) -> None:
    """A fast fold of the wrong thing is no result."""
    wrong = await ground.sql.fetchval(sql("wrong_snapshots"))
    left = await ground.sql.fetchval("SELECT count(*) FROM mana_ai.change_feed")
    if wrong or left:
        raise AssertionError(f"{wrong} snapshots lack rows, {left} rows were left in the feed")
