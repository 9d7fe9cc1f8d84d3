"""An agent's login used by hand (P6): nothing of others is seen, nothing written."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from state.store.agent import AgentStore
from state.store.connect import CapabilityInvalid
from state.store.connect import Database as Pool
from tests.integration.steps import access_of, driver_for, put, session
from tests.integration.test_roles import READABLE
from tests.postgres import LOG_OWNER, SUPERUSER, Database, TestServer, run_apart

DUE = "2026-04-15T00:00:00.000Z"
VICTIM_ROWS = """
INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
  VALUES (mana_ai.bucket_of('u2'), gen_random_uuid(), 'u2', 'aiMissions', 'm2');
INSERT INTO mana_ai.quarantine (change_id, user_id, table_name, record_id, reason)
  VALUES (gen_random_uuid(), 'u2', 'aiMissions', 'm2', 'why');
INSERT INTO mana_ai.user_settings (user_id, time_zone) VALUES ('u1', 'UTC'), ('u2', 'UTC');
INSERT INTO mana_ai.run_requests (user_id, request_key, mission_id)
  VALUES ('u1', 'k', 'm1'), ('u2', 'k', 'm2');
INSERT INTO mana_ai.mission_research_jobs (user_id, mission_id, task_id, provider_id)
  VALUES ('u1', 'm1', 't1', 'p'), ('u2', 'm2', 't2', 'p');
INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, table_name, record_id, status)
  VALUES ('u2', 'm2', 'notes', 'n2', 'ok');
INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome)
  VALUES ('u2', 'a1', 'm2', gen_random_uuid(), 1, 'released');
INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, expires_at)
  VALUES ('u2', 'm2', 'notes', 'n2', '{}', now() + interval '1 day');
INSERT INTO mana_ai.owner_keys (user_id, key_id, public_key)
  VALUES ('u2', 'k2', sha256('u2'));
INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action) VALUES ('u2', 'k2', 'registered');
INSERT INTO auth.encryption_vaults (user_id, wrapped_mk, wrap_iv) VALUES ('u2', 'w', 'i');
INSERT INTO auth.encryption_vault_audit (id, user_id, action, status)
  VALUES ('a', 'u2', 'fetch', 200);
INSERT INTO mana_ai.copy_requests (user_id, mission_id, asked_at, due_at, for_grant)
  VALUES ('u2', 'm2', now(), now(), '');
INSERT INTO mana_ai.own_answers (user_id, key, request) VALUES ('u2', 'k2', 'r2');
INSERT INTO mana_ai.proposals (user_id, proposal_id, mission_id, iteration_id, step_id, agent_id,
                               agent_name, tool, rationale, created_at)
  VALUES ('u2', gen_random_uuid(), 'm2', 'i', 's', 'a1', 'A', 'create_task', 'why', now());
INSERT INTO mana_ai.standing_approvals (user_id, approval_id, agent_id, tool)
  VALUES ('u2', gen_random_uuid(), 'a1', 'create_task');
INSERT INTO mana_ai.people (user_id, display_name) VALUES ('u1', 'A'), ('u2', 'B');
INSERT INTO mana_ai.sign_in_links (link_hash, user_id, expires_at)
  VALUES (sha256('link'), 'u2', now() + interval '1 hour');
INSERT INTO mana_ai.sign_ins (user_id, cookie_hash, expires_at)
  VALUES ('u2', sha256('cookie'), now() + interval '1 day');
INSERT INTO mana_ai.personal_tokens (user_id, name, token_hash, scopes, expires_at)
  VALUES ('u2', 'laptop', sha256('token'), '{read}', now() + interval '1 day');
INSERT INTO mana_ai.visitors (user_id, spaces, cookie_hash, expires_at)
  VALUES ('u2', '{}', sha256('visit'), now() + interval '1 day');
INSERT INTO mana_ai.openings (user_id, agent_id, reason, opened_by, ends_at)
  VALUES ('u2', 'a1', 'a ticket says so', 'service key', now() + interval '9 minutes');
INSERT INTO mana_ai.openings_seen (user_id, seen_at) VALUES ('u2', now());
INSERT INTO mana_ai.sync_devices (user_id, client_id) VALUES ('u2', 'c-2');
INSERT INTO mana_ai.spaces (space_id, name) VALUES ('home', 'Home');
INSERT INTO mana_ai.space_members (space_id, user_id) VALUES ('home', 'u1'), ('home', 'u2');
INSERT INTO mana_ai.people_trail (user_id, action, done_by) VALUES ('u2', 'added', 'operator');
INSERT INTO mana_ai.vault_key_checks (user_id, written_for, key_check)
  VALUES ('u2', now(), 'check');
INSERT INTO mana_ai.limits (kind, user_id, tokens) VALUES ('user', 'u2', 1000000);
WITH run AS (
  INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, lease_until, holder)
    SELECT u, a, m, now() - interval '1 hour', 'open', now() + interval '1 hour', 'h'
      FROM (VALUES ('u2', 'a1', 'm2'), ('u1', 'a2', 'm1b')) AS v (u, a, m)
  RETURNING *), hold AS (
  INSERT INTO mana_ai.token_holds
         (user_id, agent_id, mission_id, run_id, attempt, round, tokens, deadline)
    SELECT user_id, agent_id, mission_id, run_id, 1, 1, 500, now() + interval '1 hour' FROM run)
INSERT INTO mana_ai.journal (run_id, round, user_id, request_hash, answer, tokens)
  SELECT run_id, 1, user_id, 'hash', 'the plan', 5 FROM run;
