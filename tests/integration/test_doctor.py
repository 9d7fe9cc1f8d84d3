"""Each check of the doctor sees its thing broken, and names what helps."""

from pathlib import Path

import asyncpg
import msgspec
import pytest

from state import private_files
from state.private_files import own_root
from state.secret_files import replace_secret
from state.store.catalogue import FIRST_WITH_PARAMETERS, Catalogue, ServiceView
from state.store.migrate import LOGINS
from state.store.sql import statements_of
from supervisor.node.credentials import ray_folder
from supervisor.node.doctor import (
    CHECKS,
    Finding,
    Patient,
    agent_privileges,
    examined,
    log_size,
    surroundings,
)
from supervisor.node.settings import Settings
from tests.integration.steps import access_of, driver_for, put, session
from tests.postgres import LOG_OWNER, SUPERUSER, Database


def _settings(database: Database, secrets_dir: Path | None = None) -> Settings:
    folder = str(secrets_dir or database.secrets_dir)
    return Settings(data_dir=folder, secrets_dir=folder)


async def _found(database: Database, secrets_dir: Path | None = None) -> dict[str, Finding]:
    findings = await examined(
        database.dsn(LOG_OWNER),
        database.password(LOG_OWNER),
        _settings(database, secrets_dir),
    )
    assert len(findings) == len(CHECKS)
    return {finding.check: finding for finding in findings}


def _patient(database: Database) -> Patient:
    """What one check looks at; nothing is connected until it asks."""
    dsn = database.dsn(LOG_OWNER)
    service = ServiceView(access_of(database, "mana_supervisor"))
    catalogue = Catalogue(dsn, database.password(LOG_OWNER))
    return Patient(_settings(database), dsn, catalogue, service)


def sound(check: str) -> Finding:
    """What a check says that has nothing to say."""
    return Finding(check, ok=True, detail="as it should be", remedy="")


async def _take_shard(database: Database) -> None:
    async with driver_for(database):
        pass


async def test_a_sound_database_has_nothing_to_remedy(database: Database):
    await _take_shard(database)
    found = await _found(database)
    assert {name: f.detail for name, f in found.items() if not f.ok or f.remedy} == {}


async def test_the_doctor_leaves_nothing_behind(database: Database):
    await _found(database)
    async with session(database, SUPERUSER) as admin:
        assert await admin.fetchval("SELECT count(*) FROM sync_changes") == 0
        assert await admin.fetchval("SELECT count(*) FROM mana_ai.change_feed") == 0
        member = "SELECT pg_has_role($1, 'mana_router', 'USAGE')"
        assert not await admin.fetchval(member, LOG_OWNER)


