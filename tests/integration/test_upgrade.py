"""A database where the original service ran: upgraded, and nothing run twice."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from state.store.migrate import migrate
from state.store.supervisor.snapshots import SnapshotStore
from tests.driver import Driver
from tests.integration.steps import driver_for, put, session, snapshot_of, written_by_us
from tests.postgres import LOG_OWNER, SUPERUSER, Database

ORIGINAL = """
CREATE TABLE sync_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), app_id text NOT NULL, table_name text NOT NULL,
  record_id text NOT NULL, user_id text NOT NULL,
  op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')), data jsonb,
  field_meta jsonb DEFAULT '{}', client_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), schema_version int NOT NULL DEFAULT 1,
  actor jsonb, origin text, space_id text);
ALTER TABLE sync_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY sync_changes_user_isolation ON sync_changes
  USING (user_id = current_setting('app.current_user_id', true))
  WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE SCHEMA mana_ai;
CREATE TABLE mana_ai.mission_snapshots (
  user_id text NOT NULL, mission_id text NOT NULL, record jsonb NOT NULL,
  last_applied_at timestamptz NOT NULL DEFAULT 'epoch',
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, mission_id));
CREATE INDEX idx_snapshots_due ON mana_ai.mission_snapshots
  ((record ->> 'state'), (record ->> 'nextRunAt')) WHERE record ->> 'state' = 'active';
CREATE INDEX idx_snapshots_user ON mana_ai.mission_snapshots (user_id, last_applied_at);
CREATE TABLE mana_ai.agent_snapshots (
  user_id text NOT NULL, agent_id text NOT NULL, record jsonb NOT NULL,
  last_applied_at timestamptz NOT NULL DEFAULT 'epoch',
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, agent_id));
CREATE TABLE mana_ai.decrypt_audit (
  id bigserial PRIMARY KEY, user_id text NOT NULL, mission_id text NOT NULL, iteration_id text,
  table_name text NOT NULL, record_id text NOT NULL,
  status text NOT NULL CHECK (status IN ('ok', 'failed', 'scope-violation')), reason text,
  ts timestamptz NOT NULL DEFAULT now());
CREATE INDEX idx_audit ON mana_ai.decrypt_audit (user_id, mission_id, ts DESC);
ALTER TABLE mana_ai.decrypt_audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY decrypt_audit_user_scope ON mana_ai.decrypt_audit
  USING (user_id = current_setting('app.current_user_id', true));
CREATE TABLE mana_ai.mission_research_jobs (
  user_id text NOT NULL, mission_id text NOT NULL, task_id text NOT NULL, provider_id text NOT NULL,
  submitted_at timestamptz NOT NULL DEFAULT now(), last_polled_at timestamptz,
  PRIMARY KEY (user_id, mission_id));
CREATE TABLE mana_ai.token_usage (
  id bigserial PRIMARY KEY, user_id text NOT NULL, agent_id text NOT NULL, mission_id text NOT NULL,
  tokens_used int NOT NULL, ts timestamptz NOT NULL DEFAULT now());
CREATE INDEX idx_usage ON mana_ai.token_usage (user_id, agent_id, ts DESC);
"""
LEFT_BEHIND = """
INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, last_applied_at)
VALUES
  ('u1', 'm1', '{"id": "m1", "title": "stale", "state": "active", "__fieldMeta":
    {"title": {"at": "2026-04-01T00:00:00Z", "actor": {"kind": "user"}, "origin": "user"}}}',
    now()),
  ('u1', 'gone', '{"id": "gone", "title": "no row in the log"}', now());
INSERT INTO mana_ai.agent_snapshots (user_id, agent_id, record) VALUES
  ('u1', 'a1', '{"id": "a1", "name": "stale", "__fieldMeta": {}}');
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts) VALUES
  ('u1', 'a1', 'm1', 700, now() - interval '1 hour'),
  ('u1', 'a1', 'm1', 5000, now() - interval '2 days');
INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, table_name, record_id, status) VALUES
  ('u1', 'm1', 'notes', 'n1', 'ok');
INSERT INTO mana_ai.mission_research_jobs (user_id, mission_id, task_id, provider_id) VALUES
  ('u1', 'm1', 'task', 'gemini-deep-research-max');