"""
FOREIGN = """
SELECT c.oid::regclass::text AS name FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
 WHERE n.nspname IN ('mana_ai', 'public', 'auth') AND c.relkind IN ('r', 'p')
"""
OF_NOBODY = {
    "mana_ai.budget_wakes", "mana_ai.capability_secrets", "mana_ai.function_texts",
    "mana_ai.install", "mana_ai.migrations", "mana_ai.operator_sessions", "mana_ai.own_locks",
    "mana_ai.refresh_tokens", "mana_ai.shards", "mana_ai.spaces",
    "mana_ai.sync_feeds", "mana_ai.sync_late", "mana_ai.sync_pending",
}  # fmt: skip
"""Tables without a `user_id`; a new one belongs here, or its rows have an owner."""
RELATIONS = """
SELECT c.oid::regclass::text AS name, c.relkind IN ('r', 'p') AS is_table,
       (SELECT quote_ident(a.attname) FROM pg_attribute AS a WHERE a.attrelid = c.oid
           AND a.attnum > 0
           AND NOT a.attisdropped AND a.attname NOT IN ('id', 'seq') LIMIT 1) AS a_column
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('mana_ai', 'public', 'auth') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
HUGE_EXPIRY = b'{"exp":1e400,"aud":"db"}'
REWRITING = "EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
LOCKS = ("ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
         "EXCLUSIVE", "ACCESS EXCLUSIVE")  # fmt: skip


async def _populate(database: Database) -> None:
    """Two people, whose agents share an id, with rows in every table there is."""
    async with session(database, LOG_OWNER) as sync, driver_for(database) as driver:
        for user, mission, agent in (("u1", "m1", "a1"), ("u2", "m2", "a1"), ("u1", "m1b", "a2")):
            await put(sync, user, agent, {}, table="agents")
            await put(sync, user, mission, {"nextRunAt": DUE, "agentId": agent})
        await driver.tick()
        again = {"nextRunAt": DUE.replace("04", "05")}
        stamp = {"nextRunAt": "2099-01-01T00:00:00.000Z"}
        await put(sync, "u1", "m1", again, op="update", meta=stamp)
        await driver.fold_all()
    async with session(database, SUPERUSER) as admin:
        await admin.execute(VICTIM_ROWS)
        for row in await admin.fetch(FOREIGN):
            rows = f"SELECT EXISTS (SELECT FROM {row['name']} WHERE user_id = 'u2')"
            assert await admin.fetchval(rows), f"{row['name']} has nothing to steal"
        named = {row["name"] for row in await admin.fetch(FOREIGN)}
        tables = {row["name"] for row in await admin.fetch(RELATIONS) if row["is_table"]}
        assert tables - named == OF_NOBODY


@pytest.fixture(scope="module")
def populated(postgres: TestServer) -> Iterator[Database]:
    """Filled once; every test attacks a copy."""
    made = postgres.migrated()
    run_apart(_populate(made))
    yield made
    postgres.drop(made)


@pytest.fixture
def scene(postgres: TestServer, populated: Database) -> Iterator[Database]:
    """Two people, whose agents share an id, with rows in every table there is."""
    copy = postgres.copy(populated)
    yield copy
    postgres.drop(copy)


async def signed(database: Database, user: str = "u1", agent: str = "a1", **more: Any) -> str:
    """A capability as the supervisor gets it."""
    spaces, scope = more.get("spaces", []), more.get("scope", [])
    async with session(database, "mana_supervisor") as supervisor:
        return await supervisor.fetchval(
            "SELECT mana_ai.sign_capability($1, $2, $3, $4, $5, $6)",
            user, agent, spaces, scope, more.get("audience", "db"), more.get("ttl_s", 900),
        )  # fmt: skip


@asynccontextmanager
async def acting(
    connection: asyncpg.Connection, capability: str | None, user: str = "u1", spaces: str = ""
) -> AsyncGenerator[None]:
    """A transaction that presents these settings, and leaves nothing behind."""
    work = connection.transaction()
    await work.start()
    try:
        await connection.execute(
            "SELECT set_config('app.capability', $1, true),"
            " set_config('app.current_user_id', $2, true),"
            " set_config('app.current_user_space_ids', $3, true)",
            capability, user, spaces,
        )  # fmt: skip
        yield
    finally:
        await work.rollback()


async def owners(connection: asyncpg.Connection, readable: list[str]) -> dict[str, set[str]]:
    """Whose rows each readable table shows."""
    return {
        name: {row[0] for row in await connection.fetch(f"SELECT user_id FROM {name}")}
        for name in readable
    }


async def readable_tables(database: Database) -> list[str]:
    """Tables of people's rows that an agent may read at all."""
    async with session(database, SUPERUSER) as admin:
        may_read = {row[0] for row in await admin.fetch(READABLE, "mana_agent")}
        tables = [row["name"] for row in await admin.fetch(FOREIGN)]
    return [name for name in tables if name.removeprefix("mana_ai.") in may_read]


