"""What a run costs in the database: transactions, statements, backend CPU and time.

Supervision and agents are in this process, as in the tests; the server logs what it is sent. It
keeps to what every release has, so that two of them can be measured on one machine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import msgspec

from mana_actors.messages import Orders
from mana_actors.processes import AgentProcess
from supervisor.supervision.dispatch import Pair
from tests.bench.cpu import backends_ns
from tests.bench.figures import Figure, Say, in_five
from tests.bench.ground import server
from tests.driver import NAME
from tests.fake_provider import Entry
from tests.integration.granted_scene import granted, hand_over, push_sealed
from tests.integration.key_scene import key_scene
from tests.integration.support import Json, World, open_world, text
from tests.postgres import SUPERUSER

AGENT = "legacy:ai-default"
FIVE = 5
NOTE: Json = {"id": "n1", "title": "Einkauf", "content": "Morgen backen"}
REF: Json = {"module": "notes", "table": "notes", "id": "n1"}
RESET = "SELECT pg_advisory_unlock_all()"
"""Begins what a driver sends when a connection is given back: a statement, and no transaction."""
SETTLE_S = 0.3
"""So long after a run nothing of it is under way any more."""


def round_of(title: str) -> Entry:
    """An answer after which the model is asked again."""
    return {"calls": [{"name": "create_task", "args": {"title": title}}], "usage": [80, 20]}


DONE: Entry = {"content": "fertig", "usage": [40, 10]}
ROUNDS: dict[int, list[Entry]] = {1: [DONE], 3: [round_of("a"), round_of("b"), DONE]}


class Sent(msgspec.Struct, frozen=True):
    """What one login sent for one run, by the server's own log."""

    transactions: int
    statements: int


class Cost(msgspec.Struct, frozen=True):
    """Of one run, in ms: CPU of the agent's backends; from its order to its report."""

    backend: float
    wall: float


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """First what is sent, then, with the log off, what it costs."""
    times = 3 if quick else 20
    async with server(say) as postgres:
        database = await asyncio.to_thread(postgres.migrated)
        with TemporaryDirectory() as folder:
            async with open_world(database) as world:
                bench = _Bench(world, await world.connect(SUPERUSER))
                await bench.begin()
                figures = await bench.sent(say)
                say("runs whose first round reads a granted note")
                figures += await bench.sent_granted(Path(folder))
                await bench.log(on=False)
                figures += await bench.costs(say, times)
    return figures


