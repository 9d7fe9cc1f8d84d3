"""What is only old is deleted, in batches, by a login that sees no column but the age."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from state.store.connect import Access
from state.store.connect import Database as Connections
from state.store.janitor import JanitorStore, Retention
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.pruning import EVERY_S, Pruning
from tests.gateway_parts import settings_for
from tests.integration.steps import session
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

ROLE = "mana_janitor"
OLD = """
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, ts)
SELECT 'u1', 'a', 'm', 1, now() - n * interval '1 hour' FROM generate_series(1, 100) AS n;
INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, decision, at)
SELECT 'u1', 'm', 'a', 'ran', now() - n * interval '30 days' FROM generate_series(0, 5) AS n;
INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, closed_at, opened_at)
SELECT 'u1', 'a', 'm' || n, now(), CASE n WHEN 0 THEN 'open' ELSE 'committed' END,
       CASE WHEN n > 0 THEN now() - n * interval '40 days' END, now() - interval '400 days'
  FROM generate_series(0, 5) AS n;
INSERT INTO mana_ai.run_requests (user_id, request_key, mission_id, due_at, closed_at)
VALUES ('u1', 'open', 'm', now() - interval '90 days', NULL),
       ('u1', 'old', 'm', now(), now() - interval '90 days');
INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome, ts)
SELECT 'u1', 'a', 'm', gen_random_uuid(), 1, 'released', now() - n * interval '40 days'
  FROM generate_series(0, 4) AS n;
INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, table_name, record_id, status, ts)
SELECT 'u1', 'm', 'notes', 'n', 'ok', now() - n * interval '40 days'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, at)
SELECT 'u1', 'k', 'registered', now() - n * interval '40 days' FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, expires_at)
SELECT 'u1', 'm', 'notes', 'n' || n, '{}', now() + (n - 3.5) * interval '1 day'
  FROM generate_series(0, 5) AS n;
INSERT INTO mana_ai.copy_requests (user_id, mission_id, asked_at, for_grant)
SELECT 'u1', 'm' || n, now() - n * interval '20 days', '' FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.own_answers (user_id, key, request, at)
SELECT 'u1', 'k' || n, 'r', now() - n * interval '20 hours' FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.proposals (user_id, proposal_id, mission_id, iteration_id, step_id, agent_id,
                               agent_name, tool, rationale, created_at, state, decided_by,
                               decided_at)
SELECT 'u1', gen_random_uuid(), 'm', 'i', 's' || n, 'a', 'A', 'create_task', '', now(),
       CASE n WHEN 0 THEN 'pending' ELSE 'done' END, CASE WHEN n > 0 THEN 'user' END,
       CASE WHEN n > 0 THEN now() - n * interval '80 days' END FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.people (user_id, display_name) VALUES ('u1', 'A');
INSERT INTO mana_ai.sign_in_links (link_hash, user_id, expires_at)
SELECT sha256(n::text::bytea), 'u1', now() + (n - 1.5) * interval '1 hour'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.sign_ins (sign_in_id, user_id, chain_secret, expires_at)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'u1', 's', now() - n * interval '40 days'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.refresh_tokens (token_hash, sign_in_id)
SELECT sha256(n::text::bytea), ('00000000-0000-0000-0000-00000000000' || n)::uuid
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.personal_tokens (user_id, name, token_hash, scopes, expires_at)
SELECT 'u1', 't' || n, sha256(n::text::bytea), '{read}', now() - n * interval '40 days'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.visitors (user_id, spaces, cookie_hash, expires_at)
SELECT 'u1', '{}', sha256(n::text::bytea), now() - n * interval '40 days'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.operator_sessions (cookie_hash, address, user_agent, ends_at)
SELECT sha256(n::text::bytea), '10.0.0.1', 'a browser', now() + (n - 1.5) * interval '1 hour'
  FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.openings (user_id, agent_id, reason, opened_by, at, ends_at)
SELECT 'u1', 'a1', 'a ticket says so', 'service key', now() - n * interval '40 days',
       now() - n * interval '40 days' + interval '1 minute' FROM generate_series(0, 3) AS n;