def _b64(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _payload(token: str) -> dict[str, Any]:
    body = token.split(".", maxsplit=1)[0]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


async def forgeries(database: Database) -> dict[str, str | None]:
    """Tokens that must open nothing, by what is wrong with them."""
    valid = await signed(database)
    body, signature = valid.split(".")
    payload = _payload(valid)
    theirs = _payload(await signed(database, "u2"))
    return {
        "none": None,
        "empty": "",
        "expired": await signed(database, "u2", ttl_s=-1),
        "for the key holder": await signed(database, "u2", audience="keys"),
        "audience changed": f"{_b64(payload | {'aud': 'keys'})}.{signature}",
        "user changed": f"{_b64(payload | {'u': 'u2'})}.{signature}",
        "their body, my signature": f"{_b64(theirs)}.{signature}",
        "longer": f"{_b64(payload | {'exp': 1 << 60})}.{signature}",
        "no signature": body,
        "empty signature": f"{body}.",
        "signature of nothing": f"{_b64(theirs)}.{_b64(b'')}",
        "another key": f"{_b64(theirs | {'kid': 'other'})}.{signature}",
        "no key": f"{_b64({k: v for k, v in theirs.items() if k != 'kid'})}.{signature}",
        "something behind": f"{valid}.x",
        "something before": f" {valid}",
        "padded": f"{valid}=",
        "garbage": "garbage",
        "not base64": "%%%.%%%",
        "not utf-8": f"{_b64(bytes([255, 254, 0]))}.{signature}",
        "not JSON": f"{_b64(b'{')}.{signature}",
        "a list": f"{_b64([1])}.{signature}",
        "a string": f"{_b64('u2')}.{signature}",
        "null": f"{_b64(None)}.{signature}",
        "expiry is text": f"{_b64(theirs | {'exp': 'never'})}.{signature}",
        "expiry is huge": f"{_b64(HUGE_EXPIRY)}.{signature}",
        "NUL inside": f"{_b64(theirs | {'u': 'u2' + chr(0)})}.{signature}",
        "lone surrogate": f"{_b64(theirs | {'u': chr(0xD800)})}.{signature}",
        "deep": f"{_b64(b'[' * 5000)}.{signature}",
        "huge": f"{'A' * 5_000_000}.{signature}",
    }


async def test_a_valid_capability_shows_the_owners_rows_and_nobody_elses(scene: Database):
    tables = await readable_tables(scene)
    async with session(scene, "mana_agent") as agent:
        for pretended in ("u1", "u2", ""):
            async with acting(agent, await signed(scene), pretended):
                seen = await owners(agent, tables)
            assert set().union(*seen.values()) <= {"u1"}, pretended
        async with acting(agent, await signed(scene)):
            mine = await owners(agent, tables)
    assert {name for name, who in mine.items() if who == {"u1"}} >= {
        "sync_changes", "mana_ai.mission_snapshots", "mana_ai.agent_snapshots", "mana_ai.runs",
        "mana_ai.token_usage", "mana_ai.token_holds", "mana_ai.run_requests",
        "mana_ai.user_settings", "mana_ai.mission_research_jobs", "mana_ai.decisions",
    }  # fmt: skip


FENCES = """
SELECT p.polrelid::regclass::text AS name, p.polname FROM pg_policy AS p
 WHERE NOT p.polpermissive AND p.polroles @> ARRAY['mana_agent'::regrole::oid] AND NOT EXISTS (
       SELECT FROM pg_policy AS also WHERE also.polrelid = p.polrelid AND also.polpermissive
          AND also.polroles @> ARRAY['mana_agent'::regrole::oid]
          AND pg_get_expr(also.polqual, also.polrelid) LIKE '%capability_user()%')
"""
"""Of tables that no other policy of theirs guards as well."""


async def test_without_its_fence_a_table_shows_somebody_elses_rows(scene: Database):
    """Each fence is what refuses: taken away, the victim is seen at once."""
    readable = set(await readable_tables(scene))
    async with session(scene, SUPERUSER) as admin:
        fences = [tuple(row) for row in await admin.fetch(FENCES) if row["name"] in readable]
        for name, policy in fences:
            await admin.execute(f"DROP POLICY {policy} ON {name}")
    fenced = sorted(name for name, _ in fences)
    assert {"sync_changes", "mana_ai.runs", "mana_ai.mission_snapshots"} <= set(fenced)
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene), "u2"):
        seen = await owners(agent, fenced)
    assert {name for name, who in seen.items() if "u2" not in who} == set()


async def test_a_forged_expired_or_swapped_capability_shows_zero_rows(scene: Database):
    tables = await readable_tables(scene)
    async with session(scene, "mana_agent") as agent:
        for what, token in (await forgeries(scene)).items():
            async with acting(agent, token, "u2"):
                seen = await owners(agent, tables)
            assert seen == {name: set() for name in tables}, what


async def test_a_forged_expired_or_swapped_capability_writes_nothing(scene: Database):
    calls = [
        "SELECT mana_ai.claim(NULL, NULL, 'm2', now(), 60000, 'h', '{}')",
        "SELECT mana_ai.renew(NULL, '{}', '{}', 60000)",
        "SELECT mana_ai.begin_call(NULL, gen_random_uuid(), 1, 1, 'h', 1, 1000)",
        "SELECT mana_ai.end_call(NULL, gen_random_uuid(), 1, 'h', 'a', 1)",
        "SELECT mana_ai.take_run(NULL, NULL, 'm2', now(), 60000, 'h', '{}', NULL, NULL, NULL)",
        *(f"SELECT {ending}" for ending in endings("gen_random_uuid()")),
    ]
    async with session(scene, "mana_agent") as agent:
        for what, token in (await forgeries(scene)).items():
            for call in calls:
                with pytest.raises(asyncpg.PostgresError) as caught:
                    async with acting(agent, token, "u2"):
                        await agent.execute(call)
                assert caught.value.sqlstate == "MA001", (what, call)


async def test_without_a_transaction_a_capability_is_gone_at_once(scene: Database):
    async with session(scene, "mana_agent") as agent:
        await agent.execute("SELECT set_config('app.capability', $1, true)", await signed(scene))
        assert await agent.fetch("SELECT * FROM mana_ai.runs") == []
        assert await agent.fetch("SELECT * FROM public.sync_changes") == []


