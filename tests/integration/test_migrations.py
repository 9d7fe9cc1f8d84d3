"""Migrations: once, by a plain owner, on a fresh log and on one the sync service made."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from state.store.dump_schema import SCHEMA_FILE, dump
from state.store.embedded.binaries import binaries_in, wheel_binaries
from state.store.migrate import LOGINS, MigrationError, migrate, pending, sql_script
from state.store.sql import function_texts
from tests.integration.steps import driver_for, put, session, snapshot_of, written_by_us
from tests.postgres import LOG_OWNER, SUPERUSER, Database, TestServer, debian_programs

OLD_LOG = """
CREATE TABLE sync_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), app_id text NOT NULL, table_name text NOT NULL,
  record_id text NOT NULL, user_id text NOT NULL,
  op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')), data jsonb,
  field_timestamps jsonb DEFAULT '{}', client_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now());
ALTER TABLE sync_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY sync_changes_user_isolation ON sync_changes
  USING (user_id = current_setting('app.current_user_id', true))
  WITH CHECK (user_id = current_setting('app.current_user_id', true));
"""
TODAYS_LOG = OLD_LOG.replace("field_timestamps", "field_meta").replace(
    "created_at timestamptz NOT NULL DEFAULT now());",
    "created_at timestamptz NOT NULL DEFAULT now(), schema_version int NOT NULL DEFAULT 1,"
    " actor jsonb, origin text, space_id text);",
)


STEPS = [
    "0001_baseline_tables",
    "0002_baseline_access",
    "0003_one_statement_runs",
    "0004_shared_progress",
    "0005_people",
    "0006_own_changes",
    "0007_proposals",
    "0008_granted_missions",
    "0009_default_agents",
    "0010_own_log",
    "0011_sync_feeds",
    "0012_log_compaction",
    "0014_late_proposals",
    "0017_sync_devices",
    "0018_openings",
    "0023_visitors",
    "0024_history_of_others",
    "0025_triage",
    "0027_operator_sessions",
    "0028_newest_runs",
    "0029_prune_sessions",
]
EVERYTHING = sorted([*STEPS, *(f"function {name}" for name in function_texts())])
SOMEBODY_WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
STAMP_COLUMNS = """
SELECT array_agg(attname::text) FROM pg_attribute
 WHERE attrelid = 'sync_changes'::regclass AND attname IN ('field_meta', 'field_timestamps')
"""


async def _migrated(database: Database, secrets_dir: Path | None = None) -> list[str]:
    return await migrate(
        database.dsn(LOG_OWNER),
        secrets_dir=secrets_dir or database.secrets_dir,
        password=database.password(LOG_OWNER),
    )


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _programs(database: Database) -> Path:
    """The folder with psql and pg_dump of the server's version."""
    major = database.server.version.split(".")[0]
    debian = debian_programs()
    found = [*wheel_binaries(), *([binaries_in(debian)] if debian else [])]
    return next(one.folder for one in found if one.major == major)


def _dump(database: Database) -> str:
    return dump(database.dsn(SUPERUSER), database.password_file(SUPERUSER), _programs(database))


def test_schema_sql_is_what_the_migrations_lead_to(database: Database):
    if not database.server.version.startswith("18."):
        pytest.skip("pg_dump of other versions words clauses differently")
    remedy = "run python -m state.store.dump_schema"
    assert _dump(database) == SCHEMA_FILE.read_text("utf-8"), remedy


async def test_a_second_migration_finds_nothing_to_do(database: Database):
    assert await _migrated(database) == []
    async with session(database, "mana_supervisor") as supervisor:
        steps = await supervisor.fetch("SELECT name FROM mana_ai.migrations")
        texts = await supervisor.fetch("SELECT name, text_digest FROM mana_ai.function_texts")
    assert pending([row["name"] for row in steps], {row[0]: row[1] for row in texts}) == []
    assert sorted(pending([])) == EVERYTHING


STARTER = """
import asyncio, sys
from pathlib import Path
from state.store.migrate import migrate
dsn, folder, password_file = sys.argv[1:]
sys.stdin.read()  # all start when the test closes the pipes
password = Path(password_file).read_text().strip()
for name in asyncio.run(migrate(dsn, secrets_dir=Path(folder), password=password)):
    print(name)
"""


