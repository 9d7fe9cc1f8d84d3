"""The core as tests see it: clients that push as the sync service does, a driven supervisor."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from mana_actors.agent.attempt.run import Runner
from mana_actors.messages import AgentSettings, Order, Report
from state.log import merge
from state.log.iterations import iteration_id
from state.log.stamps import format_instant, instant_of
from state.store.connect import Access
from state.store.supervisor.snapshots import Folded, RecordKey, SnapshotStore
from supervisor.supervision.dispatch import Pair
from tests.driver import Driver
from tests.fake_provider import Entry, FakeProvider
from tests.postgres import LOG_OWNER, SUPERUSER, Database

LONG_AGO = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
PLAN: Entry = {
    "calls": [{"name": "create_task", "args": {"title": "Einkaufen"}}],
    "usage": [80, 20],
}
DONE: Entry = {"content": "Ein Task vorgeschlagen.", "usage": [40, 10]}
Json = dict[str, Any]
LEASE_OVER = "UPDATE mana_ai.runs SET lease_until = clock_timestamp() - interval '1 second'"


def text(at: datetime) -> str:
    """An instant as clients write it."""
    return format_instant(instant_of(at))


class Client:
    """One person's device, pushing one change per transaction as the sync service does."""

    def __init__(self, connection: asyncpg.Connection, user_id: str) -> None:
        self._connection = connection
        self.user_id = user_id

    async def push(
        self,
        op: str,
        record: str,
        data: Any,
        *,
        table: str = "aiMissions",
        app: str = "ai",
        meta: Json | None = None,
        space: str | None = None,
        at: datetime | None = None,
        id_: uuid.UUID | None = None,
    ) -> uuid.UUID:
        """One row; `data` is JSON text or a value, `at` overrides the server's created_at."""
        change = id_ or uuid.uuid4()
        body = data if isinstance(data, str) else json.dumps(data)
        async with self._connection.transaction():
            await self._connection.execute(
                "SELECT set_config('app.current_user_id', $1, true)", self.user_id
            )
            await self._connection.execute(
                "INSERT INTO public.sync_changes (id, app_id, table_name, record_id, user_id, op,"
                " data, field_meta, client_id, created_at, origin, space_id) VALUES ($1, $10, $2,"
                " $3, $4, $5, $6::jsonb, $7::jsonb, 'c-1', coalesce($8, now()), 'user', $9)",
                change,
                table,
                record,
                self.user_id,
                op,
                body,
                json.dumps(meta or {}),
                at,
                space,
                app,
            )
        return change

    async def mission(self, id_: str = "m1", *, space: str | None = None, **fields: Any) -> None:
        """A new mission, due long ago and then every day at seven."""
        whole: Json = {
            "id": id_,
            "createdAt": text(LONG_AGO),
            "title": "Wochenplan",
            "objective": "Plane die Woche",
            "conceptMarkdown": "",
            "inputs": [],
            "cadence": {"kind": "daily", "atHour": 7, "atMinute": 0},
            "state": "active",
            "nextRunAt": text(LONG_AGO),
            "iterations": [],
        }
        if space:
            whole["spaceId"] = space
        await self.push("insert", id_, {**whole, **fields}, space=space)

    async def agent(self, id_: str = "legacy:ai-default", **fields: Any) -> None:
        """A new agent."""
        whole = {"id": id_, "name": "Mana", "role": "", "state": "active"}
        await self.push("insert", id_, {**whole, **fields}, table="agents")

    async def edit(
        self, id_: str = "m1", *, table: str = "aiMissions", stamp: datetime | None = None, **f: Any
    ) -> None:
        """Changed fields, stamped now or with a clock of the client's own."""
        at = text(stamp or datetime.now(UTC))
        await self.push("update", id_, f, table=table, meta=dict.fromkeys(f, at))