async def test_a_pooled_connection_forgets_one_user_before_it_serves_the_next(scene: Database):
    pool = Pool(access_of(scene, "mana_agent"), max_connections=1)
    first, second = await signed(scene, "u1"), await signed(scene, "u2")
    try:
        mine = AgentStore(pool, "u1", "a1", lambda: first)
        theirs = AgentStore(pool, "u2", "a1", lambda: second)
        assert await mine.mission("m1") is not None
        assert await theirs.mission("m1") is None
        assert await theirs.mission("m2") is not None
        async with pool.connection() as between:
            assert await between.fetch("SELECT * FROM mana_ai.runs") == []
        nobody = AgentStore(pool, "", "a1", lambda: "")
        assert await nobody.mission("m2") is None
    finally:
        await pool.close()


async def test_a_capability_that_runs_out_inside_a_transaction_reads_nothing_more(scene: Database):
    token = await signed(scene, ttl_s=2)
    mine = "SELECT count(*) FROM mana_ai.mission_snapshots"
    ran_out = "SELECT mana_ai.capability() IS NULL FROM pg_sleep(0.05)"
    async with session(scene, "mana_agent") as agent, acting(agent, token):
        assert await agent.fetchval(mine) == 2
        async with asyncio.timeout(20):
            while not await agent.fetchval(ran_out):
                pass
        assert await agent.fetchval(mine) == 0
        assert await agent.fetch("SELECT * FROM public.sync_changes") == []
        with pytest.raises(asyncpg.PostgresError) as caught:
            await agent.fetch(
                "SELECT * FROM mana_ai.claim(NULL, NULL, 'm1', now(), 60000, 'h', '{}')"
            )
    assert caught.value.sqlstate == "MA001"


FORGETFUL = """
CREATE FUNCTION mana_ai.forgetful() RETURNS text LANGUAGE sql SECURITY DEFINER
RETURN (SELECT string_agg(DISTINCT user_id, ',') FROM mana_ai.mission_snapshots);
ALTER FUNCTION mana_ai.forgetful OWNER TO mana_owner;
CREATE FUNCTION mana_ai.careful() RETURNS void LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC SELECT mana_ai.require_capability(); END;
ALTER FUNCTION mana_ai.careful OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.forgetful, mana_ai.careful TO mana_agent;
"""


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ({}, "u1"),
        ({"app.current_user_id": "u2"}, "u1"),
        ({"app.current_user_id": "u2", "app.capability": ""}, None),
        ({"app.capability": ""}, None),
        ({"app.capability_until": "9999999999"}, "u1"),
        ({"app.capability_until": "soon"}, "u1"),
        ({"app.capability_proof": ""}, "u1"),
        ({"app.capability_proof": "", "app.current_user_id": "u2"}, "u1"),
    ],
)
async def test_what_was_verified_stands_for_nobody_else(
    scene: Database, lie: dict[str, str], seen: str | None
):
    """Even in a function of ours that forgets to ask for a capability."""
    async with session(scene, SUPERUSER) as admin:
        await admin.execute(FORGETFUL)
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene), "u2"):
        assert await agent.fetchval("SELECT mana_ai.forgetful()") == "u1"
        await agent.execute("SELECT mana_ai.careful()")
        for setting, text in lie.items():
            await agent.execute("SELECT set_config($1, $2, true)", setting, text)
        assert await agent.fetchval("SELECT mana_ai.forgetful()") == seen


async def test_a_proof_ends_with_its_capability_and_serves_no_other(scene: Database):
    async with session(scene, SUPERUSER) as admin:
        await admin.execute(FORGETFUL)
    short, other = await signed(scene, ttl_s=2), await signed(scene, "u2")
    async with session(scene, "mana_agent") as agent, acting(agent, short):
        await agent.execute("SELECT mana_ai.careful()")
        await agent.execute("SELECT set_config('app.capability', $1, true)", other)
        assert await agent.fetchval("SELECT mana_ai.forgetful()") == "u2"
        await agent.execute("SELECT set_config('app.capability', $1, true)", short)
        async with asyncio.timeout(20):
            while await agent.fetchval("SELECT mana_ai.forgetful()") == "u1":
                pass
        assert await agent.fetchval("SELECT mana_ai.forgetful()") is None


async def test_a_store_whose_capability_ran_out_says_so(scene: Database):
    pool = Pool(access_of(scene, "mana_agent"), max_connections=1)
    token = await signed(scene, ttl_s=-1)
    try:
        with pytest.raises(CapabilityInvalid):
            await AgentStore(pool, "u1", "a1", lambda: token).renew([], 60_000)
    finally:
        await pool.close()


async def _denied(connection: asyncpg.Connection, statement: str) -> None:
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    except BaseException as exc:
        raise AssertionError(statement) from exc


NO_TABLE_BELOW = asyncpg.ObjectNotInPrerequisiteStateError