BROKEN = [
    ("log owner", "ALTER TABLE sync_changes OWNER TO postgres", "superuser", "OWNER TO"),
    ("log owner", "DROP TABLE sync_changes CASCADE", "no table", "mana migrate"),
    ("pending migrations", "DELETE FROM mana_ai.migrations WHERE name LIKE '0002%'", "0002_",
     "mana migrate"),
    ("pending migrations", "UPDATE mana_ai.function_texts SET text_digest = 'x' WHERE name = 'pad'",
     "function pad", "mana migrate"),
    ("capability secrets", "DELETE FROM mana_ai.capability_secrets WHERE audience = 'keys'", "keys",
     "mana migrate"),
    ("row security", "ALTER TABLE mana_ai.journal NO FORCE ROW LEVEL SECURITY", "journal", "FORCE"),
    ("row security", "ALTER TABLE mana_ai.runs DISABLE ROW LEVEL SECURITY", "runs", "FORCE"),
    ("row security", "ALTER TABLE sync_changes NO FORCE ROW LEVEL SECURITY", "sync_changes",
     "FORCE"),
    ("row security", "CREATE TABLE mana_ai.extra (user_id text)", "extra", "FORCE"),
    ("row security", "DROP POLICY mana_agent_within_capability ON sync_changes",
     "mana_agent_within_capability", "policies"),
    ("row security", "DROP POLICY sync_changes_user_isolation ON sync_changes", "user_isolation",
     "policies"),
    ("service privileges", "GRANT DELETE ON mana_ai.decrypt_audit TO mana_gateway",
     "too much: mana_gateway DELETE mana_ai.decrypt_audit", "REVOKE"),
    ("service privileges", "GRANT SELECT (data) ON sync_changes TO mana_supervisor",
     "too much: mana_supervisor SELECT(data) public.sync_changes", "REVOKE"),
    ("service privileges", "GRANT EXECUTE ON FUNCTION mana_ai.sign_capability TO mana_keys",
     "too much: mana_keys EXECUTE mana_ai.sign_capability", "REVOKE"),
    ("service privileges", "GRANT CREATE ON SCHEMA mana_ai TO mana_fleet",
     "too much: mana_fleet CREATE mana_ai", "REVOKE"),
    ("service privileges", "REVOKE EXECUTE ON FUNCTION mana_ai.claim FROM mana_agent",
     "missing: mana_agent EXECUTE mana_ai.claim", "GRANT"),
    ("public functions", "GRANT EXECUTE ON FUNCTION mana_ai.sign_payload TO PUBLIC",
     "sign_payload", "REVOKE"),
    ("functions", ("CREATE OR REPLACE FUNCTION mana_ai.feed_changes() RETURNS trigger"
     " LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
     " AS 'BEGIN RETURN NULL; END'"), "feed_changes was altered", "schema.sql"),
    ("functions", "ALTER FUNCTION mana_ai.take_run RESET ALL", "take_run runs as", "schema.sql"),
    ("functions", "ALTER FUNCTION mana_ai.take_run OWNER TO postgres", "postgres", "schema.sql"),
    ("functions", "DROP FUNCTION mana_ai.heal_mission", "heal_mission is missing", "schema.sql"),
    ("feed trigger", "DROP TRIGGER mana_ai_feed ON sync_changes", "missing", "CREATE TRIGGER"),
    ("feed trigger", "ALTER TABLE sync_changes DISABLE TRIGGER mana_ai_feed", "disabled",
     "ENABLE TRIGGER"),
    ("feed trigger", "ALTER TABLE sync_changes ENABLE REPLICA TRIGGER mana_ai_feed",
     "replica only", "ENABLE TRIGGER"),
    ("feed trigger", ("DROP TRIGGER mana_ai_feed ON sync_changes; CREATE TRIGGER mana_ai_feed"
     " BEFORE UPDATE ON sync_changes FOR EACH ROW"
     " EXECUTE FUNCTION suppress_redundant_updates_trigger()"), "another function", "TRIGGER"),
    ("device trigger", "DROP TRIGGER mana_ai_sync ON sync_changes", "missing", "CREATE TRIGGER"),
    ("device trigger", "ALTER TABLE sync_changes DISABLE TRIGGER mana_ai_sync", "disabled",
     "ENABLE TRIGGER"),
    ("row security", "DROP POLICY mana_compactor_only ON sync_changes", "mana_compactor_only",
     "schema.sql"),
    ("router policy", "DROP POLICY mana_router_read ON sync_changes", "does not see",
     "mana_router_read"),
    ("router policy", ("CREATE POLICY too_much ON sync_changes FOR SELECT TO mana_router"
     " USING (true)"), "other apps", "mana_router_read"),
    ("router policy", "ALTER TABLE mana_ai.change_feed ADD CHECK (seq < 0)",
     "does not reach the feed", "trigger"),
    ("router policy", "REVOKE INSERT ON mana_ai.change_feed FROM mana_router",
     "does not reach the feed", "GRANT"),
    ("shards", "UPDATE mana_ai.shards SET buckets = '[0,10)'", "bucket", "mana up"),
    ("shards", ("UPDATE mana_ai.shards SET taken_at = now() - interval '1 day',"
     " folded_at = now() - interval '1 hour'"), "fold", "mana up"),
    ("backlog", ("INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name,"
     " record_id) SELECT 0, gen_random_uuid(), 'u', 't', 'r' FROM generate_series(1, 50001)"),
     "over 50000 rows", "mana status"),
    ("backlog", ("INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, wake_at)"
     " SELECT 'u', n::text, '{}', now() - interval '1 hour' FROM generate_series(1, 101) AS n"),
     "101 missions", "mana status"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "breaking", "detail", "remedy"),
    BROKEN,
    ids=[f"{check}-{at}" for at, (check, *_) in enumerate(BROKEN)],
)
async def test_a_check_sees_what_was_broken_and_names_the_remedy(
    database: Database, check: str, breaking: str, detail: str, remedy: str
):
    await _take_shard(database)
    async with session(database, SUPERUSER) as admin:
        await admin.execute(breaking)
    finding = (await _found(database))[check]
    assert not finding.ok
    assert detail in finding.detail
    assert remedy in finding.remedy


