"""Commands that look at the database themselves, since they are for when the node is not there."""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from state.store import embedded
from state.store.connect import Access, Database
from state.store.gateway.fleet import FleetStore
from state.store.migrate import migrate, sql_script
from state.store.rotation import CapabilitySecret, capability_secrets, rotate_capability
from state.store.supervisor.snapshots import Lease, RecordKey, SnapshotStore
from state.troubles import trouble_of
from supervisor.cli import output
from supervisor.cli.environment import settings_of
from supervisor.cli.failures import FAILED, UNREACHABLE, Failure
from supervisor.cli.up_down import say
from supervisor.node.credentials import read_secret
from supervisor.node.settings import Settings

LOG_OWNER = "mana_sync"
SUPERVISOR = "mana_supervisor"
USERS = 200
RECORDS = 100
SAY_EVERY_S, HELD_S, AGAIN_S = 2.0, 60.0, 1.0


def print_sql() -> None:
    """The migrations as one script."""
    sys.stdout.write(sql_script())


def migrate_now(data_dir: str | None, database_url: str | None) -> None:
    """Apply what is missing."""
    settings = settings_for(data_dir, database_url)
    dsn, password = _owner(settings)
    work = migrate(
        dsn,
        secrets_dir=Path(settings.secrets_dir),
        password=password,
        progress=lambda line: say(f"  {line}"),
    )
    try:
        applied = asyncio.run(work)
    except (OSError, TimeoutError) as exc:
        trouble = trouble_of(exc)
        raise Failure(f"database: {trouble.what}: {trouble.remedy}", UNREACHABLE) from exc
    output.line_out(f"{len(applied)} migrations applied" if applied else "nothing to do")


def verify_snapshots(data_dir: str | None, database_url: str | None, *, as_json: bool) -> int:
    """List the records whose snapshot differs from the log."""
    found = asyncio.run(_verified(settings_for(data_dir, database_url)))
    if as_json:
        output.json_out({"ok": not found, "differ": found})
    else:
        for user, table, record in found:
            output.line_out(f"{user} {table}/{record}")
        output.line_out(f"{len(found)} records differ: mana snapshots rebuild" if found else "ok")
    return FAILED if found else 0


async def _verified(settings: Settings) -> list[RecordKey]:
    database = database_of(settings)
    try:
        return await _differences(SnapshotStore(database, Lease("verify", 0)))
    finally:
        await database.close()


async def _differences(store: SnapshotStore) -> list[RecordKey]:
    found: list[RecordKey] = []
    after: str | None = ""
    said_at = time.monotonic()
    while after is not None:
        differ, after = await store.differences(after, USERS)
        found += differ
        if after and time.monotonic() - said_at >= SAY_EVERY_S:
            said_at = time.monotonic()
            say(f"  compared as far as {output.shown(after)}, {len(found):,} differ so far")
    return found


def rebuild_snapshots(data_dir: str | None, database_url: str | None, *, as_json: bool) -> int:
    """Replay what differs; a supervisor that runs meanwhile goes on folding in between."""
    rebuilt, left = asyncio.run(_rebuilt(settings_for(data_dir, database_url)))
    if as_json:
        output.json_out({"ok": not left, "rebuilt": rebuilt, "differ": left})
    else:
        output.line_out(f"{rebuilt} records rebuilt, {len(left)} still differ")
        if left:
            output.line_out("a transaction may hold them, or changes came in between: try again")
    return FAILED if left else 0


async def _rebuilt(settings: Settings) -> tuple[int, list[RecordKey]]:
    database = database_of(settings)
    rebuilt = 0
    left: list[RecordKey] = []
    try:
        shards = await FleetStore(database).shards()
        if not shards:
            raise Failure("no shard was ever taken here: start it once with mana up")
        for shard in shards:
            lease = Lease(shard.shard, shard.epoch, shard.bucket_lo, shard.bucket_hi)
            store = SnapshotStore(database, lease)
            differ = await _differences(store)
            held = await replayed(store, differ)
            rebuilt += len(differ) - len(held)
            left += await _differences(store) if differ else []
    finally:
        await database.close()
    return rebuilt, left


async def replayed(store: SnapshotStore, keys: list[RecordKey]) -> list[RecordKey]:
    """Replay these; those are left that transactions hold for longer than we wait."""
    give_up = time.monotonic() + HELD_S
    while True:
        held: list[RecordKey] = []
        for first in range(0, len(keys), RECORDS):
            held += (await store.rebuild(keys[first : first + RECORDS])).held
        if not held or time.monotonic() >= give_up:
            return held
        say(f"  {len(held):,} records are held by transactions: trying again")
        keys = held
        await asyncio.sleep(AGAIN_S)


def examine(data_dir: str | None, database_url: str | None, *, as_json: bool) -> int:
    """Every check of the doctor."""
    from supervisor.cli.gateway_client import gateway  # noqa: PLC0415 - only this command needs it
    from supervisor.node.doctor import examined, models_finding  # noqa: PLC0415 - likewise

    settings = settings_for(data_dir, database_url)
    dsn, password = _owner(settings)
    findings = asyncio.run(examined(dsn, password, settings))
    with suppress(Failure):  # where no node runs, nobody knows its models
        findings.append(models_finding(gateway(None, data_dir).get("/internal/llm")))
    rows = msgspec.to_builtins(findings)
    is_ok = all(finding.ok for finding in findings)
    if as_json:
        output.json_out({"ok": is_ok, "checks": rows})
    else:
        output.table_out(output.CHECKS, rows, "nothing to check")
    return 0 if is_ok else FAILED


def rotate_capability_now(data_dir: str | None, database_url: str | None, *, at_once: bool) -> None:
    """New secrets for capabilities, made as the log's owner."""
    dsn, password = _owner(settings_for(data_dir, database_url))
    asyncio.run(rotate_capability(dsn, password, at_once=at_once))


async def capability_secrets_now(settings: Settings) -> Sequence[CapabilitySecret]:
    """Which secrets sign and verify capabilities."""
    database = database_of(settings)
    try:
        return await capability_secrets(database)
    finally:
        await database.close()


def settings_for(data_dir: str | None, database_url: str | None) -> Settings:
    """The settings by which commands find the database."""
    return settings_of({"MANA_DATA_DIR": data_dir, "SYNC_DATABASE_URL": database_url})


def _owner(settings: Settings) -> tuple[str, str | None]:
    """How to log in as the log's owner."""
    if settings.database_url is not None:
        path = settings.database_password_file
        return settings.database_url, (
            read_secret("MANA_DATABASE_PASSWORD_FILE", Path(path)) if path else None
        )
    server = _server(settings)
    return server.dsn(LOG_OWNER), embedded.read_password(server.secret(LOG_OWNER))


def _server(settings: Settings) -> embedded.Server:
    server = embedded.status(Path(settings.data_dir))
    if server is None:
        raise Failure(
            f"the embedded Postgres of {settings.data_dir} does not run: mana up", UNREACHABLE
        )
    return server


def database_of(settings: Settings, role: str = SUPERVISOR) -> Database:
    """Connections as one of our logins."""
    dsn = settings.database_url or _server(settings).dsn(role)
    password = Path(settings.secrets_dir, role)
    if not password.is_file():
        raise Failure(f"there is no password {password}: run mana migrate", FAILED)
    return Database(Access(dsn, role, str(password), "mana-cli"), max_connections=2)