async def test_no_table_can_be_written_by_any_statement(scene: Database):
    token = await signed(scene)
    async with session(scene, SUPERUSER) as admin:
        relations = await admin.fetch(RELATIONS)
    async with session(scene, "mana_agent") as agent:
        await agent.execute("SELECT set_config('app.capability', $1, false)", token)
        await agent.execute("SELECT set_config('app.current_user_id', 'u1', false)")
        for name, is_table, column in (tuple(row) for row in relations):
            for statement in (
                f"INSERT INTO {name} DEFAULT VALUES",
                f"UPDATE {name} SET {column} = NULL",
                f"DELETE FROM {name}",
                f"DELETE FROM {name} WHERE false",
            ):
                # A view over several tables cannot be written by anybody, which is said first.
                with pytest.raises((asyncpg.InsufficientPrivilegeError, NO_TABLE_BELOW)):
                    await agent.execute(statement)
            if is_table:
                await _denied(agent, f"TRUNCATE {name}")
                await _denied(agent, f"COPY {name} FROM STDIN")
                await _denied(agent, f"SELECT * FROM {name} FOR UPDATE")
                await _denied(agent, f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")
                await _denied(agent, f"CREATE TRIGGER x AFTER UPDATE ON {name} {REWRITING}")


async def test_no_lock_beyond_reading_can_be_taken(scene: Database):
    async with session(scene, SUPERUSER) as admin:
        relations = [row["name"] for row in await admin.fetch(RELATIONS) if row["is_table"]]
    async with session(scene, "mana_agent") as agent:
        for name in relations:
            for mode in LOCKS:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with agent.transaction():
                        await agent.execute(f"LOCK TABLE {name} IN {mode} MODE")


async def test_secrets_journal_and_audit_cannot_be_read(scene: Database):
    async with session(scene, "mana_agent") as agent:
        for name in ("capability_secrets", "journal", "decrypt_audit", "change_feed", "ledger",
                     "log_rows", "router_log", "migrations", "fleet_missions"):  # fmt: skip
            await _denied(agent, f"SELECT * FROM mana_ai.{name}")
            await _denied(agent, f"COPY mana_ai.{name} TO STDOUT")


async def test_no_sequence_can_be_used(scene: Database):
    async with session(scene, SUPERUSER) as admin:
        sequences = "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'S'"
        rows = await admin.fetch(sequences)
    async with session(scene, "mana_agent") as agent:
        for row in rows:
            await _denied(agent, f"SELECT nextval('{row['name']}')")
            await _denied(agent, f"SELECT setval('{row['name']}', 1)")
            await _denied(agent, f"SELECT currval('{row['name']}')")
            await _denied(agent, f"SELECT last_value FROM {row['name']}")


@pytest.mark.parametrize(
    "call",
    [
        "mana_ai.sign_capability('u2', 'a1', '{}', '{}', 'db', 900)",
        "mana_ai.sign_payload('{}')",
        "mana_ai.add_capability_secret('db', 'mine', 'x')",
        "mana_ai.waiting_records(0, 256, 0, 1)",
        "mana_ai.take_changes(0, 256, '{}', '{}', '{}', '{}', NULL, 1)",
        "mana_ai.replay_records('{u2}', '{aiMissions}', '{m2}')",
        "mana_ai.record_rows('u2', 'aiMissions', 'm2')",
        "mana_ai.reconcile('', 1, 0, 256)",
        "mana_ai.move_slot('u2', 'm2', now(), NULL, '', '{}', '0', '')",
        "mana_ai.request_run('u2', 'm2', 'k')",
        "mana_ai.write_mission('u1', 'm1', '{}', '', '{}', 'user')",
        "mana_ai.lock_ledger('u2', 'a1')",
        "mana_ai.note_decision('u2', 'm2', 'a1', now(), 'ran', '')",
        "mana_ai.charge_expired_holds('u2', 'a1')",
        "mana_ai.require_capability()",
        "mana_ai.acting_user()",
        "mana_ai.capability_proof('u2', '9999999999')",
        "mana_ai.own_run(NULL, gen_random_uuid(), 1)",
        "mana_ai.settled_run(NULL, gen_random_uuid(), 1, NULL)",
        "mana_ai.settle('u2', 'a1', gen_random_uuid(), 1, 'h', 'a', 1, 1)",
        "mana_ai.mission_now('u2', 'm2', 'a1')",
        "mana_ai.unfolded_rows('u2', 'aiMissions', 'm2')",
        "mana_ai.note_plan(gen_random_uuid(), '{}')",
    ],
)
async def test_functions_that_are_not_for_agents_are_denied(scene: Database, call: str):
    async with session(scene, "mana_agent") as agent:
        await _denied(agent, f"SELECT {call}")


async def test_sessions_of_other_roles_cannot_be_ended_or_read(scene: Database):
    async with session(scene, "mana_agent") as agent, session(scene, "mana_supervisor") as other:
        secret = "SELECT 'a statement of the supervisor'"
        pid = await other.fetchval("SELECT pg_backend_pid()")
        await other.fetch(secret)
        await _denied(agent, f"SELECT pg_terminate_backend({pid})")
        await _denied(agent, f"SELECT pg_cancel_backend({pid})")
        shown = await agent.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
        assert "supervisor" not in shown


async def test_a_statement_of_ours_shows_other_agents_no_values(scene: Database):
    """Sessions of one role see each other's statements: values are bound, so nothing is in them."""
    token = await signed(scene, "u2")
    async with (
        session(scene, "mana_agent") as agent,
        session(scene, "mana_agent") as other,
        acting(other, token, "u2"),
    ):
        shown = await agent.fetch("SELECT query FROM pg_stat_activity")
    assert any("app.capability" in (row["query"] or "") for row in shown)
    assert not any(token[:40] in (row["query"] or "") for row in shown)


async def test_row_security_cannot_be_switched_off(scene: Database):
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        await agent.execute("SET LOCAL row_security = off")
        await _denied(agent, "SELECT * FROM mana_ai.mission_snapshots")


async def test_planted_tables_and_search_paths_change_nothing(scene: Database):
    """Temporary objects that carry the names our functions use are not what they find."""
    forged = f"{_b64({'u': 'u2', 'a': 'a1', 'aud': 'db', 'exp': 1 << 40, 'kid': 'k'})}.x"
    async with session(scene, "mana_agent") as agent:
        await agent.execute("""
            CREATE TEMP TABLE capability_secrets AS SELECT 'db' AS audience, 'k' AS kid,
              ''::bytea AS inner_pad, ''::bytea AS outer_pad, true AS signs, now() AS created_at;
            CREATE TEMP TABLE runs AS SELECT 1 AS one; CREATE TEMP TABLE ledger AS SELECT 1 AS one;
            CREATE TEMP TABLE mission_snapshots AS SELECT 'u2' AS user_id;
            CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql RETURN '\\x00'::bytea;
            CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz
              LANGUAGE sql RETURN 'epoch'::timestamptz;
            CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text
              LANGUAGE sql RETURN 'u2';
            SET search_path = pg_temp, pg_catalog, public;
        """)
        async with acting(agent, forged, "u2"):
            assert await agent.fetchval("SELECT mana_ai.capability()") is None
            assert await agent.fetch("SELECT * FROM mana_ai.mission_snapshots") == []
        async with acting(agent, await signed(scene, ttl_s=-1)):
            assert await agent.fetchval("SELECT mana_ai.capability()") is None
        async with acting(agent, await signed(scene)):
            outcome = "SELECT outcome FROM mana_ai.claim(NULL, NULL, $1, now(), 60000, 'h', '{}')"
            assert await agent.fetchval(outcome, "m2") == "unwanted"


async def test_settings_planted_on_the_login_do_not_reach_our_sessions(scene: Database):
    """A login may change its own defaults; ours are passed at connect and win."""
    async with session(scene, "mana_agent") as agent:
        for setting in ("search_path = pg_temp, public", "default_transaction_read_only = on",
                        "statement_timeout = 1", "row_security = off"):  # fmt: skip
            await agent.execute(f"ALTER ROLE mana_agent IN DATABASE {scene.name} SET {setting}")
    token = await signed(scene)
    pool = Pool(access_of(scene, "mana_agent"), max_connections=1)
    try:
        async with pool.connection() as connection:
            path = await connection.fetchval("SHOW search_path")
            assert await connection.fetchval("SHOW default_transaction_read_only") == "off"
        assert path.startswith("pg_catalog")
        assert await AgentStore(pool, "u1", "a1", lambda: token).mission("m1") is not None
    finally:
        await pool.close()


# --- functions an agent may call, with arguments it should not ------------------------------------

CLAIM = "SELECT * FROM mana_ai.claim(NULL, NULL, $1, $2, $3, 'h', '{}')"
COMMIT = (
    "SELECT outcome FROM mana_ai.commit_run(NULL, $1, $2, NULL, '{}', $3, $4, $5, $6, $7, NULL,"
    " 'i1', 0, NULL)"
)
PLAN = '{"iterations": []}'
STAMP = "2026-05-01T00:00:00.000Z"


def _actor(**more: str) -> str:
    return json.dumps({"kind": "ai", "principalId": "a1", "displayName": "N"} | more)


WRITTEN = "SELECT count(*) FROM public.sync_changes WHERE user_id = 'u1'"
COMMITTED = f"'committed', '{PLAN}', '{STAMP}', '{_actor()}', NULL, 'i', 0, NULL"


def endings(run: str) -> list[str]:
    """A call of each function that ends a run, by whoever presented a capability."""
    return [
        f"mana_ai.withdraw_run(NULL, {run}, 1, NULL, '{{}}', 'r', 0)",
        f"mana_ai.skip_run(NULL, {run}, 1, NULL, '{{}}', 'r', 0)",
        f"mana_ai.wait_run(NULL, {run}, 1, NULL, '{{}}', 'r', 0, 'x', false)",
        f"mana_ai.wait_for_room(NULL, {run}, 1, NULL, '{{}}', 'r', 1, 1)",
        f"mana_ai.commit_run(NULL, {run}, 1, NULL, '{{}}', '{{}}', {COMMITTED})",
    ]


async def _claimed(agent: asyncpg.Connection, lease_ms: int = 60_000) -> asyncpg.Record:
    due = await agent.fetchval(
        "SELECT next_run_at FROM mana_ai.mission_snapshots WHERE mission_id = 'm1'"
    )
    run = await agent.fetchrow(CLAIM, "m1", due, lease_ms)
    assert run is not None
    assert run["outcome"] == "claimed"
    return run


@pytest.mark.parametrize("mission", ["m2", "m1b", "none", ""])
async def test_a_mission_of_another_agent_cannot_be_claimed(scene: Database, mission: str):
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene), "u2"):
        due = await agent.fetchval("SELECT now()")
        run = await agent.fetchrow(CLAIM, mission, due, 60_000)
    assert run is not None
    assert run["outcome"] == "unwanted"
    assert run["run_id"] is None


