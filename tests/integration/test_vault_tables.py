"""Vault tables that the auth service made are taken as they are; another owner's need his grant."""

import pytest

from state.store.migrate import migrate
from state.store.sql import statements_of
from tests.integration.steps import session
from tests.postgres import LOG_OWNER, SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

AUTH_SERVICES = """
CREATE SCHEMA auth;
CREATE TABLE auth.users (id text PRIMARY KEY);
CREATE TABLE auth.encryption_vaults (
  user_id text PRIMARY KEY REFERENCES auth.users, wrapped_mk text, wrap_iv text,
  format_version smallint NOT NULL DEFAULT 1, kek_id text NOT NULL DEFAULT 'env-v1',
  recovery_wrapped_mk text, recovery_iv text, recovery_format_version smallint,
  recovery_set_at timestamptz, zero_knowledge boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(), rotated_at timestamptz);
CREATE TABLE auth.encryption_vault_audit (
  id text PRIMARY KEY, user_id text NOT NULL, action text NOT NULL, ip_address text,
  user_agent text, context text, status integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now());
ALTER TABLE auth.encryption_vaults ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.encryption_vaults FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.encryption_vault_audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.encryption_vault_audit FORCE ROW LEVEL SECURITY;
CREATE POLICY vaults_scope ON auth.encryption_vaults
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY audit_scope ON auth.encryption_vault_audit
  USING (user_id = current_setting('app.current_user_id', true));
INSERT INTO auth.users VALUES ('u1');
"""


async def _migrated(database: Database) -> None:
    await migrate(
        database.dsn(LOG_OWNER),
        secrets_dir=database.secrets_dir,
        password=database.password(LOG_OWNER),
    )


async def _faults(database: Database) -> list[str]:
    async with session(database, LOG_OWNER) as owner:
        rows = await owner.fetch(statements_of("catalogue.sql")["vault"], ["mana_gateway"], True)
    return sorted(row["fault"] for row in rows)


async def test_tables_of_our_own_are_as_the_doctor_wants_them(database: Database):
    assert await _faults(database) == []


@pytest.mark.parametrize("owner", [LOG_OWNER, SUPERUSER])
async def test_tables_that_the_auth_service_made_are_used_and_not_changed(
    empty_database: Database, owner: str
):
    async with session(empty_database, owner) as service:
        await service.execute(AUTH_SERVICES)
    await _migrated(empty_database)
    if owner == SUPERUSER:
        assert "encryption_vaults lacks SELECT for mana_issuer" in await _faults(empty_database)
        async with session(empty_database, owner) as service:
            await service.execute(
                "GRANT USAGE ON SCHEMA auth TO mana_issuer;"
                "GRANT SELECT, INSERT, UPDATE ON auth.encryption_vaults TO mana_issuer;"
                "GRANT INSERT ON auth.encryption_vault_audit TO mana_issuer"
            )
    assert await _faults(empty_database) == []
    async with session(empty_database, "mana_issuer") as issuer:
        await issuer.execute("SELECT set_config('app.current_user_id', 'u1', false)")
        now = await issuer.fetchval("SELECT now()")
        vault, audit = (statements_of("issuer.sql")[name] for name in ("add_vault", "add_audit"))
        await issuer.execute(vault, "u1", "AAAA", "BBBB", 1, "env-v1", now)
        await issuer.execute(audit, "u1", "init", None, None, None, 200)
        row = await issuer.fetchrow(statements_of("issuer.sql")["lock_vault"], "u1")
    assert row is not None
    assert (row["wrapped_mk"], row["format_version"]) == ("AAAA", 1)
