-- The vault (grants-auth §4): each person's master key, wrapped under a key that is in no database. The tables are the auth
-- service's: created as it would create them when absent, and taken as they are when it made them.
GRANT USAGE ON SCHEMA mana_ai TO mana_issuer;

DO $$
BEGIN
  IF to_regnamespace('auth') IS NULL THEN
    CREATE SCHEMA auth;
    ALTER SCHEMA auth OWNER TO mana_owner;
  END IF;
  IF to_regclass('auth.encryption_vaults') IS NULL THEN
    CREATE TABLE auth.encryption_vaults (
      user_id text PRIMARY KEY,
      wrapped_mk text,
      wrap_iv text,
      format_version int NOT NULL DEFAULT 1,
      kek_id text NOT NULL DEFAULT 'env-v1',
      recovery_wrapped_mk text,
      recovery_iv text,
      recovery_format_version int,
      recovery_set_at timestamptz,
      zero_knowledge boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL DEFAULT now(),
      rotated_at timestamptz,
      CONSTRAINT encryption_vaults_has_wrap CHECK (wrapped_mk IS NOT NULL OR recovery_wrapped_mk IS NOT NULL),
      CONSTRAINT encryption_vaults_wrap_iv_pair
        CHECK ((wrapped_mk IS NULL) = (wrap_iv IS NULL) AND (recovery_wrapped_mk IS NULL) = (recovery_iv IS NULL)),
      CONSTRAINT encryption_vaults_zk_consistency CHECK (NOT zero_knowledge OR (wrapped_mk IS NULL AND recovery_wrapped_mk IS NOT NULL)));
    ALTER TABLE auth.encryption_vaults OWNER TO mana_owner;
    ALTER TABLE auth.encryption_vaults ENABLE ROW LEVEL SECURITY;
    ALTER TABLE auth.encryption_vaults FORCE ROW LEVEL SECURITY;
    CREATE POLICY encryption_vaults_user_isolation ON auth.encryption_vaults
      USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
  END IF;
  IF to_regclass('auth.encryption_vault_audit') IS NULL THEN
    CREATE TABLE auth.encryption_vault_audit (
      id text PRIMARY KEY,
      user_id text NOT NULL,
      action text NOT NULL,
      ip_address text,
      user_agent text,
      context text,
      status int NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT encryption_vault_audit_action CHECK (action IN ('init', 'fetch', 'rotate', 'failed_fetch', 'recovery_set',
        'recovery_clear', 'zk_enable', 'zk_disable')));
    CREATE INDEX encryption_vault_audit_user ON auth.encryption_vault_audit (user_id, created_at DESC);
    CREATE INDEX encryption_vault_audit_at ON auth.encryption_vault_audit (created_at);
    ALTER TABLE auth.encryption_vault_audit OWNER TO mana_owner;
    ALTER TABLE auth.encryption_vault_audit ENABLE ROW LEVEL SECURITY;
    ALTER TABLE auth.encryption_vault_audit FORCE ROW LEVEL SECURITY;
    CREATE POLICY encryption_vault_audit_user_isolation ON auth.encryption_vault_audit
      USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
  END IF;
  -- The trail is only ever added to, and nobody's vault is deleted here.
  GRANT USAGE ON SCHEMA auth TO mana_issuer;
  GRANT SELECT, INSERT, UPDATE ON auth.encryption_vaults TO mana_issuer;
  GRANT INSERT ON auth.encryption_vault_audit TO mana_issuer;
EXCEPTION WHEN insufficient_privilege THEN
  -- An auth service with an owner of its own; a deployment that mints grants there needs nothing of this.
  RAISE WARNING 'schema auth belongs to somebody else: mana doctor says what its owner has to grant to mana_issuer';
END $$;

-- What a master key must hash to, so that leaving zero knowledge takes no other key. Ours, beside the auth service's table;
-- written_for is the vault's version (rotated_at, else created_at): a check for an older key says nothing.
SET LOCAL ROLE mana_owner;
CREATE TABLE mana_ai.vault_key_checks (
  user_id text PRIMARY KEY,
  written_for timestamptz NOT NULL,
  key_check text NOT NULL);
ALTER TABLE mana_ai.vault_key_checks ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.vault_key_checks FORCE ROW LEVEL SECURITY;
CREATE POLICY issuer_acts_for_user ON mana_ai.vault_key_checks TO mana_issuer
  USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
GRANT SELECT, INSERT, UPDATE ON mana_ai.vault_key_checks TO mana_issuer;
RESET ROLE;