@pytest.mark.parametrize(
    ("state", "data", "actor"),
    [
        ("committed", PLAN, _actor(principalId="a2")),
        ("committed", PLAN, _actor(kind="user")),
        ("committed", PLAN, _actor(kind="system")),
        ("committed", PLAN, "{}"),
        ("committed", PLAN, "null"),
        ("committed", '{"iterations": [], "title": "theirs"}', _actor()),
        ("committed", '{"iterations": [], "agentId": "a2"}', _actor()),
        ("committed", '{"iterations": [], "grant": {}}', _actor()),
        ("committed", '{"nextRunAt": null}', _actor()),
        ("committed", "{}", _actor()),
        ("committed", "[]", _actor()),
        ("committed", '["iterations"]', _actor()),
        ("committed", '"iterations"', _actor()),
        ("committed", "null", _actor()),
        ("open", PLAN, _actor()),
        ("withdrawn", PLAN, _actor()),
    ],
)
async def test_a_commit_that_is_no_plan_of_this_agent_is_refused(
    scene: Database, state: str, data: str, actor: str
):
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        run, written = await _claimed(agent), await agent.fetchval(WRITTEN)
        basis = json.dumps(
            {name: run[name] for name in ("mission_version", "agent_version", "time_zone")}
        )
        what = run["run_id"], 1, basis, state, data, STAMP
        assert await agent.fetchval(COMMIT, *what, actor) == "refused"
        assert await agent.fetchval(WRITTEN) == written
        sound = run["run_id"], 1, basis, "committed", PLAN, STAMP
        assert await agent.fetchval(COMMIT, *sound, _actor()) == "done"