def test_four_processes_starting_at_once_migrate_a_fresh_database_once(empty_database: Database):
    owner = empty_database.password_file(LOG_OWNER)
    command = [sys.executable, "-c", STARTER, empty_database.dsn(LOG_OWNER)]
    starters = [
        subprocess.Popen(
            [*command, owner.parent, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.close()
        starter.stdin = None
    told = [starter.communicate(timeout=60) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 4, told
    applied = sorted(name for out, _ in told for name in out.splitlines())
    assert applied == EVERYTHING


async def test_the_owner_needs_no_superuser_and_keeps_no_membership(database: Database):
    async with session(database, SUPERUSER) as admin:
        owner = await admin.fetchrow(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = $1", LOG_OWNER
        )
        usable = await admin.fetch(
            "SELECT g.rolname FROM pg_roles AS g WHERE g.rolname LIKE 'mana%' AND g.rolname <> $1"
            " AND pg_has_role($1, g.oid, 'USAGE')",
            LOG_OWNER,
        )
    assert owner is not None
    assert tuple(owner) == (False, False)
    assert usable == []


async def test_passwords_live_in_files_of_mode_0600_and_open_the_logins(database: Database):
    for login in LOGINS:
        assert database.password_file(login.name).stat().st_mode & 0o777 == 0o600
        async with session(database, login.name) as connection:
            assert await connection.fetchval("SELECT session_user") == login.name


async def test_no_password_and_no_secret_is_ever_sql_text(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
):
    import asyncpg

    seen: list[str] = []
    execute = asyncpg.Connection.execute

    async def spying(self: asyncpg.Connection, query: str, *args: object, **more: float) -> str:
        seen.append(query + repr(args))
        return await execute(self, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "execute", spying)
    await _migrated(empty_database)
    text = "\n".join(seen)
    assert "capability_secrets" in text
    for login in LOGINS:
        assert empty_database.password(login.name) not in text


async def test_a_lost_password_file_gives_the_login_a_new_password(database: Database):
    path = database.password_file("mana_janitor")
    before = path.read_text()
    path.unlink()
    await _migrated(database)
    assert path.read_text() != before
    async with session(database, "mana_janitor"):
        pass


async def test_passwords_made_beforehand_are_taken(database: Database, tmp_path: Path):
    for login in LOGINS:
        (tmp_path / login.name).write_text(database.password(login.name))
    assert await _migrated(database, tmp_path) == []
    assert _files(tmp_path) == sorted(one.name for one in LOGINS)


async def test_an_empty_password_file_is_one_clear_error(database: Database, tmp_path: Path):
    (tmp_path / "mana_supervisor").write_text("\n")
    with pytest.raises(MigrationError, match="mana_supervisor is empty"):
        await _migrated(database, tmp_path)


async def test_a_login_that_may_not_migrate_is_told_what_it_needs(empty_database: Database):
    await _migrated(empty_database)  # the roles are the server's, so the stranger has a login
    async with session(empty_database, SUPERUSER) as admin:
        await admin.execute("DROP SCHEMA mana_ai CASCADE")
    with pytest.raises(MigrationError, match=r"CREATEROLE .* --print-sql"):
        await migrate(
            empty_database.dsn("mana_gateway"),
            secrets_dir=empty_database.secrets_dir,
            password=empty_database.password("mana_gateway"),
        )


async def test_an_unreachable_database_is_one_line(tmp_path: Path):
    with pytest.raises(MigrationError, match="cannot be reached") as caught:
        await migrate("postgresql://nobody@127.0.0.1:1/none", secrets_dir=tmp_path)
    assert "\n" not in caught.value.message
    assert _files(tmp_path) == []


async def test_a_log_held_by_others_is_waited_for(empty_database: Database):
    async with (
        session(empty_database, LOG_OWNER) as sync,
        session(empty_database, SUPERUSER) as watcher,
    ):
        await sync.execute(TODAYS_LOG)
        async with sync.transaction():
            await sync.execute("LOCK TABLE sync_changes IN ACCESS EXCLUSIVE MODE")
            work = asyncio.create_task(_migrated(empty_database))
            while not await watcher.fetchval(SOMEBODY_WAITS):
                assert not work.done()
        assert sorted(await work) == EVERYTHING


@pytest.mark.parametrize("log", [TODAYS_LOG, OLD_LOG], ids=["todays", "older"])
async def test_a_log_the_sync_service_made_is_taken_as_it_is(empty_database: Database, log: str):
    async with session(empty_database, LOG_OWNER) as sync:
        await sync.execute(log)
        await _migrated(empty_database)
        names = await sync.fetchval(STAMP_COLUMNS)
    assert names == ["field_timestamps" if log is OLD_LOG else "field_meta"]


@pytest.mark.parametrize("log", [TODAYS_LOG, OLD_LOG], ids=["todays", "older"])
async def test_a_mission_folds_and_commits_on_a_log_of_any_shape(
    empty_database: Database, log: str
):
    stamps = "field_timestamps" if log is OLD_LOG else "field_meta"
    slot = {"title": "T", "nextRunAt": "2026-04-15T00:00:00Z"}
    later = {"title": "2099-01-01T00:00:00Z"}
    async with session(empty_database, LOG_OWNER) as sync:
        await sync.execute(log)
        await _migrated(empty_database)
        async with driver_for(empty_database) as driver:
            await put(sync, "u1", "m1", slot, stamps=stamps)
            await put(sync, "u1", "m1", {"title": "Neu"}, op="update", stamps=stamps, meta=later)
            _, reports = await driver.tick()
            assert [report.outcome for report in reports] == ["ran"]
            await driver.fold_all()
        written = await written_by_us(sync, "u1", stamps)
    record = await snapshot_of(empty_database, "u1", "m1")
    assert record["title"] == "Neu"
    assert len(record["iterations"]) == 1
    assert record["nextRunAt"] is None
    assert [set(row["stamps"]) for row in written] == [{"iterations", "nextRunAt"}]
    assert written[0]["origin"] == "agent"


async def test_a_renamed_stamp_column_does_not_stop_folding(empty_database: Database):
    """A newer sync service renames field_timestamps while we run."""
    async with session(empty_database, LOG_OWNER) as sync:
        await sync.execute(OLD_LOG)
        await _migrated(empty_database)
        await sync.execute("ALTER TABLE sync_changes RENAME COLUMN field_timestamps TO field_meta")
        async with driver_for(empty_database) as driver:
            await put(sync, "u1", "m1", {"title": "T"})
            assert await driver.fold_all() == 1


def _psql(
    database: Database, role: str, script: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A script, the printed one if none is named, run as a DBA would."""
    return subprocess.run(
        [_programs(database) / "psql", "--no-psqlrc", "--quiet", database.dsn(role)],
        input=script or sql_script(),
        env={"PGPASSWORD": database.password(role), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_printed_script_run_by_psql_gives_the_same_schema(
    empty_database: Database, database: Database
):
    done = _psql(empty_database, LOG_OWNER)
    assert (done.returncode, done.stderr) == (0, "")
    assert _dump(empty_database) == _dump(database)


async def test_after_the_printed_script_a_migration_finds_nothing_to_do(empty_database: Database):
    assert _psql(empty_database, LOG_OWNER).returncode == 0
    assert await _migrated(empty_database) == []
    async with session(empty_database, SUPERUSER) as admin:
        audiences = await admin.fetch("SELECT audience FROM mana_ai.capability_secrets")
    assert sorted(row["audience"] for row in audiences) == ["db", "keys"]


async def test_the_printed_script_run_twice_changes_nothing(empty_database: Database):
    for _ in range(2):
        done = _psql(empty_database, LOG_OWNER)
        assert (done.returncode, done.stderr) == (0, "")
    assert await _migrated(empty_database) == []


EARLIER = (Path(__file__).parent / "data/before_the_baseline.sql").read_text()
ROWS = """
INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, tokens)
VALUES ('u1', 'legacy:ai-default', 'm1', '2026-04-15T00:00:00Z', 'committed', 120);
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used)
VALUES ('u1', 'a', 'm1', 7);
INSERT INTO mana_ai.limits (kind, user_id, tokens) VALUES ('user', 'u1', 1000);
INSERT INTO mana_ai.owner_keys (user_id, key_id, public_key)
VALUES ('u1', 'k', sha256('x'));
SELECT mana_ai.rotate_capability_secrets(false);
"""
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
 WHERE schemaname IN ('mana_ai', 'public', 'auth')
   AND NOT tablename IN ('migrations', 'function_texts') ORDER BY 1
"""


Rows = dict[str, list[dict[str, Any]]]


async def _rows(database: Database) -> Rows:
    """Every row of every table but the ledger's."""
    async with session(database, SUPERUSER) as admin:
        found: Rows = {}
        for (name,) in await admin.fetch(TABLES):
            rows = await admin.fetch(f"SELECT to_jsonb(t) AS row FROM {name} AS t ORDER BY t::text")
            found[name] = [json.loads(row["row"]) for row in rows]
        return found


def _with_new_columns(before: Rows, after: Rows) -> Rows:
    """The rows of before with the tables, empty, and columns that steps since then have added."""
    new_tables: Rows = {name: [] for name in after if name not in before}
    return new_tables | {
        name: [{**row, **dict.fromkeys(after[name][0].keys() - row.keys())} for row in rows]
        for name, rows in before.items()
    }


async def _of_the_earlier_release(database: Database) -> None:
    """A database as the release before the baseline made it, with rows in it."""
    assert _psql(database, LOG_OWNER, EARLIER).returncode == 0
    async with session(database, LOG_OWNER) as sync:
        await put(sync, "u1", "m1", {"title": "T"})
    async with session(database, SUPERUSER) as admin:
        await admin.execute(ROWS)


@pytest.mark.parametrize("way", ["migrate", "script"])
async def test_a_database_of_the_release_before_is_upgraded_with_its_rows(
    empty_database: Database, database: Database, way: str
):
    await _of_the_earlier_release(empty_database)
    before = await _rows(empty_database)
    assert sum(map(len, before.values())) > 8
    if way == "migrate":
        applied = await _migrated(empty_database)
        since_then = [name for name in EVERYTHING if "_baseline_" not in name]
        assert sorted(applied) == since_then
    else:
        done = _psql(empty_database, LOG_OWNER)
        assert (done.returncode, done.stderr) == (0, "")
    after = await _rows(empty_database)
    assert after == _with_new_columns(before, after)
    assert _dump(empty_database) == _dump(database)
    assert await _migrated(empty_database) == []


async def test_what_the_release_before_signed_is_accepted_after_the_upgrade(
    empty_database: Database,
):
    sign = "SELECT mana_ai.sign_capability('u1', 'a1', '{}', '{}', 'db', 900)"
    assert _psql(empty_database, LOG_OWNER, EARLIER).returncode == 0
    async with session(empty_database, SUPERUSER) as admin:
        old = [await admin.fetchval(sign)]
        await admin.execute("SELECT mana_ai.rotate_capability_secrets(false)")
        old.append(await admin.fetchval(sign))
        await _migrated(empty_database)
        for token in old:
            async with admin.transaction():
                await admin.execute("SELECT set_config('app.capability', $1, true)", token)
                assert await admin.fetchval("SELECT mana_ai.capability() ->> 'u'") == "u1"


async def test_a_database_with_a_part_of_the_steps_before_is_one_clear_error(
    empty_database: Database,
):
    await _of_the_earlier_release(empty_database)
    async with session(empty_database, SUPERUSER) as admin:
        await admin.execute("DELETE FROM mana_ai.migrations WHERE name > '0015'")
    with pytest.raises(MigrationError, match=r"14 of the 18 steps .* of the release that made it"):
        await _migrated(empty_database)
    assert "14 of the 18 steps" in _psql(empty_database, LOG_OWNER).stderr


BY_HAND = {
    "body": "CREATE OR REPLACE FUNCTION mana_ai.bucket_of(p_user text) RETURNS smallint"
    " LANGUAGE sql IMMUTABLE STRICT RETURN 0::smallint",
    "comment": "COMMENT ON FUNCTION mana_ai.bucket_of IS 'by hand'",
    "grant": "GRANT EXECUTE ON FUNCTION mana_ai.bucket_of TO mana_agent, PUBLIC",
    "owner": "ALTER FUNCTION mana_ai.renew OWNER TO mana_router",
    "gone": "DROP FUNCTION mana_ai.renew",
    "overload": "CREATE FUNCTION mana_ai.renew(int) RETURNS int LANGUAGE sql RETURN 1;"
    " ALTER FUNCTION mana_ai.renew(int) OWNER TO mana_owner",
    "stray": "CREATE FUNCTION mana_ai.stray() RETURNS int LANGUAGE sql RETURN 1;"
    " ALTER FUNCTION mana_ai.stray() OWNER TO mana_owner",
}


@pytest.mark.parametrize("change", BY_HAND)
async def test_a_function_changed_by_hand_is_as_its_file_again(database: Database, change: str):
    before = _dump(database)
    async with session(database, SUPERUSER) as admin:
        await admin.execute("GRANT CREATE ON SCHEMA mana_ai TO mana_router")
        await admin.execute(BY_HAND[change])
        await admin.execute("REVOKE CREATE ON SCHEMA mana_ai FROM mana_router")
    assert _dump(database) != before
    assert len(await _migrated(database)) <= 1
    assert _dump(database) == before
    assert await _migrated(database) == []


NEW_TEXTS = {
    "body": ("SELECT 1", "SELECT 2"),
    "result": ("RETURNS int", "RETURNS bigint"),
    "arguments": ("(p_one int)", "(p_one int, p_two text DEFAULT '')"),
    "names": ("p_one", "p_uno"),
    "grants": (" TO mana_gateway", " TO mana_agent"),
}
TEXT = """
CREATE OR REPLACE FUNCTION mana_ai.sample(p_one int) RETURNS int
LANGUAGE sql BEGIN ATOMIC SELECT 1; END;

COMMENT ON FUNCTION mana_ai.sample IS 'A sample.';
ALTER FUNCTION mana_ai.sample OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sample TO mana_gateway;
"""
SAMPLE = """
SELECT pg_get_functiondef(oid) || proowner::regrole || proacl::text FROM pg_proc
 WHERE pronamespace = 'mana_ai'::regnamespace AND proname = 'sample'
"""


def _with_function(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    texts = {**function_texts(), "sample": text}
    for module in ("state.store.migrate", "state.store.sql"):
        monkeypatch.setattr(f"{module}.function_texts", lambda: texts)


@pytest.mark.parametrize("change", NEW_TEXTS)
async def test_a_function_whose_file_changed_is_put_as_a_new_database_has_it(
    database: Database, postgres: TestServer, monkeypatch: pytest.MonkeyPatch, change: str
):
    new = postgres.migrated()
    _with_function(monkeypatch, TEXT)
    assert await _migrated(database) == ["function sample"]
    _with_function(monkeypatch, TEXT.replace(*NEW_TEXTS[change]))
    assert await _migrated(database) == ["function sample"]
    assert await _migrated(new) == ["function sample"]
    async with session(database, SUPERUSER) as one, session(new, SUPERUSER) as other:
        changed, fresh = [await admin.fetch(SAMPLE) for admin in (one, other)]
    assert len(changed) == 1
    assert changed == fresh
    postgres.drop(new)
    monkeypatch.undo()
    assert await _migrated(database) == []
    async with session(database, SUPERUSER) as admin:
        assert await admin.fetch(SAMPLE) == []


async def test_every_function_says_why_it_is_there_and_is_callable_by_nobody_else(
    database: Database,
):
    async with session(database, SUPERUSER) as admin:
        rows = await admin.fetch(
            "SELECT proname, obj_description(oid, 'pg_proc') AS reason,"
            " has_function_privilege('public', oid, 'EXECUTE') AS is_public FROM pg_proc"
            " WHERE pronamespace = 'mana_ai'::regnamespace"
        )
    assert sorted(row["proname"] for row in rows) == sorted(function_texts())
    assert [row["proname"] for row in rows if not row["reason"] or row["is_public"]] == []