DEFINER = (
    "CREATE FUNCTION {name} RETURNS bigint LANGUAGE {language} SECURITY DEFINER"
    " SET search_path = pg_catalog, pg_temp AS {body}; ALTER FUNCTION {name} OWNER TO {owner};"
    " GRANT EXECUTE ON FUNCTION {name} TO mana_agent"
)


def definer(body: str, name: str = "mana_ai.planted()", owner: str = "mana_owner") -> str:
    """A function that runs as its owner and that agents may call."""
    return DEFINER.format(name=name, body=f"$${body}$$", owner=owner, language="plpgsql")


UNASKED = "mana_ai.planted() may be called and demands no capability"
PLANTED = [
    # relations
    ("GRANT INSERT ON sync_changes TO mana_agent", "public.sync_changes INSERT"),
    ("GRANT UPDATE (state) ON mana_ai.runs TO mana_agent", "mana_ai.runs UPDATE"),
    ("GRANT REFERENCES (run_id) ON mana_ai.runs TO PUBLIC", "mana_ai.runs REFERENCES"),
    ("GRANT TRIGGER, TRUNCATE ON mana_ai.runs TO PUBLIC", "TRUNCATE, mana_ai.runs TRIGGER"),
    ("GRANT USAGE ON SEQUENCE mana_ai.snapshot_version TO mana_agent",
     "sequence: mana_ai.snapshot_version USAGE"),
    ("GRANT SELECT ON mana_ai.capability_secrets TO mana_agent", "mana_ai.capability_secrets"),
    (("GRANT SELECT (answer) ON mana_ai.journal TO PUBLIC; DROP POLICY agent_within_capability"
     " ON mana_ai.journal"), "mana_ai.journal has no fence"),
    ("DROP POLICY agent_within_capability ON mana_ai.runs", "mana_ai.runs has no fence"),
    ("DROP POLICY mana_agent_within_capability ON sync_changes", "sync_changes has no fence"),
    ("ALTER POLICY agent_within_capability ON mana_ai.runs USING (true)", "runs has no fence"),
    (("ALTER POLICY agent_within_capability ON mana_ai.runs"
     " USING (true OR user_id = mana_ai.capability_user())"), "runs has no fence"),
    (("DROP POLICY agent_within_capability ON mana_ai.runs; CREATE POLICY agent_within_capability"
     " ON mana_ai.runs TO mana_agent USING (user_id = (SELECT mana_ai.capability_user()))"),
     "runs has no fence"),
    ("ALTER POLICY agent_within_capability ON mana_ai.runs TO mana_keys", "runs has no fence"),
    ("CREATE TABLE public.planted (user_id text); GRANT SELECT ON public.planted TO PUBLIC",
     "public.planted can be read"),
    (("CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO PUBLIC; CREATE TABLE"
     " elsewhere.planted (id int); GRANT SELECT (id) ON elsewhere.planted TO mana_agent"),
     "elsewhere.planted can be read"),
    (("CREATE VIEW public.planted AS SELECT * FROM mana_ai.journal; GRANT SELECT ON public.planted"
     " TO PUBLIC"), "view public.planted shows what its owner"),
    (("CREATE MATERIALIZED VIEW public.planted AS SELECT * FROM mana_ai.journal;"
     " GRANT SELECT ON public.planted TO mana_agent"), "public.planted can be read"),
    ("CREATE TABLE public.planted (id int); ALTER TABLE public.planted OWNER TO mana_agent",
     "public.planted is its own"),
    # functions
    ("GRANT EXECUTE ON FUNCTION mana_ai.sign_payload TO mana_agent",
     "mana_ai.sign_payload(p_payload jsonb) may be called and demands no capability"),
    ("GRANT EXECUTE ON FUNCTION mana_ai.put_sealed_copies TO PUBLIC", "mana_ai.put_sealed_copies("),
    ("GRANT EXECUTE ON FUNCTION mana_ai.forget_revoked TO PUBLIC", "mana_ai.forget_revoked()"),
    ("ALTER FUNCTION mana_ai.take_run OWNER TO postgres", "runs as postgres"),
    ("ALTER FUNCTION mana_ai.take_run SET search_path = public, pg_temp", "path fixed: False"),
    ("ALTER FUNCTION mana_ai.take_run SET search_path = pg_catalog, public", "path fixed: False"),
    (definer("BEGIN RETURN 1; END"), UNASKED),
    (definer("BEGIN RETURN 1; END", owner="postgres"), "runs as postgres"),
    (definer("BEGIN RETURN 1; END", "public.planted()"), "public.planted() may be called"),
    (DEFINER.format(name="mana_ai.planted()", owner="mana_owner", language="sql",
                    body="'SELECT count(*) FROM mana_ai.journal'"), UNASKED),
    # the rest
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "may create in schema public"),
    ("GRANT CREATE ON SCHEMA mana_ai TO mana_agent", "may create in schema mana_ai"),
    ("SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC", "large object 4711"),
    (("CREATE FOREIGN DATA WRAPPER f; CREATE SERVER planted FOREIGN DATA WRAPPER f;"
     " GRANT USAGE ON FOREIGN SERVER planted TO PUBLIC"), "foreign server planted"),
    ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC", "may call pg_read_file(text)"),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE mana_owner GRANT SELECT ON TABLES TO mana_agent",
     "gets SELECT on what mana_owner will make"),
]  # fmt: skip