async def test_runs_of_others_cannot_be_touched(scene: Database):
    async with session(scene, SUPERUSER) as admin:
        runs = await admin.fetch("SELECT run_id FROM mana_ai.runs WHERE state = 'open'")
    calls = [
        "SELECT mana_ai.begin_call(NULL, $1, 1, 1, 'hash', 1, 1000)",
        "SELECT mana_ai.room_for_call(NULL, $1, 1, 1, 1)",
        "SELECT mana_ai.request_copies(NULL, $1, 1)",
        "SELECT mana_ai.keys_capability(NULL, $1, 1)",
    ]
    assert len(runs) == 2
    async with session(scene, "mana_agent") as agent:
        for run in runs:
            for call in calls:
                with pytest.raises(asyncpg.PostgresError) as caught:
                    async with acting(agent, await signed(scene), "u2"):
                        await agent.execute(call, run["run_id"])
                assert caught.value.sqlstate == "MA002", call
            for ending in endings("$1"):
                async with acting(agent, await signed(scene), "u2"):
                    ended = f"SELECT outcome FROM {ending}"
                    assert await agent.fetchval(ended, run["run_id"]) == "superseded", ending
            async with acting(agent, await signed(scene), "u2"):
                renew = (
                    "SELECT renewed, capability FROM mana_ai.renew(NULL, ARRAY[$1::uuid], '{1}', 1)"
                )
                assert tuple(await agent.fetchrow(renew, run["run_id"]) or ()) == (None, None)


async def test_ending_the_call_of_another_agent_charges_nothing(scene: Database):
    async with session(scene, SUPERUSER) as admin:
        calls = await admin.fetch("SELECT call_id FROM mana_ai.token_holds")
        used = "SELECT count(*), sum(tokens_used) FROM mana_ai.token_usage"
        before = await admin.fetchrow(used)
        async with session(scene, "mana_agent") as agent:
            for call in calls:
                async with agent.transaction():
                    await agent.execute(
                        "SELECT set_config('app.capability', $1, true)", await signed(scene)
                    )
                    end = (
                        "SELECT charged, journaled FROM mana_ai.end_call(NULL, $1, 1, 'h', 'x', 9)"
                    )
                    ended = await agent.fetchrow(end, call["call_id"])
                assert tuple(ended or ()) == (0, False)
        assert await admin.fetchrow(used) == before
        assert await admin.fetchval("SELECT count(*) FROM mana_ai.token_holds") == len(calls) == 2


async def test_nobody_earns_tokens_back(scene: Database):
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        run = await _claimed(agent)
        begin = "SELECT call_id FROM mana_ai.begin_call(NULL, $1, 1, $2, 'h', $3, 1000)"
        call = await agent.fetchval(begin, run["run_id"], 1, 10)
        end = "SELECT charged FROM mana_ai.end_call(NULL, $1, 1, 'h', 'x', -1000000)"
        assert await agent.fetchval(end, call) == 10
        with pytest.raises(asyncpg.CheckViolationError):
            await agent.fetchval(begin, run["run_id"], 2, -10)


@pytest.mark.parametrize("told", ["9000000000000000000, 1", "1, 9000000000000000000"])
async def test_nobody_reports_more_than_the_sums_of_all_can_hold(scene: Database, told: str):
    """Two such calls, and the installation's limit could not be added up for anybody."""
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        run = await _claimed(agent)
        begin = "SELECT call_id FROM mana_ai.begin_call(NULL, $1, 1, 1, 'h', 10, 1000)"
        call = await agent.fetchval(begin, run["run_id"])
        end = f"SELECT charged FROM mana_ai.end_call(NULL, $1, 1, 'h', 'x', {told})"
        await agent.fetchval(end, call)
        usage = "SELECT tokens_used, cost_micros FROM mana_ai.token_usage WHERE call_id = $1"
        charged = tuple(await agent.fetchrow(usage, call) or ())
    assert charged == ((1, 0) if told.startswith("1") else (10, 1))  # what cannot be is no report


@pytest.mark.parametrize(
    "asked", ["9000000000000, 1000, 0", "1, 2000000000, 0", "1, 1, 1" + 15 * "0"]
)
async def test_no_hold_is_kept_larger_or_longer_than_a_call_can_be(scene: Database, asked: str):
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        run = await _claimed(agent)
        begin = f"SELECT mana_ai.begin_call(NULL, $1, 1, 1, 'h', {asked})"
        with pytest.raises(asyncpg.CheckViolationError):
            await agent.fetchval(begin, run["run_id"])


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_transaction_of_one_snapshot_passes_no_limit(scene: Database, isolation: Any):
    due = "SELECT next_run_at FROM mana_ai.mission_snapshots WHERE mission_id = 'm1'"
    async with session(scene, "mana_agent") as agent:
        await agent.execute("SELECT set_config('app.capability', $1, false)", await signed(scene))
        with pytest.raises(asyncpg.PostgresError) as caught:
            async with agent.transaction(isolation=isolation):
                await agent.fetchrow(CLAIM, "m1", await agent.fetchval(due), 60_000)
    assert caught.value.sqlstate == "25000"