"""
SLOT = "2026-04-15T05:00:00.000Z"
OBJECT_STAMP = {"at": "2026-04-10T12:00:00Z", "actor": {"kind": "user"}, "origin": "user"}
DAILY: dict[str, Any] = {"kind": "daily", "atHour": 7, "atMinute": 0}


async def _history(sync: asyncpg.Connection) -> None:
    """Two people's rows, written while the original service ran; stamps of both shapes."""
    await put(sync, "u1", "a1", {"maxTokensPerDay": 1000}, table="agents")
    await put(
        sync, "u1", "m1", {"title": "T", "agentId": "a1", "nextRunAt": SLOT, "cadence": DAILY}
    )
    await put(sync, "u1", "m1", {"title": "Neu"}, op="update", meta={"title": OBJECT_STAMP})
    await put(
        sync,
        "u1",
        "m1",
        {"iterations": [{"id": "i0", "source": "server", "overallStatus": "approved"}]},
        op="update",
        meta={"iterations": "2026-04-15T05:00:10.000Z"},
        client="mana-ai-runner",
    )
    await put(sync, "u2", "m1", {"nextRunAt": SLOT, "cadence": {"kind": "manual"}})
    await put(sync, "u2", "m2", {"state": "paused", "nextRunAt": SLOT, "cadence": DAILY})


async def _reconcile(snapshots: SnapshotStore, users: int = 1) -> int:
    """The sweep as the supervisor does it, in small steps; returns records replayed."""
    replayed, after = 0, ""
    while True:
        keys, last = await snapshots.differences(after, users)
        if keys:
            replayed += (await snapshots.rebuild(keys)).replayed
        if last is None:
            return replayed
        after = last


@asynccontextmanager
async def _upgraded(database: Database, **more: Any) -> AsyncGenerator[Driver]:
    """The original's database, migrated and swept, with a driver that has the shard."""
    async with session(database, LOG_OWNER) as sync:
        await sync.execute(ORIGINAL)
        await _history(sync)
        await sync.execute(LEFT_BEHIND)
    await migrate(
        database.dsn(LOG_OWNER),
        secrets_dir=database.secrets_dir,
        password=database.password(LOG_OWNER),
    )
    async with driver_for(database, **more) as driver:
        await _reconcile(driver.snapshots)
        yield driver


async def test_after_the_sweep_every_snapshot_is_a_replay_of_the_log(empty_database: Database):
    async with _upgraded(empty_database) as driver:
        assert await driver.snapshots.differences("", 100) == ([], "u2")
        assert await _reconcile(driver.snapshots) == 0
    async with session(empty_database, SUPERUSER) as admin:
        keys = await admin.fetch("SELECT user_id, mission_id FROM mana_ai.mission_snapshots")
        agent = await admin.fetchval("SELECT record ->> 'name' FROM mana_ai.agent_snapshots")
    assert sorted(tuple(row) for row in keys) == [("u1", "m1"), ("u2", "m1"), ("u2", "m2")]
    assert agent == "N"


async def test_object_stamps_become_plain_ones(empty_database: Database):
    async with _upgraded(empty_database):
        record = await snapshot_of(empty_database, "u1", "m1")
    assert record["title"] == "Neu"
    assert record["__fieldMeta"]["title"] == "2026-04-10T12:00:00.000Z"
    assert all(isinstance(stamp, str) for stamp in record["__fieldMeta"].values())


async def test_a_slot_older_than_the_install_moves_to_the_next_time(empty_database: Database):
    async with _upgraded(empty_database) as driver:
        looked, reports = await driver.tick()
        assert (len(looked.moves), reports) == (2, [])
        await driver.fold_all()
        again, reports = await driver.tick()
        assert (again.moves, reports) == ([], [])
    mine = await snapshot_of(empty_database, "u1", "m1")
    theirs = await snapshot_of(empty_database, "u2", "m1")
    following = datetime.fromisoformat(mine["nextRunAt"])
    assert datetime.now(UTC) < following < datetime.now(UTC) + timedelta(days=1, minutes=1)
    assert theirs["nextRunAt"] is None
    assert [iteration["id"] for iteration in mine["iterations"]] == ["i0"]


async def test_the_row_that_moves_a_slot_is_one_the_sync_service_accepts(empty_database: Database):
    async with _upgraded(empty_database) as driver:
        await driver.tick()
    async with session(empty_database, LOG_OWNER) as sync:
        rows = await written_by_us(sync, "u1")
    assert [sorted(row["data"]) for row in rows] == [["iterations"], ["nextRunAt"]]
    assert list(rows[1]["stamps"]) == ["nextRunAt"]
    assert isinstance(rows[1]["stamps"]["nextRunAt"], str)
    assert rows[1]["actor"]["principalId"] == "system:mission-runner"