@pytest.mark.one_postgres
@pytest.mark.parametrize(("planting", "detail"), PLANTED, ids=range(len(PLANTED)))
async def test_what_was_planted_for_agents_is_found_by_name(
    database: Database, planting: str, detail: str
):
    async with session(database, SUPERUSER) as admin:
        await admin.execute(planting)
    finding = await agent_privileges(_patient(database))
    assert not finding.ok
    assert detail in finding.detail
    assert "REVOKE" in finding.remedy


SOUND = [
    definer("BEGIN PERFORM mana_ai.require_capability(); RETURN 1; END"),
    "CREATE VIEW public.planted AS SELECT 1 AS one",
    "CREATE EXTENSION pgcrypto",
    "CREATE FUNCTION public.planted() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
]


@pytest.mark.parametrize("adding", SOUND, ids=range(len(SOUND)))
async def test_what_keeps_the_rules_is_no_fault_whatever_its_name(database: Database, adding: str):
    async with session(database, SUPERUSER) as admin:
        try:
            await admin.execute(adding)
        except asyncpg.FeatureNotSupportedError:
            pytest.skip("this server comes without that extension")
    assert await agent_privileges(_patient(database)) == sound("agent privileges")


async def test_extensions_that_only_a_superuser_may_install_are_a_warning(database: Database):
    async with session(database, SUPERUSER) as admin:
        try:
            await admin.execute("CREATE EXTENSION dblink")
        except asyncpg.FeatureNotSupportedError:
            pytest.skip("this server comes without dblink")
    finding = await surroundings(_patient(database))
    assert (finding.ok, finding.warning) == (True, True)
    assert "may call public.dblink_connect(text)" in finding.detail