@pytest.mark.parametrize(
    "author", ['{"kind": "user", "principalId": "a1"}', _actor(principalId="a2"), "{}", "null"]
)
async def test_healing_writes_as_nobody_but_the_agent(scene: Database, author: str):
    heal = "SELECT mana_ai.heal_mission('m1', $1, '[]', $2, $3::jsonb, ARRAY['i1'])"
    version = "SELECT version FROM mana_ai.mission_snapshots WHERE mission_id = 'm1'"
    async with session(scene, SUPERUSER) as admin:
        await admin.execute(
            "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, iteration_id)"
            " VALUES ('u1', 'a1', 'm1', 'epoch', 'committed', 'i1')"
        )
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        at = await agent.fetchval(version)
        with pytest.raises(asyncpg.CheckViolationError):
            async with agent.transaction():
                await agent.fetchval(heal, at, STAMP, author)
        assert await agent.fetchval(heal, at, STAMP, _actor()) is True


async def test_a_stolen_capability_cannot_be_renewed_for_days(scene: Database):
    lease = (
        "SELECT lease_until - clock_timestamp() < interval '61 minutes' FROM mana_ai.runs"
        " WHERE run_id = $1"
    )
    async with session(scene, "mana_agent") as agent, acting(agent, await signed(scene)):
        run = await _claimed(agent, 2147483647)
        assert await agent.fetchval(lease, run["run_id"])
        token = await agent.fetchval(
            "SELECT capability FROM mana_ai.renew(NULL, ARRAY[$1::uuid], '{1}', 2147483647)",
            run["run_id"],
        )
        now = await agent.fetchval("SELECT extract(epoch FROM clock_timestamp())::bigint")
        assert await agent.fetchval(lease, run["run_id"])
    assert _payload(token)["exp"] - now <= 2 * 3600 + 1


async def test_renewal_keeps_user_agent_and_reach(scene: Database):
    async with session(scene, "mana_agent") as agent:
        held = await signed(scene, scope=["notes/notes/n1"], spaces=["s1"])
        async with acting(agent, held):
            run = await _claimed(agent)
            renew = "SELECT capability FROM mana_ai.renew(NULL, ARRAY[$1::uuid], '{1}', 60000)"
            token = await agent.fetchval(renew, run["run_id"])
    old, new = _payload(held), _payload(token)
    assert [new[key] for key in ("u", "a", "s", "sc", "aud")] == [
        "u1", "a1", ["s1"], ["notes/notes/n1"], "db",
    ]  # fmt: skip
    assert set(new) == set(old)


async def test_the_log_shows_only_what_the_scope_names(scene: Database):
    rows = [
        ("u1", "notes", "notes", "n1", None), ("u1", "notes", "notes", "n2", None),
        ("u1", "todo", "tasks", "t1", None), ("u2", "notes", "notes", "n1", None),
        ("u2", "notes", "notes", "n3", "s1"), ("u2", "ai", "aiMissions", "shared", "s1"),
        ("u2", "ai", "aiMissions", "other", "s2"),
    ]  # fmt: skip
    async with session(scene, SUPERUSER) as admin:
        for user, app, table, record, space in rows:
            await admin.execute(
                "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, client_id,"
                " space_id) VALUES ($1, $2, $3, $4, 'insert', 'c1', $5)",
                app, table, record, user, space,
            )  # fmt: skip
    seen = (
        "SELECT user_id || ':' || record_id FROM public.sync_changes"
        " WHERE record_id NOT IN ('m1', 'm1b', 'a1', 'a2')"
    )

    async def shown(pretended: str, member_of: str, **reach: Any) -> set[str]:
        token = await signed(scene, **reach)
        async with (
            session(scene, "mana_agent") as agent,
            acting(agent, token, pretended, member_of),
        ):
            return {row[0] for row in await agent.fetch(seen)}

    assert await shown("u1", "s1,s2") == set()
    assert await shown("u1", "", scope=["notes/notes/n1"]) == {"u1:n1"}
    assert await shown("u1", "", scope=["todo/tasks/*"]) == {"u1:t1"}
    assert await shown("u2", "s1,s2", scope=["notes/notes/n1"]) == set()
    assert await shown("u1", "s1,s2", spaces=["s1"]) == {"u2:shared"}
    assert await shown("u1", "s1,s2", spaces=["s1"], scope=["notes/notes/n3"]) == {
        "u2:shared", "u2:n3",
    }  # fmt: skip


async def test_who_left_a_space_reads_nothing_more_of_it_by_what_was_signed_before(scene: Database):
    """A capability lives for a quarter of an hour; a membership that ended ends at once."""
    async with session(scene, SUPERUSER) as admin:
        await admin.execute(
            "INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, client_id,"
            " space_id) VALUES ('ai', 'aiMissions', 'shared', 'u2', 'insert', 'c1', 'home')"
        )
        held = await signed(scene, spaces=["home", "elsewhere"])
        shared = "SELECT user_id FROM public.sync_changes WHERE record_id = 'shared'"
        said = "SELECT mana_ai.capability() -> 's'"
        async with session(scene, "mana_agent") as agent:
            async with acting(agent, held, "u1", "home"):
                assert await agent.fetchval(shared) == "u2"
                assert json.loads(await agent.fetchval(said)) == ["home", "elsewhere"]
            await admin.execute("DELETE FROM mana_ai.space_members WHERE user_id = 'u1'")
            async with acting(agent, held, "u1", "home"):
                assert await agent.fetchval(shared) is None
                assert json.loads(await agent.fetchval(said)) == ["elsewhere"]
