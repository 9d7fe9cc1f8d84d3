"""What every bench stands on: an embedded Postgres of its own, as in production, and its log."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from mana_actors.messages import AgentSettings
from state.store import embedded
from state.store.connect import Access
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import Lease
from tests.bench.figures import Say
from tests.node import NodeProcess
from tests.postgres import (
    SUPERUSER,
    Database,
    TestServer,
    new_folder,
    remove_folder,
    sweep,
)

_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)


@cache
def sql(name: str) -> str:
    """One statement of statements.sql; a StopIteration is a typing mistake in the caller."""
    _, *parts = _HEADING.split(Path(__file__).with_name("statements.sql").read_text("utf-8"))
    return next(body for known, body in zip(parts[::2], parts[1::2], strict=True) if known == name)


class Ground:
    """One database; `sql` is the superuser's connection, which row security does not bind."""

    def __init__(self, database: Database, sql: asyncpg.Connection) -> None:
        self.database, self.sql = database, sql

    def access(self, role: str) -> Access:
        """How a service reaches the database."""
        return Access(self.database.dsn(role), role, str(self.database.password_file(role)))

    def agent_settings(self, model_url: str, **more: Any) -> AgentSettings:
        """Settings of an agent on this database."""
        access = self.access("mana_agent")
        return AgentSettings(
            dsn=access.dsn,
            role=access.role,
            password_file=access.password_file,
            model_url=model_url,
            model_key_file=None,
            model="mana/reasoning",
            **more,
        )

    async def lease(self, schedule: ScheduleStore) -> Lease:
        """The only shard."""
        return await schedule.take_shard("0", 0, 256, "bench")

    async def agents(self, users: int, at_once: int = 1) -> None:
        """Users u1 … with an agent `planner` that may run so many missions at once."""
        await self.sql.execute(sql("agents"), users, at_once)

    async def missions(self, prefix: str, users: int, each: int, due: Any) -> None:
        """Missions `<prefix><user>-<k>` of those agents, all due at one instant."""
        await self.sql.execute(sql("missions"), prefix, users, each, due)

    async def planned(self, prefix: str, runs: int, within_s: float = 240.0) -> asyncpg.Record:
        """When so many of those missions' runs are over: the first, the last, and their calls."""
        async with asyncio.timeout(within_s):
            while True:
                row = await self.sql.fetchrow(sql("herd"), prefix)
                if row is not None and row["runs"] == runs and not row["unfinished"]:
                    return row
                await asyncio.sleep(0.1)

    async def connect(self, role: str) -> asyncpg.Connection:
        """A connection of any role."""
        return await self.database.connect(role)


@asynccontextmanager
async def server(say: Say) -> AsyncGenerator[TestServer]:
    """A server with production's settings (fsync on), gone afterwards."""
    await asyncio.to_thread(sweep)
    folder = new_folder()
    try:
        say("starting a Postgres")
        yield TestServer(await asyncio.to_thread(embedded.start, folder, progress=lambda _: None))
    finally:
        await asyncio.to_thread(remove_folder, folder)


@asynccontextmanager
async def ground_on(postgres: TestServer) -> AsyncGenerator[Ground]:
    """A migrated database on a server."""
    database = await asyncio.to_thread(postgres.migrated)
    connection = await database.connect(SUPERUSER, timeout=600)
    try:
        yield Ground(database, connection)
    finally:
        await connection.close()


@asynccontextmanager
async def ground(say: Say) -> AsyncGenerator[Ground]:
    """A server with one migrated database."""
    async with server(say) as postgres, ground_on(postgres) as made:
        yield made


@asynccontextmanager
async def node_on(
    say: Say, model_url: str, **settings: str
) -> AsyncGenerator[tuple[Ground, NodeProcess]]:
    """A whole node with these settings on a ground of its own."""
    async with ground(say) as made:
        say("starting a node")
        node = NodeProcess(made.database, model_url, **settings)
        try:
            await asyncio.to_thread(node.start)
            yield made, node
        finally:
            await asyncio.to_thread(node.close)
