"""Who may do what, asked of the catalogue and tried with each login."""

import asyncpg
import pytest

from state.store.migrate import GROUP_ROLES, LOGINS
from tests.integration.steps import driver_for, put, session
from tests.postgres import LOG_OWNER, SUPERUSER, Database

PER_USER_TABLES = """
SELECT c.oid::regclass::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('mana_ai', 'public') AND c.relkind IN ('r', 'p')
   AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'user_id'
                  AND NOT a.attisdropped)
"""
WRITABLE = """
SELECT c.oid::regclass::text || ' ' || p.name
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER'))
    AS p (name)
 WHERE n.nspname IN ('mana_ai', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_table_privilege($1, c.oid, p.name)
UNION ALL
SELECT c.oid::regclass::text || '.' || a.attname || ' ' || p.name
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 CROSS JOIN (VALUES ('INSERT'), ('UPDATE')) AS p (name)
 WHERE n.nspname IN ('mana_ai', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_column_privilege($1, c.oid, a.attnum, p.name)
"""
CALLABLE = """
SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
 WHERE n.nspname IN ('mana_ai', 'public') AND has_function_privilege($1, p.oid, 'EXECUTE')
"""
READABLE = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('mana_ai', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_any_column_privilege($1, c.oid, 'SELECT')
"""
SEQUENCES = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('mana_ai', 'public') AND c.relkind = 'S'
   AND (has_sequence_privilege($1, c.oid, 'USAGE') OR has_sequence_privilege($1, c.oid, 'UPDATE')
        OR has_sequence_privilege($1, c.oid, 'SELECT'))
"""

AGENT_FUNCTIONS = {
    "audit_outcome", "keys_capability",
    "begin_call", "capability", "capability_agent", "capability_scope", "capability_user", "claim",
    "commit_run", "end_call", "heal_mission", "load_memory", "renew", "take_run",
    "request_copies", "room_for_call", "skip_run", "wait_for_room", "wait_run", "withdraw_run",
}  # fmt: skip
BUDGET_READS = {
    "budgets_of", "caps_of", "installation_room_at", "installation_spent", "room_at",
    "budget_facts", "used_up",
}  # fmt: skip
CALLABLE_BY = {
    "mana_agent": AGENT_FUNCTIONS,
    "mana_supervisor": {
        "bucket_of", "change_digest", "free_missions", "move_slot", "reconcile", "replay_records",
        "sign_capability", "old_sessions", "end_sessions", "take_shard",
        "take_changes", "waiting_records", "withdraw_waiting", "receipt", "capability_secrets_now",
        "is_shared", "may_share", "members_of",
        *BUDGET_READS,
    },
    "mana_gateway": {
        "bucket_of", "cancel_run", "change_digest", "receipt", "request_run", "set_limit",
        "state_now", "write_state", "put_sealed_copies", "put_owner_key", "remove_owner_key",
        "answer_copies", "copy_source", "take_copy_requests", "own_record", "own_write",
        "own_records", "own_ids", "wake_space", "late_proposals", "missions_to_stage",
        "spent_under", "own_table", "own_is_sealed", "sync_publish", "sync_page", "sync_push",
        "sync_there", "sync_history", "sync_watch", "sync_touched", "sync_settle",
        *BUDGET_READS,
    },
    "mana_keys": {"granted_mission", "note_release"},
    "mana_janitor": {"compact_record", "next_to_compact"},
    "mana_issuer": set[str](),
}  # fmt: skip
HIDDEN_FROM = {
    "mana_agent": {"journal", "capability_secrets", "decrypt_audit", "change_feed", "ledger",
                   "limits", "budget_wakes", "owner_key_changes", "copy_requests", "sync_feeds",
                   "sync_pending", "sync_late", "sync_devices"},
    "mana_supervisor": {"sync_changes", "log_rows", "router_log", "journal", "decrypt_audit",
                        "capability_secrets", "owner_keys", "owner_key_changes"},
    "mana_gateway": {"sync_changes", "log_rows", "router_log", "journal", "capability_secrets",
                     "copy_requests", "sync_feeds", "sync_pending", "sync_late",
                     "sync_devices"},
    "mana_keys": {"sync_changes", "journal", "capability_secrets", "mission_snapshots",
                  "owner_keys"},
    "mana_janitor": {"sync_changes", "compactor_log", "journal", "capability_secrets",
                     "mission_snapshots"},
    "mana_issuer": {"sync_changes", "journal", "capability_secrets", "mission_snapshots",
                    "decrypt_audit", "agent_snapshots", "runs", "owner_keys"},
}  # fmt: skip


async def _column(database: Database, query: str, *args: str) -> set[str]:
    async with session(database, SUPERUSER) as admin:
        return {row[0] for row in await admin.fetch(query, *args)}


async def test_every_table_with_a_user_id_has_row_security_enabled_and_forced(database: Database):
    async with session(database, SUPERUSER) as admin:
        tables = await admin.fetch(PER_USER_TABLES)
    assert {row["name"] for row in tables if not row["forced"]} == set()
    assert "sync_changes" in {row["name"] for row in tables}
    assert len(tables) >= 15


async def test_no_role_of_ours_can_pass_over_row_security(database: Database):
    rows = await _column(
        database,
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'mana\\_%' AND rolname <> $1"
        " AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
        LOG_OWNER,
    )
    assert rows == set()


async def test_no_login_is_a_member_of_another_role(database: Database):
    members = await _column(
        database,
        "SELECT m.member::regrole::text FROM pg_auth_members AS m"
        " JOIN pg_roles AS r ON r.oid = m.member WHERE r.rolname = ANY ($1::text[])",
        [login.name for login in LOGINS] + list(GROUP_ROLES),  # type: ignore[arg-type]
    )
    assert members == {"mana_ender"}, "of mana_agent, whose sessions its functions end"


async def test_group_roles_cannot_log_in_and_logins_have_a_connection_limit(database: Database):
    async with session(database, SUPERUSER) as admin:
        rows = await admin.fetch("SELECT rolname, rolcanlogin, rolconnlimit FROM pg_roles")
    roles = {row["rolname"]: row for row in rows}
    assert [roles[name]["rolcanlogin"] for name in GROUP_ROLES] == [False] * len(GROUP_ROLES)
    limits = {login.name: roles[login.name]["rolconnlimit"] for login in LOGINS}
    assert limits == {login.name: login.connections for login in LOGINS}


async def test_public_may_execute_and_read_nothing_of_ours(database: Database):
    open_to_all = await _column(
        database,
        "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
        " CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a"
        " WHERE n.nspname = 'mana_ai' AND a.grantee = 0",
    )
    readable = await _column(
        database,
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " CROSS JOIN aclexplode(c.relacl) AS a WHERE n.nspname = 'mana_ai' AND a.grantee = 0",
    )
    assert (open_to_all, readable) == (set(), set())


async def test_every_definer_function_has_a_fixed_search_path(database: Database):
    loose = await _column(
        database,
        "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'mana_ai' AND p.prosecdef"
        " AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'))",
    )
    assert loose == set()


async def test_an_agent_has_no_write_privilege_on_any_table_or_column(database: Database):
    assert await _column(database, WRITABLE, "mana_agent") == set()


@pytest.mark.parametrize("login", CALLABLE_BY)
async def test_each_login_may_call_its_functions_and_no_others(database: Database, login: str):
    assert await _column(database, CALLABLE, login) == CALLABLE_BY[login]


@pytest.mark.parametrize("login", HIDDEN_FROM)
async def test_each_login_is_kept_from_what_is_not_its_business(database: Database, login: str):
    assert await _column(database, READABLE, login) & HIDDEN_FROM[login] == set()


@pytest.mark.parametrize(
    ("login", "sequences"),
    [
        ("mana_agent", set[str]()),
        ("mana_gateway", set[str]()),
        ("mana_janitor", set[str]()),
        ("mana_issuer", set[str]()),
        ("mana_supervisor", {"snapshot_version", "token_usage_id_seq"}),
    ],
)
async def test_sequences_are_the_supervisors_alone(
    database: Database, login: str, sequences: set[str]
):
    assert await _column(database, SEQUENCES, login) == sequences


async def test_the_janitor_only_prunes(database: Database):
    writable = await _column(database, WRITABLE, "mana_janitor")
    assert {what.split()[-1] for what in writable} == {"DELETE"}
    prunable = {what.split()[0].removeprefix("mana_ai.") for what in writable}
    assert prunable <= {"token_usage", "decisions", "runs", "run_requests", "decrypt_audit",
                        "key_releases", "quarantine", "sealed_copies",
                        "owner_key_changes", "copy_requests", "own_answers", "sign_in_links",
                        "people_trail", "sign_ins", "personal_tokens", "proposals",
                        "visitors", "openings", "operator_sessions"}  # fmt: skip


async def test_the_janitor_prunes_by_age_without_seeing_whose_rows_they_are(database: Database):
    async with session(database, SUPERUSER) as admin:
        await admin.execute(
            "INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts)"
            " VALUES ('u1', 'a1', 'm1', 1, now() - interval '3 days'), ('u1', 'a1', 'm1', 2, now())"
        )
    async with session(database, "mana_janitor") as janitor:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await janitor.fetch("SELECT user_id FROM mana_ai.token_usage")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await janitor.execute("DELETE FROM mana_ai.token_usage WHERE user_id = 'u1'")
        old = "DELETE FROM mana_ai.token_usage WHERE ts < now() - interval '48 hours'"
        assert await janitor.execute(old) == "DELETE 1"


async def test_the_gateway_sees_one_users_records_and_the_fleet_without_texts(database: Database):
    async with session(database, LOG_OWNER) as sync, driver_for(database) as driver:
        for user in ("u1", "u2"):
            await put(sync, user, "m1", {"title": f"secret of {user}"})
        await driver.fold_all()
    records = "SELECT user_id, record ->> 'title' AS title FROM mana_ai.mission_snapshots"
    async with session(database, "mana_gateway") as gateway:
        assert await gateway.fetch(records) == []
        async with gateway.transaction():
            await gateway.execute("SELECT set_config('app.current_user_id', 'u1', true)")
            assert [tuple(r) for r in await gateway.fetch(records)] == [("u1", "secret of u1")]
        assert await gateway.fetch(records) == []
        fleet = await gateway.fetch("SELECT * FROM mana_ai.fleet_missions")
        assert sorted(row["user_id"] for row in fleet) == ["u1", "u2"]
        assert "secret" not in repr([dict(row) for row in fleet])


@pytest.mark.parametrize("table", ["sync_changes", "mana_ai.log_rows", "mana_ai.router_log",
                                   "mana_ai.journal", "mana_ai.decrypt_audit"])  # fmt: skip
async def test_the_supervisor_has_no_way_into_log_journal_and_audit(database: Database, table: str):
    async with session(database, "mana_supervisor") as supervisor:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await supervisor.fetch(f"SELECT * FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await supervisor.execute(f"DELETE FROM {table}")


async def test_the_routers_policy_shows_two_tables_of_the_log_and_nothing_else(database: Database):
    async with session(database, LOG_OWNER) as sync, sync.transaction():
        await sync.execute("SELECT set_config('app.current_user_id', 'u1', true)")
        for app, table in (("ai", "aiMissions"), ("ai", "agents"), ("notes", "notes")):
            await sync.execute(
                "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, client_id)"
                " VALUES ($1, $2, 'r1', 'u1', 'insert', 'c1')",
                app,
                table,
            )
    async with session(database, SUPERUSER) as admin, admin.transaction():
        await admin.execute("SET LOCAL ROLE mana_router")
        seen = await admin.fetch("SELECT table_name FROM mana_ai.router_log")
        assert sorted(row["table_name"] for row in seen) == ["agents", "aiMissions"]
    async with session(database, SUPERUSER) as admin, admin.transaction():
        await admin.execute("SET LOCAL ROLE mana_owner")
        assert await admin.fetchval("SELECT count(*) FROM mana_ai.log_rows") == 0
