"""What else Postgres offers to whoever holds an agent's login: each attempt, and how it is refused.

A valid capability of u1 is presented throughout; u2 is the victim. docs/security.md lists the rest.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable

import asyncpg
import pytest

from state.store.migrate import GROUP_ROLES, LOGINS
from state.store.sql import statements_of
from tests.integration.steps import session
from tests.integration.test_red_team import acting, forgeries, populated, scene, signed
from tests.postgres import LOG_OWNER, SUPERUSER, Database

__all__ = ["populated", "scene"]

DENIED = "42501"
NOT_THERE = "0A000"  # an extension that this server comes without
NOT_PREPARED = "55000"
OTHERS = [*GROUP_ROLES, *(one.name for one in LOGINS if one.name != "mana_agent"),
          LOG_OWNER, SUPERUSER, "pg_signal_backend", "pg_read_all_data"]  # fmt: skip

FILES_AND_PROGRAMS = [
    "COPY (SELECT 1) TO '/tmp/mana-red-team'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY pg_temp.mine FROM '/etc/passwd'",
    "COPY pg_temp.mine FROM PROGRAM 'true'",
    "COPY mana_ai.journal TO STDOUT",
    "COPY mana_ai.key_releases TO STDOUT",
    "COPY (SELECT * FROM mana_ai.decrypt_audit) TO STDOUT",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('pg_hba.conf')",
    "SELECT pg_stat_file('pg_hba.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_ls_logdir()",
    "SELECT pg_ls_waldir()",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(4711, '/tmp/mana-red-team')",
    "LOAD 'pgoutput'",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_file_settings",
]
MAKING = [
    "CREATE SCHEMA mine",
    "CREATE TABLE public.mine (id int)",
    "CREATE TABLE mana_ai.mine (id int)",
    "CREATE VIEW mana_ai.mine AS SELECT 1",
    "CREATE FUNCTION mana_ai.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE TYPE mana_ai.mine AS (id int)",
    "CREATE DATABASE mine",
    "CREATE ROLE mine LOGIN",
    "CREATE EXTENSION plpython3u",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "CREATE FOREIGN DATA WRAPPER mine",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION pg_temp.fires()",
    "CREATE FUNCTION pg_temp.raw() RETURNS int LANGUAGE c AS 'mine'",
    "CREATE FUNCTION pg_temp.raw() RETURNS int LANGUAGE internal AS 'pg_read_file'",
    "CREATE CAST (text AS int) WITH INOUT AS IMPLICIT",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE PUBLICATION mine FOR TABLE public.sync_changes",
    "CREATE SUBSCRIPTION mine CONNECTION 'host=localhost' PUBLICATION mine",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    "CREATE POLICY mine ON mana_ai.runs USING (true)",
    "CREATE RULE mine AS ON SELECT TO mana_ai.runs DO ALSO NOTHING",
    "CREATE INDEX mine ON mana_ai.runs (user_id)",
    "CREATE STATISTICS mana_ai.mine ON user_id, agent_id FROM mana_ai.runs",
]
CHANGING = [
    "ALTER POLICY agent_within_capability ON mana_ai.runs USING (true)",
    "DROP POLICY agent_within_capability ON mana_ai.runs",
    "ALTER TABLE mana_ai.runs NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE mana_ai.runs OWNER TO mana_agent",
    "ALTER TABLE public.sync_changes DISABLE TRIGGER mana_ai_feed",
    "DROP TABLE mana_ai.key_releases",
    "ALTER FUNCTION mana_ai.capability(text) SECURITY INVOKER",
    "ALTER FUNCTION mana_ai.capability(text) SET search_path = pg_temp",
    "DROP FUNCTION mana_ai.require_capability(text)",
    "GRANT SELECT ON mana_ai.journal TO mana_agent",
    "ALTER DEFAULT PRIVILEGES FOR ROLE mana_owner GRANT SELECT ON TABLES TO mana_agent",
    "REASSIGN OWNED BY mana_owner TO mana_agent",
    "DROP OWNED BY mana_owner",
    "REINDEX TABLE mana_ai.runs",
    "CLUSTER mana_ai.runs USING runs_pkey",
    "COMMENT ON TABLE mana_ai.runs IS 'mine'",
    "ALTER SYSTEM SET row_security = off",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('mine')",
    "SELECT pg_create_physical_replication_slot('mine')",
    "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
    "SELECT pg_stat_reset()",
    "SELECT pg_log_backend_memory_contexts(pg_backend_pid())",
    "SELECT pg_replication_origin_create('mine')",
]
SETTINGS = [
    "SET session_replication_role = replica",
    "SET log_statement = 'all'",
    "SET log_min_messages = debug5",
    "SET lo_compat_privileges = on",
    "SET allow_system_table_mods = on",
    "SET zero_damaged_pages = on",
    "SET session_preload_libraries = 'auto_explain'",
    "SET temp_file_limit = -1",
    "SET plpgsql.variable_conflict = use_variable",
    "SET ROLE mana_owner",
    "SELECT set_config('role', 'mana_owner', false)",
    "SELECT set_config('session_authorization', 'postgres', false)",
    "SELECT set_config('session_replication_role', 'replica', true)",
]
CATALOGS = [
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_user_mapping",
    "SELECT * FROM pg_statistic",
    "SELECT * FROM pg_largeobject",
    "SELECT subconninfo FROM pg_subscription",
    "SELECT lo_get(4711)",
    "SELECT lo_put(4711, 0, 'mine')",
    "SELECT lo_unlink(4711)",
    "SELECT lo_open(4711, 262144)",
]
LOCKS = [
    *(f"LOCK TABLE mana_ai.{name} IN ACCESS SHARE MODE"
      for name in ("journal", "ledger", "change_feed", "capability_secrets", "migrations")),
    *(f"SELECT * FROM mana_ai.runs FOR {strength}"
      for strength in ("UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE")),
    "SELECT * FROM public.sync_changes FOR KEY SHARE",
]  # fmt: skip


def roles() -> Iterable[str]:
    for role in OTHERS:
        yield f"SET ROLE {role}"
        yield f"SET SESSION AUTHORIZATION {role}"
        yield f"GRANT {role} TO mana_agent"
        if not role.startswith("pg_"):
            yield f"ALTER ROLE {role} NOLOGIN"
            yield f"ALTER ROLE {role} PASSWORD 'mine'"
            yield f"ALTER ROLE {role} SET search_path = pg_temp"
            yield f"DROP ROLE {role}"
    for power in ("SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION",
                  "CONNECTION LIMIT -1"):  # fmt: skip
        yield f"ALTER ROLE mana_agent {power}"
    yield "ALTER ROLE ALL SET row_security = off"
    yield "GRANT mana_agent TO mana_keys"


ATTEMPTS = {
    "files and programs": FILES_AND_PROGRAMS,
    "making things": MAKING,
    "changing things": CHANGING,
    "settings of superusers": SETTINGS,
    "catalogues and large objects": CATALOGS,
    "locks": LOCKS,
    "roles": list(roles()),
}


@pytest.fixture
async def agent(scene: Database) -> AsyncGenerator[asyncpg.Connection]:
    """An agent's login that presents u1's capability, with things of its own to attack with."""
    async with session(scene, SUPERUSER) as admin:
        await admin.execute("SELECT lo_from_bytea(4711, 'theirs')")
    async with session(scene, "mana_agent") as connection:
        await connection.execute(
            "SELECT set_config('app.capability', $1, false),"
            " set_config('app.current_user_id', 'u1', false)",
            await signed(scene),
        )
        await connection.execute("""
            CREATE TEMP TABLE mine (line text);
            CREATE FUNCTION pg_temp.fires() RETURNS event_trigger LANGUAGE plpgsql
              AS 'BEGIN END'
        """)
        yield connection


async def refused(connection: asyncpg.Connection, statement: str) -> str | None:
    """The SQLSTATE that a statement ends with; None where it is carried out. Nothing stays."""
    work = connection.transaction()
    await work.start()
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as exc:
        return exc.sqlstate
    finally:
        await work.rollback()
    return None


OUTSIDE_TRANSACTIONS = ("CREATE DATABASE", "CREATE TABLESPACE", "CREATE SUBSCRIPTION",
                        "ALTER SYSTEM")  # fmt: skip


async def refused_alone(connection: asyncpg.Connection, statement: str) -> str | None:
    """The same without a transaction; what is carried out is seen and ends the test."""
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as exc:
        return exc.sqlstate
    return None


@pytest.mark.parametrize("attempts", ATTEMPTS.values(), ids=ATTEMPTS)
async def test_what_the_server_offers_is_denied(
    agent: asyncpg.Connection, attempts: list[str]
) -> None:
    answers: dict[str, str | None] = {}
    for attempt in attempts:
        alone = attempt.startswith(OUTSIDE_TRANSACTIONS)
        answers[attempt] = await (refused_alone if alone else refused)(agent, attempt)
        if attempt.startswith("CREATE EXTENSION") and answers[attempt] == NOT_THERE:
            del answers[attempt]
    assert {what: state for what, state in answers.items() if state != DENIED} == {}


async def test_no_transaction_outlives_its_session(agent: asyncpg.Connection) -> None:
    """Our servers have none prepared; where an operator allows them, doctor warns."""
    await agent.execute("BEGIN")
    assert await refused_alone(agent, "PREPARE TRANSACTION 'mine'") == NOT_PREPARED
    await agent.execute("ROLLBACK")


async def test_no_trigger_function_of_ours_fires_on_a_table_of_theirs(
    scene: Database, agent: asyncpg.Connection
) -> None:
    async with session(scene, SUPERUSER) as admin:
        functions = await admin.fetch(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.prosecdef"
            " AND p.prorettype = 'trigger'::regtype AND p.pronamespace = 'mana_ai'::regnamespace"
        )
    assert {"mana_ai.feed_changes()", "mana_ai.forget_revoked()"} <= {row[0] for row in functions}
    for (name,) in functions:
        planting = f"CREATE TRIGGER x AFTER INSERT ON pg_temp.mine EXECUTE FUNCTION {name}"
        assert await refused(agent, planting) == DENIED


CALLABLE = """
SELECT p.oid::regprocedure::text AS name, 'SELECT mana_ai.' || p.proname || '('
       || (SELECT coalesce(string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY n), '')
             FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)) || ')' AS call
  FROM pg_proc AS p WHERE p.pronamespace = 'mana_ai'::regnamespace
   AND has_function_privilege('mana_agent', p.oid, 'EXECUTE')