class _Bench:
    def __init__(self, world: World, sql: asyncpg.Connection) -> None:
        self._world, self._sql = world, sql
        self._ordered_at = self._reported_at = 0.0
        self._users = self._missions = 0
        self._log = Path()

    async def begin(self) -> None:
        """Have the clock read at orders and reports, and the log written."""
        self._time_orders()
        await self._sql.execute("ALTER SYSTEM SET log_line_prefix = '%p %v %u|'")
        await self._sql.execute("SELECT pg_reload_conf()")
        await self.log(on=True)
        path = await self._sql.fetchval("SELECT pg_current_logfile()")
        folder = await self._sql.fetchval("SELECT current_setting('data_directory')")
        self._log = Path(folder, path)

    def _time_orders(self) -> None:
        processes = self._world.driver.processes
        create, take = processes.create, processes.supervisors[NAME]

        def created(name: str) -> AgentProcess:
            process = create(name)
            tell = process.tell

            async def told(message: msgspec.Struct, timeout_s: float = 10.0) -> object:
                if isinstance(message, Orders):
                    self._ordered_at = time.perf_counter()
                return await tell(message, timeout_s)

            process.tell = told  # pyright: ignore[reportAttributeAccessIssue]
            return process

        async def taken(raw: bytes) -> None:
            self._reported_at = time.perf_counter()
            await take(raw)

        processes.create = created
        processes.supervisors[NAME] = taken

    async def log(self, *, on: bool) -> None:
        """Have statements of agents and of the key holder logged from their next connection on."""
        value = "'all'" if on else "'none'"
        for role in ("mana_agent", "mana_keys"):
            await self._sql.execute(f"ALTER ROLE {role} SET log_statement = {value}")

    def user(self) -> str:
        """Somebody who was never here, whose agent has no process."""
        self._users += 1
        return f"u{self._users}"

    async def run(self, user: str, rounds: int) -> None:
        """One run of a new mission of this user's, from order to report."""
        world = self._world
        self._missions += 1
        due = text((datetime.now(UTC) - timedelta(seconds=1)).replace(microsecond=0))
        mission = f"m{self._missions}"
        await (await world.client(user)).mission(mission, nextRunAt=due)
        await self.plan(rounds)

    async def plan(self, rounds: int) -> None:
        """The one mission that is due is planned in so many rounds."""
        self._world.provider.script.extend(ROUNDS[rounds])
        _, reports = await self._world.driver.tick()
        outcomes = [report.outcome for report in reports]
        if outcomes != ["ran"] or reports[0].model_calls != rounds:
            raise AssertionError(f"{outcomes} after {[r.model_calls for r in reports]} calls")

    async def ended(self, user: str) -> None:
        """The agent's process is gone, and so are its connections."""
        placement = self._world.driver.tenure.placement
        pair: Pair = (user, AGENT)
        if pair in placement.awake:
            await placement.put_to_sleep(placement.awake[pair])
        while await backends_ns(self._sql, "mana_agent"):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.02)

    # --- what is sent -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _counted(self, counts: dict[str, list[Sent]]) -> AsyncGenerator[None]:
        """Adds what each login sent within the block."""
        await asyncio.sleep(SETTLE_S)
        at = self._log.stat().st_size
        yield
        await asyncio.sleep(SETTLE_S)
        with self._log.open("rb") as log:
            log.seek(at)
            lines = log.read().decode(errors="replace").splitlines()
        for role, kept in counts.items():
            mark = f" {role}|LOG:  "
            marks = f"{mark}statement: ", f"{mark}execute "
            sent = [line for line in lines if any(mark in line for mark in marks)]
            of_use = [line for line in sent if RESET not in line]
            kept.append(Sent(len({line.partition(mark)[0] for line in of_use}), len(sent)))

    async def sent(self, say: Say) -> list[Figure]:
        """Of runs of one and of three rounds: the first of a process, and the next ones."""
        figures: list[Figure] = []
        for rounds in ROUNDS:
            say(f"what runs of {rounds} round(s) send")
            fresh: dict[str, list[Sent]] = {"mana_agent": []}
            again: dict[str, list[Sent]] = {"mana_agent": []}
            for _ in range(FIVE):
                user = self.user()
                async with self._counted(fresh):
                    await self.run(user, rounds)
                async with self._counted(again):
                    await self.run(user, rounds)
                await self.ended(user)
            figures += _sent(f"run of {rounds} round(s), open connection", again["mana_agent"])
            figures += _sent(f"run of {rounds} round(s), new process", fresh["mana_agent"])
        return figures

    async def sent_granted(self, folder: Path) -> list[Figure]:
        """The same where an input is decrypted; its process is always new, since it ends."""
        world = self._world
        counts: dict[str, list[Sent]] = {"mana_agent": [], "mana_keys": []}
        async with key_scene(world, folder) as keys:
            world.driver = world.new_driver(key_socket=str(keys.socket_path))
            await world.driver.start()
            await push_sealed(world, {"notes": "notes"}, {("notes", "n1"): NOTE})
            for number in range(FIVE):
                mission = f"granted-{number}"
                grant = granted(mission=mission)
                await (await world.client("u1")).mission(mission, grant=grant, inputs=[REF])
                await world.driver.fold_all()
                await hand_over(world, grant, {("notes", "n1"): NOTE}, mission)
                async with self._counted(counts):
                    await self.plan(1)
                await self.ended("u1")
        world.driver = world.new_driver()
        await world.driver.start()
        self._time_orders()
        name = "run of 1 round, one granted input, new process"
        return _sent(name, counts["mana_agent"]) + _sent(
            f"{name}: the key holder", counts["mana_keys"]
        )

    # --- what it costs ----------------------------------------------------------------------------

    async def costs(self, say: Say, times: int) -> list[Figure]:
        """Of runs of one round in a new process, then in one that has just run another."""
        fresh: list[list[Cost]] = []
        again: list[list[Cost]] = []
        for number in range(FIVE):
            say(f"batch {number + 1} of {FIVE}: {times} runs each in new processes and in one")
            batch: list[Cost] = []
            for _ in range(times):
                user = self.user()
                batch.append(await self._cost(user))
                await self.ended(user)
            fresh.append(batch)
            user = self.user()
            await self.run(user, 1)
            again.append([await self._cost(user) for _ in range(times)])
            await self.ended(user)
        return _costs("open connection", again) + _costs("new process", fresh)

    async def _cost(self, user: str) -> Cost:
        before = await backends_ns(self._sql, "mana_agent")
        await self.run(user, 1)
        after = await backends_ns(self._sql, "mana_agent")
        spent = sum(ns - before.get(pid, 0) for pid, ns in after.items())
        return Cost(spent / 1e6, (self._reported_at - self._ordered_at) * 1000)


def _sent(name: str, found: Sequence[Sent]) -> list[Figure]:
    return [
        in_five(f"{name}: transactions", [sent.transactions for sent in found], ""),
        in_five(f"{name}: statements", [sent.statements for sent in found], ""),
    ]


def _costs(name: str, batches: Sequence[Sequence[Cost]]) -> list[Figure]:
    """Each batch's mean; five of these have a median and a spread."""
    backend = [sum(cost.backend for cost in batch) / len(batch) for batch in batches]
    wall = [sum(cost.wall for cost in batch) / len(batch) for batch in batches]
    return [
        in_five(f"run of 1 round, {name}: backend CPU", backend, "ms"),
        in_five(f"run of 1 round, {name}: from order to report", wall, "ms"),
    ]
