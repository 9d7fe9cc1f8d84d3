"""Steps that tests of schema and roles share: write as a client would, drive, look."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from mana_actors.messages import AgentSettings
from state.store.connect import Access
from tests.fake_provider import Entry, FakeProvider
from tests.postgres import Database

if TYPE_CHECKING:
    from tests.driver import Driver

MISSION: dict[str, Any] = {
    "title": "T",
    "objective": "O",
    "conceptMarkdown": "",
    "state": "active",
    "inputs": [],
    "iterations": [],
    "cadence": {"kind": "manual"},
}
AGENT: dict[str, Any] = {"name": "N", "role": "", "state": "active", "maxConcurrentMissions": 1}


def access_of(database: Database, role: str) -> Access:
    """How one role reaches a test's database."""
    return Access(database.dsn(role), role, str(database.password_file(role)))


def settings_of(database: Database, model_url: str, **more: Any) -> AgentSettings:
    """Settings of an agent on a test's database."""
    return AgentSettings(
        dsn=database.dsn("mana_agent"),
        role="mana_agent",
        password_file=str(database.password_file("mana_agent")),
        model_url=model_url,
        model_key_file=None,
        model="mana/reasoning",
        **more,
    )


@asynccontextmanager
async def driver_for(
    database: Database, script: list[Entry] | None = None, **more: Any
) -> "AsyncGenerator[Driver]":
    """A driver that has the shard, with a scripted model; both end with the block."""
    from tests.driver import Driver

    with FakeProvider(script or []) as provider:
        settings = settings_of(database, provider.url, **more)
        driver = Driver(lambda role: access_of(database, role), settings)
        try:
            await driver.start()
            yield driver
        finally:
            await driver.close()


async def put(
    connection: asyncpg.Connection,
    user_id: str,
    record_id: str,
    data: dict[str, Any],
    *,
    table: str = "aiMissions",
    op: str = "insert",
    meta: dict[str, Any] | None = None,
    stamps: str = "field_meta",
    client: str = "c1",
) -> None:
    """One row into the log, as the sync service pushes it; inserts are whole records."""
    whole = (MISSION if table == "aiMissions" else AGENT) | data if op == "insert" else data
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.current_user_id', $1, true)", user_id)
        await connection.execute(
            "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data,"
            f" {stamps}, client_id) VALUES ('ai', $1, $2, $3, $4, $5::jsonb, $6::jsonb, $7)",
            table,
            record_id,
            user_id,
            op,
            msgspec.json.encode(whole).decode(),
            msgspec.json.encode(meta or {}).decode(),
            client,
        )


async def snapshot_of(database: Database, user_id: str, mission_id: str) -> dict[str, Any]:
    """A mission's stored record."""
    connection = await database.connect("postgres")
    try:
        text = await connection.fetchval(
            "SELECT record FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2",
            user_id,
            mission_id,
        )
    finally:
        await connection.close()
    return msgspec.json.decode(text)


@asynccontextmanager
async def session(database: Database, role: str) -> AsyncGenerator[asyncpg.Connection]:
    """A connection of one role, closed with the block."""
    connection = await database.connect(role)
    try:
        yield connection
    finally:
        await connection.close()


async def written_by_us(
    connection: asyncpg.Connection, user_id: str, stamps: str = "field_meta"
) -> list[dict[str, Any]]:
    """The rows we wrote for one user, oldest first, with data, stamps and actor decoded."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.current_user_id', $1, true)", user_id)
        rows = await connection.fetch(
            f"SELECT record_id, op, data, {stamps} AS stamps, actor, origin FROM sync_changes"
            " WHERE user_id = $1 AND client_id = 'mana-ai-runner' ORDER BY created_at, id",
            user_id,
        )
    decoded = ("data", "stamps", "actor")
    return [
        dict(row) | {name: msgspec.json.decode(row[name] or "null") for name in decoded}
        for row in rows
    ]