async def test_a_slot_after_the_install_runs(empty_database: Database):
    async with _upgraded(empty_database) as driver, session(empty_database, LOG_OWNER) as sync:
        await driver.tick()
        async with session(empty_database, SUPERUSER) as admin:
            now = await admin.fetchval("SELECT clock_timestamp()")
        soon = {"nextRunAt": now.isoformat()}
        await put(sync, "u2", "m1", soon, op="update", meta={"nextRunAt": "2099-01-01T00:00:00Z"})
        _, reports = await driver.tick()
    assert [report.outcome for report in reports] == ["ran"]


async def test_earlier_usage_is_kept_and_counts(empty_database: Database):
    async with _upgraded(empty_database) as driver, session(empty_database, LOG_OWNER) as sync:
        await driver.tick()  # moves the old slots on
        async with session(empty_database, SUPERUSER) as admin:
            now = await admin.fetchval("SELECT clock_timestamp()")
            usage = await admin.fetch("SELECT tokens_used, basis FROM mana_ai.token_usage")
        stamps = {"nextRunAt": "2099-01-01T00:00:00Z"}
        await put(sync, "u1", "m1", {"nextRunAt": now.isoformat()}, op="update", meta=stamps)
        cap = {"maxTokensPerDay": 700}
        later = {"maxTokensPerDay": "2099-01-01T00:00:00Z"}
        await put(sync, "u1", "a1", cap, table="agents", op="update", meta=later)
        await driver.tick()
    assert sorted(row["tokens_used"] for row in usage) == [700, 5000]
    assert driver.decisions["skipped-budget"] == 1


async def test_audit_and_research_rows_stay(empty_database: Database):
    async with _upgraded(empty_database):
        pass
    async with session(empty_database, SUPERUSER) as admin:
        for table in ("decrypt_audit", "mission_research_jobs"):
            assert await admin.fetchval(f"SELECT count(*) FROM mana_ai.{table}") == 1


COLUMNS = """
SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
       || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace IN ('mana_ai'::regnamespace, 'public'::regnamespace)
   AND c.relkind IN ('r', 'v', 'S') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT polrelid::regclass || ' ' || polname || ' ' || polcmd::text || ' '
       || coalesce(pg_get_expr(polqual, polrelid), '') FROM pg_policy
UNION ALL
SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace IN ('mana_ai'::regnamespace, 'public'::regnamespace)
UNION ALL
SELECT oid::regclass || ' ' || relowner::regrole || ' ' || coalesce(relacl::text, '')
       || relforcerowsecurity::text FROM pg_class
 WHERE relnamespace = 'mana_ai'::regnamespace AND relkind IN ('r', 'v', 'S')
"""


async def test_an_upgraded_database_has_the_schema_of_a_new_one(
    empty_database: Database, database: Database
):
    async with _upgraded(empty_database):
        pass
    async with session(empty_database, SUPERUSER) as upgraded, session(database, SUPERUSER) as new:
        facts = [{row[0] for row in await one.fetch(COLUMNS)} for one in (upgraded, new)]
    assert facts[0] ^ facts[1] == set()


@pytest.mark.parametrize("table", ["mission_snapshots", "token_usage"])
async def test_the_log_owner_no_longer_sees_peoples_rows(empty_database: Database, table: str):
    async with _upgraded(empty_database):
        pass
    async with session(empty_database, LOG_OWNER) as sync:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sync.fetch(f"SELECT * FROM mana_ai.{table}")


async def test_the_sweep_stopped_half_way_goes_on_from_there(empty_database: Database):
    async with session(empty_database, LOG_OWNER) as sync:
        await sync.execute(ORIGINAL)
        await _history(sync)
    await migrate(
        empty_database.dsn(LOG_OWNER),
        secrets_dir=empty_database.secrets_dir,
        password=empty_database.password(LOG_OWNER),
    )
    async with driver_for(empty_database) as driver:
        store = driver.snapshots
        assert store is not None
        first, last = await store.differences("", 1)
        await store.rebuild(first)
        await store.note_reconcile(last)
        assert {key[0] for key in first} == {"u1"}
        rest, _ = await store.differences(last or "", 100)
        assert {key[0] for key in rest} == {"u2"}
    assert msgspec.json.encode((await snapshot_of(empty_database, "u1", "m1"))["title"]) == b'"Neu"'