INSERT INTO mana_ai.people_trail (user_id, action, done_by, at)
SELECT 'u1', 'added', 'operator', now() - n * interval '40 days' FROM generate_series(0, 3) AS n;
"""
LEFT = """
SELECT (SELECT count(*) FROM mana_ai.token_usage), (SELECT count(*) FROM mana_ai.decisions),
       (SELECT count(*) FROM mana_ai.runs), (SELECT count(*) FROM mana_ai.run_requests),
       (SELECT count(*) FROM mana_ai.decrypt_audit), (SELECT count(*) FROM mana_ai.key_releases),
       (SELECT count(*) FROM mana_ai.owner_key_changes),
       (SELECT count(*) FROM mana_ai.sealed_copies), (SELECT count(*) FROM mana_ai.copy_requests),
       (SELECT count(*) FROM mana_ai.own_answers), (SELECT count(*) FROM mana_ai.proposals),
       (SELECT count(*) FROM mana_ai.sign_in_links),
       (SELECT count(*) FROM mana_ai.sign_ins), (SELECT count(*) FROM mana_ai.refresh_tokens),
       (SELECT count(*) FROM mana_ai.personal_tokens), (SELECT count(*) FROM mana_ai.people_trail),
       (SELECT count(*) FROM mana_ai.visitors), (SELECT count(*) FROM mana_ai.openings),
       (SELECT count(*) FROM mana_ai.operator_sessions)
"""


@pytest.fixture
async def janitor(database: Database) -> AsyncGenerator[JanitorStore]:
    async with session(database, SUPERUSER) as admin:
        await admin.execute(OLD)
    access = Access(database.dsn(ROLE), ROLE, str(database.password_file(ROLE)))
    store = JanitorStore(Connections(access, max_connections=1))
    yield store
    await store.close()


async def left(database: Database) -> tuple[int, ...]:
    async with session(database, SUPERUSER) as admin:
        row = await admin.fetchrow(LEFT)
        assert row is not None
        return tuple(row.values())


@pytest.mark.parametrize("batch", [3, 5000])
async def test_old_rows_go_and_live_ones_stay(
    database: Database, janitor: JanitorStore, monkeypatch: pytest.MonkeyPatch, batch: int
):
    monkeypatch.setattr("state.store.janitor.BATCH", batch)
    deleted = await janitor.prune(Retention())
    assert deleted == {
        "token_usage": 53, "decisions": 3, "runs": 3, "run_requests": 1,
        "decrypt_audit": 1, "key_releases": 2, "owner_key_changes": 1, "sealed_copies": 4,
        "copy_requests": 2, "own_answers": 2, "proposals": 1, "sign_in_links": 2, "sign_ins": 1,
        "personal_tokens": 1, "people_trail": 1, "visitors": 1, "openings": 1,
        "operator_sessions": 2,
    }  # fmt: skip
    assert await left(database) == (47, 3, 3, 1, 3, 3, 3, 2, 2, 2, 3, 2, 3, 3, 3, 3, 3, 3, 2)
    assert set((await janitor.prune(Retention())).values()) == {0}


async def test_it_prunes_once_an_hour_and_counts(janitor: JanitorStore, tmp_path: Path):
    metrics, now = Metrics(), 0.0
    pruning = Pruning(janitor, settings_for(tmp_path), metrics, lambda: now)
    assert pruning.is_due()
    await pruning.prune()
    assert not pruning.is_due()
    now = EVERY_S
    assert pruning.is_due()
    assert metrics.snapshot()["counters"]["rows_pruned_total"] == {
        '["token_usage"]': 53, '["decisions"]': 3, '["runs"]': 3, '["run_requests"]': 1,
        '["decrypt_audit"]': 1, '["key_releases"]': 2, '["owner_key_changes"]': 1,
        '["sealed_copies"]': 4, '["copy_requests"]': 2,
        '["own_answers"]': 2, '["proposals"]': 1, '["sign_in_links"]': 2, '["sign_ins"]': 1,
        '["personal_tokens"]': 1, '["people_trail"]': 1, '["visitors"]': 1,
        '["openings"]': 1, '["operator_sessions"]': 2,
    }  # fmt: skip