"""
READERS = ("mana_ai.capability(text)", "mana_ai.capability_user()", "mana_ai.capability_agent()",
           "mana_ai.capability_scope()")  # fmt: skip


async def answers_to(connection: asyncpg.Connection, calls: list[asyncpg.Record]) -> dict[str, str]:
    """How each function ends, without an argument that means anything."""
    return {row["name"]: await refused(connection, row["call"]) or "answered" for row in calls}


async def test_every_function_for_agents_demands_a_capability_before_all_else(
    scene: Database,
) -> None:
    """From the catalogue: a new function is tried without anybody having to think of it."""
    async with session(scene, SUPERUSER) as admin:
        calls = await admin.fetch(CALLABLE)
    wanted = {row["name"]: "answered" if row["name"] in READERS else "MA001" for row in calls}
    assert set(READERS) < set(wanted)
    bad = await forgeries(scene)
    async with session(scene, "mana_agent") as agent:
        for what in ("none", "expired", "for the key holder", "their body, my signature"):
            async with acting(agent, bad[what], "u2"):
                assert await answers_to(agent, calls) == wanted, what


async def test_every_function_for_agents_raises_once_the_capability_ran_out(
    scene: Database,
) -> None:
    """Within one transaction, by the wall clock."""
    async with session(scene, SUPERUSER) as admin:
        calls = [row for row in await admin.fetch(CALLABLE) if row["name"] not in READERS]
    ran_out = "SELECT mana_ai.capability() IS NULL FROM pg_sleep(0.05)"
    async with session(scene, "mana_agent") as agent:
        async with acting(agent, await signed(scene)):
            assert "MA001" not in (await answers_to(agent, calls)).values()
        async with acting(agent, await signed(scene, ttl_s=2)), asyncio.timeout(20):
            assert await agent.fetchval("SELECT mana_ai.capability()") is not None
            while not await agent.fetchval(ran_out):
                pass
            assert set((await answers_to(agent, calls)).values()) == {"MA001"}


# --- what is allowed, and shows nothing -----------------------------------------------------------

SHOWN = """
CREATE FUNCTION pg_temp.shown(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"""
PLANTED_OPERATOR = """
CREATE FUNCTION pg_temp.yes(text, text) RETURNS boolean LANGUAGE sql RETURN true;
CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.yes);
CREATE FUNCTION pg_temp.later(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql RETURN true;
CREATE OPERATOR pg_temp.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = pg_temp.later);
CREATE TYPE pg_temp.jsonb AS (u text); CREATE DOMAIN pg_temp.text AS pg_catalog.int4;
CREATE TEMP VIEW runs AS SELECT 'u2' AS user_id; CREATE TEMP TABLE capability_secrets (kid int);
"""
PLANTED_SETTINGS = {
    "search_path": "pg_temp, public, pg_catalog",
    "app.current_user_id": "u2",
    "app.current_user_space_ids": "s1,s2",
    "synchronous_commit": "off",
    "bytea_output": "escape",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Kiritimati",
    "standard_conforming_strings": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "check_function_bodies": "off",
    "enable_indexscan": "off",
    "plan_cache_mode": "force_generic_plan",
}


async def test_a_function_that_tells_what_it_is_shown_is_shown_the_owners_rows(
    agent: asyncpg.Connection,
) -> None:
    told: list[str] = []
    agent.add_log_listener(lambda _, message: told.append(message.message))
    await agent.execute(SHOWN)
    for table in ("mana_ai.runs", "mana_ai.mission_snapshots", "public.sync_changes"):
        await agent.fetch(f"SELECT FROM {table} WHERE pg_temp.shown(user_id)")
    assert set(told) == {"u1"}


async def test_planted_operators_types_and_settings_change_no_answer(scene: Database) -> None:
    bad = await forgeries(scene)
    async with session(scene, "mana_agent") as agent:
        await agent.execute(PLANTED_OPERATOR)
        for name, value in PLANTED_SETTINGS.items():
            await agent.execute("SELECT set_config($1, $2, false)", name, value)
        for what in ("user changed", "their body, my signature", "expired", "longer"):
            async with acting(agent, bad[what], "u2"):
                assert await agent.fetchval("SELECT mana_ai.capability() IS NULL"), what
                assert await agent.fetch("SELECT FROM mana_ai.mission_snapshots") == []
        async with acting(agent, await signed(scene), "u2"):
            assert await agent.fetchval("SELECT mana_ai.capability_user()") == "u1"
            users = "SELECT DISTINCT user_id FROM mana_ai.mission_snapshots"
            assert [row[0] for row in await agent.fetch(users)] == ["u1"]
            claim = (
                "SELECT outcome FROM"
                " mana_ai.claim(NULL, NULL, 'm2', now(), 60000, 'h', '{}'::pg_catalog.jsonb)"
            )
            assert await agent.fetchval(claim) == "unwanted"


async def test_a_statement_prepared_under_one_capability_asks_again_under_the_next(
    scene: Database,
) -> None:
    async with session(scene, "mana_agent") as agent:
        await agent.execute(
            "PREPARE mine AS SELECT DISTINCT user_id FROM mana_ai.mission_snapshots"
        )
        await agent.execute("SET plan_cache_mode = force_generic_plan")
        for user in ("u1", "u2", "u1"):
            async with acting(agent, await signed(scene, user), user):
                assert [row[0] for row in await agent.fetch("EXECUTE mine")] == [user]
        assert await agent.fetch("EXECUTE mine") == []


async def test_a_cursor_that_outlives_its_transaction_shows_its_owners_rows(
    scene: Database,
) -> None:
    cursor = "DECLARE kept CURSOR WITH HOLD FOR SELECT user_id FROM mana_ai.mission_snapshots"
    async with session(scene, "mana_agent") as agent:
        async with agent.transaction():
            present = "SELECT set_config('app.capability', $1, true)"
            await agent.execute(present, await signed(scene))
            await agent.execute(cursor)
        assert {row[0] for row in await agent.fetch("FETCH ALL FROM kept")} == {"u1"}


async def test_statistics_of_fenced_tables_are_hidden(
    scene: Database, agent: asyncpg.Connection
) -> None:
    async with session(scene, SUPERUSER) as admin:
        await admin.execute("ANALYZE")
        everything = "SELECT count(*) FROM pg_stats WHERE tablename = 'mission_snapshots'"
        assert await admin.fetchval(everything) > 0
    for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
        seen = f"SELECT count(*) FROM {view} WHERE schemaname IN ('mana_ai', 'auth', 'public')"
        assert await agent.fetchval(seen) == await agent.fetchval(
            f"{seen} AND tablename IN ('install')"
        )


def test_nothing_of_ours_waits_for_an_advisory_lock_or_a_notification() -> None:
    """A login may take any, and send any."""
    logins = ("agent", "gateway", "issuer", "janitor", "keys", "owner", "supervisor")
    texts = [text for login in logins for text in statements_of(f"{login}.sql").values()]
    words = " ".join(texts).lower()
    assert "advisory" not in words
    assert not any(f"{verb} " in words for verb in ("listen", "notify"))