async def test_settings_granted_to_agents_are_found(database: Database):
    async with session(database, SUPERUSER) as admin:
        if admin.get_server_version().major < FIRST_WITH_PARAMETERS:
            pytest.skip("such grants came with 15")
        await admin.execute("GRANT SET ON PARAMETER session_replication_role TO mana_agent")
        try:
            finding = await agent_privileges(_patient(database))
        finally:
            await admin.execute("REVOKE SET ON PARAMETER session_replication_role FROM mana_agent")
    assert "may set session_replication_role" in finding.detail


ROLES = [
    ("roles", "ALTER ROLE mana_agent BYPASSRLS", "ALTER ROLE mana_agent NOBYPASSRLS", "bypassrls"),
    ("roles", "ALTER ROLE mana_router SUPERUSER", "ALTER ROLE mana_router NOSUPERUSER",
     "superuser"),
    ("roles", "ALTER ROLE mana_keys CREATEROLE", "ALTER ROLE mana_keys NOCREATEROLE",
     "createrole"),
    ("roles", "ALTER ROLE mana_owner LOGIN", "ALTER ROLE mana_owner NOLOGIN", "login"),
    ("roles", "GRANT mana_owner TO mana_agent", "REVOKE mana_owner FROM mana_agent",
     "member of mana_owner"),
    ("roles", "ALTER ROLE mana_janitor RENAME TO mana_elsewhere",
     "ALTER ROLE mana_elsewhere RENAME TO mana_janitor", "mana_janitor is missing"),
    ("old sessions", "REVOKE mana_agent FROM mana_ender GRANTED BY mana_sync",
     "GRANT mana_agent TO mana_ender GRANTED BY mana_sync",
     "ends no session"),
    ("role settings", "ALTER ROLE mana_agent SET search_path = public",
     "ALTER ROLE mana_agent RESET search_path", "search_path"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "breaking", "mending", "detail"), ROLES)
async def test_a_check_sees_a_role_that_became_mightier(
    database: Database, check: str, breaking: str, mending: str, detail: str
):
    async with session(database, SUPERUSER) as admin:
        await admin.execute(breaking)
        try:
            finding = (await _found(database))[check]
        finally:
            await admin.execute(mending)
    assert not finding.ok
    assert detail in finding.detail
    assert "ALTER ROLE" in finding.remedy or "mana migrate" in finding.remedy


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("log_parameter_max_length_on_error", "100"),
        ("log_statement", "all"),
        ("log_min_duration_statement", "1000"),
        ("log_min_duration_sample", "1000"),
        ("log_transaction_sample_rate", "0.5"),
    ],
)
async def test_a_server_that_logs_bound_values_is_named(
    database: Database, setting: str, value: str
):
    async with session(database, SUPERUSER) as admin:
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
        finding = (await _found(database))["values in logs"]
        assert not finding.ok
        assert setting in finding.detail
        assert "log_parameter_max_length = 0" in finding.remedy
        await admin.execute(f"ALTER DATABASE {name} SET log_parameter_max_length = 0")
        await admin.execute(f"ALTER DATABASE {name} SET log_parameter_max_length_on_error = 0")
    assert (await _found(database))["values in logs"].ok