class HeldProvider(FakeProvider):
    """A provider whose answers wait while `hold` is called for."""

    def __init__(self, script: Sequence[Entry] = ()) -> None:
        super().__init__(script)
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        """Keep answers back from now on."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def release(self) -> None:
        """Let them go."""
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _play(self, entry: Entry, writer: asyncio.StreamWriter) -> bool:
        await self._gate.wait()
        return await super()._play(entry, writer)


class World:
    """A database, a provider and a driver; `sql` sees everything, as no service may."""

    def __init__(self, database: Database, provider: HeldProvider, stack: AsyncExitStack) -> None:
        self.database = database
        self.provider = provider
        self._stack = stack
        self._roles: dict[str, asyncpg.Connection] = {}
        self.driver = self.new_driver()

    def access(self, role: str) -> Access:
        """How the services reach this database."""
        return Access(self.database.dsn(role), role, str(self.database.password_file(role)))

    def settings(self, **more: Any) -> AgentSettings:
        """An agent's settings with short waits."""
        known: Json = {
            "dsn": self.database.dsn("mana_agent"),
            "role": "mana_agent",
            "password_file": str(self.database.password_file("mana_agent")),
            "model_url": self.provider.url,
            "model_key_file": None,
            "model": "mana/reasoning",
            "lease_ms": 60_000,
            "call_deadline_s": 10.0,
            "max_output_tokens": 100,
            "backoff_min_s": 0.01,
            "backoff_max_s": 60.0,
        }
        return AgentSettings(**{**known, **more})

    def new_driver(self, *, supervision: Json | None = None, **settings: Any) -> Driver:
        """Another supervisor with its agents, each with these settings; closed with the world."""
        driver = Driver(self.access, self.settings(**settings), **supervision or {})
        self._stack.push_async_callback(driver.close)
        return driver

    async def connect(self, role: str) -> asyncpg.Connection:
        """A new connection, closed with the world."""
        connection = await self.database.connect(role)
        self._stack.push_async_callback(connection.close)
        return connection

    async def client(self, user_id: str = "u1") -> Client:
        """A device of this person."""
        if LOG_OWNER not in self._roles:
            self._roles[LOG_OWNER] = await self.connect(LOG_OWNER)
        return Client(self._roles[LOG_OWNER], user_id)

    async def sql(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        """Any statement, past all row security."""
        if SUPERUSER not in self._roles:
            self._roles[SUPERUSER] = await self.connect(SUPERUSER)
        return await self._roles[SUPERUSER].fetch(statement, *args)

    async def value(self, statement: str, *args: Any) -> Any:
        """The first column of the only row."""
        ((found, *_),) = await self.sql(statement, *args)
        return found

    @property
    def store(self) -> SnapshotStore:
        """The driver's snapshots."""
        return self.driver.snapshots

    async def record(self, mission: str = "m1", user: str = "u1") -> Json:
        """A mission's snapshot record."""
        return json.loads(
            await self.value(
                "SELECT record FROM mana_ai.mission_snapshots"
                " WHERE mission_id = $1 AND user_id = $2",
                mission,
                user,
            )
        )

    async def snapshot(self, mission: str = "m1", user: str = "u1") -> Json:
        """A mission's whole snapshot row."""
        (row,) = await self.sql(
            "SELECT * FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2",
            user,
            mission,
        )
        return dict(row)

    async def runs(self, mission: str | None = None) -> list[Json]:
        """Run rows, oldest first."""
        rows = await self.sql("SELECT * FROM mana_ai.runs ORDER BY opened_at")
        return [dict(row) for row in rows if mission in (None, row["mission_id"])]

    async def written(self, mission: str = "m1", user: str = "u1") -> list[Json]:
        """The rows this service wrote into the log, decoded."""
        rows = await self.sql(
            "SELECT * FROM public.sync_changes WHERE client_id = 'mana-ai-runner'"
            " AND record_id = $1 AND user_id = $2 ORDER BY created_at, id",
            mission,
            user,
        )
        return [_decoded(dict(row)) for row in rows]

    async def spent(self) -> list[int]:
        """What was charged, in order."""
        rows = await self.sql("SELECT tokens_used FROM mana_ai.token_usage ORDER BY id")
        return [row["tokens_used"] for row in rows]

    async def open_slot(
        self, mission: str = "m1", user: str = "u1", slot: datetime | None = None
    ) -> datetime:
        """Move the next run into the past, as a client could; returns the new slot."""
        slot = slot or datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        ahead = datetime.now(UTC) + timedelta(days=400)
        await (await self.client(user)).edit(mission, nextRunAt=text(slot), stamp=ahead)
        return slot

    async def order(self, runner: Runner, mission: str = "m1") -> Report:
        """One run by this runner."""
        return await runner.run(Order(mission, 0))

    async def run(self, mission: str = "m1", pair: Pair = ("u1", "legacy:ai-default")) -> Report:
        """One run by a new process of the agent."""
        return await self.order(await self.driver.runner(pair), mission)

    async def wrong_snapshots(self) -> list[RecordKey]:
        """Records whose snapshot is not what a full replay gives; empty is well."""
        found, _ = await self.store.differences("", 1000)
        tables = (
            ("aiMissions", "mission_snapshots", "mission_id"),
            ("agents", "agent_snapshots", "agent_id"),
        )
        for table, snapshots, key in tables:
            for row in await self.sql(f"SELECT *, {key} AS key FROM mana_ai.{snapshots}"):
                found += [(row["user_id"], table, row["key"])] * await self._differs(row, table)
        return sorted(set(found))

    async def _differs(self, row: asyncpg.Record, table: str) -> bool:
        rows = await self.sql(
            "SELECT c.*, EXISTS (SELECT FROM mana_ai.quarantine AS q WHERE q.change_id = c.id"
            " AND q.forced) AS forced FROM mana_ai.record_rows($1, $2, $3) AS c"
            " ORDER BY c.created_at, c.id",
            row["user_id"],
            table,
            row["key"],
        )
        changes = [
            merge.read_change(
                str(c["id"]),
                _micros(c["created_at"]),
                "unknown" if c["forced"] else c["op"],
                c["data"],
                c["field_meta"],
                user_id=row["user_id"],
                record_id=row["key"],
            )
            for c in rows
        ]
        whole = merge.fold(None, changes)
        kept = (row["present"], row["complete"], row["folded_count"], row["folded_digest"])
        return (whole.exists, whole.complete, whole.count, whole.digest) != kept or json.loads(
            merge.encode_record(whole)
        ) != json.loads(row["record"])


class Killed(Exception):
    """Stands in for SIGKILL where everything runs in the test's process."""


async def killed_at(world: World, point: str) -> None:
    """The first attempt at m1 dies there, and its lease is over."""

    def reached(name: str) -> None:
        if name == point:
            raise Killed

    runner = await world.driver.runner(("u1", "legacy:ai-default"), "first", crash=reached)
    with pytest.raises(Killed):
        await runner.run(Order("m1", 0))
    await world.sql(LEASE_OVER)


def _micros(at: datetime) -> int:
    return (at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _decoded(row: Json) -> Json:
    return {
        key: json.loads(value) if key in ("data", "field_meta", "actor") and value else value
        for key, value in row.items()
    }


def occurrence(slot: datetime, mission: str = "m1", user: str = "u1") -> str:
    """The id of the iteration that serves a slot."""
    return iteration_id(user, mission, instant_of(slot) // 1000)


async def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait for an async condition, asked every few milliseconds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  # the database has no event to wait for
            await asyncio.sleep(0.01)


async def fold_all(store: SnapshotStore, limit: int = 5000) -> list[Folded]:
    """Fold until the feed is empty."""
    done: list[Folded] = []
    while (folded := await store.fold(limit=limit)).rows:
        done.append(folded)
    return done


@asynccontextmanager
async def open_world(
    database: Database, script: Sequence[Entry] = (), *, provider: HeldProvider | None = None
) -> AsyncGenerator[World]:
    """A world whose driver holds the only shard."""
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(provider or HeldProvider(script))
        world = World(database, provider, stack)
        await world.driver.start()
        yield world
