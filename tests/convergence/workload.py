"""One run: some devices of a person, each doing what its seed says, and then quiet."""

import asyncio
import contextlib
import time
from functools import partial
from pathlib import Path
from random import Random

import httpx2

from mana_actors.client import Client, ServerAway
from mana_actors.client.local.kept import KeptRecord
from mana_actors.client.local.store import HistoryBounds, LocalStore
from state.log.merge import Change, Snapshot, read_change
from state.log.own_changes import RecordAt
from tests.convergence.history import BY, Seen, anomalies
from tests.convergence.network import Link
from tests.owners import House

APP, TABLE = "todo", "tasks"
RECORDS = tuple(f"r{n}" for n in range(6))
FIELDS = ("title", "description", "priority", "dueDate")
HOUR_NS = 3_600_000_000_000
NONE_KEPT = HistoryBounds(days=0, least_days=0)
CRASH_POINTS = (
    "before_local_commit",
    "after_local_commit",
    "before_push",
    "after_push_before_settled",
    "while_applying",
    "while_purging",
)
STEPS = (
    ("write", 40),
    ("sync", 25),
    ("read", 15),
    ("cut", 8),
    ("heal", 6),
    ("kill", 4),
    ("stop", 3),
    ("pause", 3),
)


class Killed(BaseException):
    """The process of a device ended here."""


class Device:
    """A client on a file of its own, with a clock and a network that may be wrong."""

    def __init__(self, house: House, user: str, name: str, folder: Path, chance: Random) -> None:
        self.house, self.user, self.name = house, user, name
        self._path, self._chance = folder / f"{user}-{name}.db", chance
        self._skew_ns = chance.choice((0, 0, chance.randint(-HOUR_NS, HOUR_NS)))
        self.link, self.seen = Link(), Seen(name, purges=Random(f"{user}/{name}").random() < 0.5)
        self._http = httpx2.AsyncClient(transport=self.link, base_url=house.client.base_url)
        self._open = contextlib.AsyncExitStack()
        self._client: Client | None = None
        self._killed_at: str | None = None
        self._written = 0

    async def live(self, steps: int) -> None:
        """Do so many things, each as chance has it."""
        names, weights = zip(*STEPS, strict=True)
        for step in self._chance.choices(names, weights, k=steps):
            try:
                await getattr(self, f"_{step}")()
            except ServerAway:
                pass  # what was written waits
            except Killed:
                await self._stop()
            await asyncio.sleep(0)

    async def quiet(self) -> None:
        """Nothing is broken any more; all that waits is pushed."""
        self._killed_at = None
        self.link.heal()
        await (await self._running()).sync(APP)

    async def final(self) -> dict[str, Snapshot]:
        """Every record as it is here, deleted ones too."""
        client = await self._running()
        return {
            record: found.snapshot
            for record in RECORDS
            if (found := await client.read(partial(_kept, record))) is not None
        }

    async def close(self) -> None:
        """End it."""
        await self._stop()
        await self._http.aclose()

    # --- what it may do -------------------------------------------------------------------------

    async def _write(self) -> None:
        client = await self._running()
        self._written += 1
        name = f"{self.name}.{self._written}"
        records = self._chance.sample(RECORDS, self._chance.choice((1, 1, 2, 3)))
        self.seen.begun[name] = frozenset(records)
        async with client.transaction():
            for record in records:
                fields = self._chance.sample(FIELDS, self._chance.randint(1, 2))
                values = {BY: name} | dict.fromkeys(fields, f"{name}.{record}")
                if self._chance.random() < 0.1:
                    values["deletedAt"] = "2026-01-01T00:00:00.000Z"
                await client.table(TABLE).put(record, values)
        self.seen.kept.add(name)

    async def _read(self) -> None:
        client = await self._running()
        read = {
            (record.id, field): record.fields[field]
            for record in await client.table(TABLE).list()
            for field in FIELDS
            if field in record.fields
        }
        self.seen.reads.append(read)

    async def _sync(self) -> None:
        await (await self._running()).sync(APP)
        await self._read()

    async def _cut(self) -> None:
        self.link.goes, self.link.comes = self._chance.choice(
            ((False, True), (True, False), (False, False))
        )

    async def _heal(self) -> None:
        self.link.heal()

    async def _kill(self) -> None:
        """At some point of what comes next."""
        self._killed_at = self._chance.choice(CRASH_POINTS)

    async def _stop(self) -> None:
        self._client = None
        await self._open.aclose()

    async def _pause(self) -> None:
        self.link.slow_s = self._chance.random() / 5

    async def _running(self) -> Client:
        if self._client is None:
            self._client = await self._open.enter_async_context(
                Client.open(
                    self._path,
                    http=self._http,
                    token=self.house.auth.token(self.user),
                    user=self.user,
                    live=False,
                    history=NONE_KEPT if self.seen.purges else HistoryBounds(),
                    wall_ns=self._now,
                    crash=self._reached,
                )
            )
        return self._client

    def _now(self) -> int:
        return time.time_ns() + self._skew_ns

    def _reached(self, point: str) -> None:
        if point == self._killed_at:
            self._killed_at = None
            raise Killed(point)


def _kept(record: str, store: LocalStore, inside: bool) -> KeptRecord | None:
    return store.shown(RecordAt(APP, TABLE, record), inside=inside)


async def run(house: House, folder: Path, seed: int, *, steps: int = 12) -> list[str]:
    """The anomalies of one seed; its steps are always the same, how they meet is not."""
    chance = Random(seed)
    user = f"seed-{seed}"
    devices = [
        Device(house, user, f"d{n}", folder, Random(f"{seed}/{n}"))
        for n in range(chance.randint(5, 10))
    ]
    try:
        await asyncio.gather(*(device.live(steps) for device in devices))
        for _ in range(2):  # once to push all, once to read all
            for device in devices:
                await device.quiet()
        final = {device.name: await device.final() for device in devices}
        return anomalies(await _log(house, user), [device.seen for device in devices], final)
    finally:
        for device in devices:
            await device.close()


async def _log(house: House, user: str) -> dict[str, list[Change]]:
    rows = await house.sql(
        "SELECT id, record_id, op, data, field_meta, user_id,"
        " (extract(epoch FROM created_at) * 1000000)::bigint AS created_us"
        " FROM public.sync_changes WHERE user_id = $1 AND app_id = $2 ORDER BY created_at, id",
        user,
        APP,
    )
    log: dict[str, list[Change]] = {}
    for row in rows:
        change = read_change(
            str(row["id"]),
            row["created_us"],
            row["op"],
            row["data"],
            row["field_meta"],
            user_id=row["user_id"],
            record_id=row["record_id"],
        )
        log.setdefault(row["record_id"], []).append(change)
    return log