async def test_an_old_postgres_is_named(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("supervisor.node.doctor.OLDEST_POSTGRES", 99)
    finding = (await _found(database))["postgres version"]
    assert not finding.ok
    assert finding.remedy == "upgrade to 99 or newer"


async def test_password_files_missing_or_open_to_others_are_named(
    database: Database, tmp_path: Path
):
    for login in LOGINS[1:]:
        (tmp_path / login.name).write_text(database.password(login.name))
        (tmp_path / login.name).chmod(0o600)
    (tmp_path / "mana_agent").chmod(0o644)
    finding = (await _found(database, tmp_path))["password files"]
    assert not finding.ok
    assert "mana_supervisor is missing" in finding.detail
    assert "mana_agent can be read by others" in finding.detail
    assert "chmod 600" in finding.remedy


async def test_an_unreachable_database_fails_each_check_and_none_raises(
    database: Database, tmp_path: Path
):
    findings = await examined("postgresql://x@127.0.0.1:1/x", None, _settings(database, tmp_path))
    assert len(findings) == len(CHECKS)
    # Files can be looked at nevertheless.
    assert [one.check for one in findings if one.ok] == ["files of ours", "ray joined"]
    assert all(finding.remedy for finding in findings if not finding.ok)


async def test_what_others_reach_of_a_nodes_files_is_named(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(private_files, "SHORT_BASE", str(tmp_path))  # where paths are too long
    settings = _settings(database, tmp_path / "secrets")
    settings = msgspec.structs.replace(settings, data_dir=str(tmp_path / "data"))
    own_root(tmp_path / "data")
    replace_secret(tmp_path / "data" / "node.json", "{}")
    replace_secret(tmp_path / "secrets" / "llm_token", "token")
    ray = ray_folder(tmp_path / "data")
    ray.mkdir()
    ray.chmod(0o777)  # Ray's doing; others are kept out by the folder that it is in
    assert (await _looked(settings))["files of ours"].ok
    ray.parent.chmod(0o755)
    (tmp_path / "secrets" / "llm_token").chmod(0o644)
    (tmp_path / "data" / "node.json").chmod(0o666)
    finding = (await _looked(settings))["files of ours"]
    assert not finding.ok
    for told in ("llm_token can be read", "node.json can be written", f"{ray.parent} can be read"):
        assert told in finding.detail
    assert "chmod" in finding.remedy


async def test_a_ray_of_others_that_is_open_is_a_warning(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = msgspec.structs.replace(_settings(database, tmp_path), ray_address="127.0.0.1:1")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "temporary"))
    finding = (await _looked(settings))["ray joined"]
    assert (finding.ok, finding.warning) == (True, True)
    assert "no token" in finding.detail
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o644)
    assert "token can be read by others" in (await _looked(settings))["ray joined"].detail
    (tmp_path / "token").chmod(0o600)
    finding = (await _looked(settings))["ray joined"]
    assert (finding.ok, finding.warning, finding.remedy) == (True, False, "")


async def _looked(settings: Settings) -> dict[str, Finding]:
    """What is found without a database."""
    findings = await examined("postgresql://x@127.0.0.1:1/x", None, settings)
    return {finding.check: finding for finding in findings}


async def test_rows_set_aside_are_a_warning(database: Database):
    async with session(database, SUPERUSER) as admin:
        await admin.execute(
            "INSERT INTO mana_ai.quarantine (change_id, user_id, table_name, record_id, reason)"
            " VALUES (gen_random_uuid(), 'u1', 'aiMissions', 'm1', 'unknown op')"
        )
    finding = (await _found(database))["quarantine"]
    assert (finding.ok, finding.warning) == (True, True)
    assert finding.detail == "1 rows are set aside"
    assert "mana missions --problems" in finding.remedy


async def test_our_own_plans_are_no_other_runner(database: Database):
    async with session(database, LOG_OWNER) as sync, driver_for(database) as driver:
        await put(sync, "u1", "m1", {"nextRunAt": "2026-04-15T00:00:00.000Z"})
        _, reports = await driver.tick()
        assert [report.outcome for report in reports] == ["ran"]
    assert not (await _found(database))["other runner"].warning


async def test_another_runner_is_a_warning(database: Database):
    async with session(database, LOG_OWNER) as sync:
        await put(
            sync, "u1", "m1", {"iterations": [{"id": "theirs"}]}, op="update",
            client="mana-ai-runner",
        )  # fmt: skip
    finding = (await _found(database))["other runner"]
    assert (finding.ok, finding.warning) == (True, True)
    assert "another runner wrote 1 plans" in finding.detail
    assert "stop the original service" in finding.remedy


VAULT_BROKEN = [
    ("DROP TABLE auth.encryption_vaults", "encryption_vaults is missing"),
    ("DROP SCHEMA auth CASCADE", "encryption_vault_audit is missing"),
    ("ALTER TABLE auth.encryption_vaults NO FORCE ROW LEVEL SECURITY", "is not forced"),
    ("ALTER TABLE auth.encryption_vault_audit DISABLE ROW LEVEL SECURITY", "is not forced"),
    ("REVOKE USAGE ON SCHEMA auth FROM mana_issuer", "cannot be found by mana_issuer"),
    ("REVOKE INSERT ON auth.encryption_vault_audit FROM mana_issuer", "lacks INSERT"),
    ("GRANT DELETE ON auth.encryption_vault_audit TO mana_issuer", "may be deleted from"),
    ("GRANT SELECT (wrapped_mk) ON auth.encryption_vaults TO mana_agent", "read by mana_agent"),
]


async def test_the_doctor_looks_after_vaults_where_they_are_kept(
    database: Database, tmp_path: Path
):
    kek = tmp_path / "kek"
    kek.write_text("k")
    kek.chmod(0o600)
    folder = str(database.secrets_dir)
    kept = Settings(data_dir=folder, secrets_dir=folder, kek_file=str(kek))
    owner = (database.dsn(LOG_OWNER), database.password(LOG_OWNER))

    async def finding() -> Finding:
        found = await examined(*owner, kept)
        return next(one for one in found if one.check == "vault")

    assert (await finding()).ok
    kek.chmod(0o644)
    assert "can be read by others" in (await finding()).detail
    kek.chmod(0o600)
    for breaking, detail in VAULT_BROKEN:
        async with session(database, SUPERUSER) as admin:
            work = admin.transaction()
            await work.start()
            await admin.execute(breaking)
            faults = await admin.fetch(
                statements_of("catalogue.sql")["vault"], ["mana_agent"], True
            )
            await work.rollback()
        assert any(detail in row["fault"] for row in faults), breaking
    async with session(database, SUPERUSER) as admin:
        await admin.execute(VAULT_BROKEN[0][0])
        assert (await _found(database))["vault"].ok  # no vaults are kept
        await admin.execute("GRANT SELECT ON auth.encryption_vault_audit TO mana_agent")
        assert not (await _found(database))["vault"].ok


async def test_a_large_log_is_said_and_how_much_compacting_would_save(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    found = await log_size(_patient(database))
    assert (found.ok, found.warning, found.remedy) == (True, False, "")
    async with session(database, SUPERUSER) as admin:
        await admin.execute(
            "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data,"
            " field_meta, client_id, created_at) SELECT 'notes', 'notes', 'n' || n % 3, 'u1',"
            " 'update', jsonb_build_object('a', repeat(md5(n::text), 40)), jsonb_build_object('a',"
            " to_char(t.at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')), 'c', t.at"
            " FROM generate_series(1, 90) AS n CROSS JOIN LATERAL (SELECT timestamptz"
            " '2026-01-01Z' + n * interval '1 second' AS at) AS t"
        )
    monkeypatch.setattr("supervisor.node.doctor.ADVISED_BYTES", 100_000)
    found = await log_size(_patient(database))
    assert (found.ok, found.warning, found.remedy) == (True, True, "mana log compact")
    assert "of 3 records looked at, 0 MB at least could go" in found.detail
