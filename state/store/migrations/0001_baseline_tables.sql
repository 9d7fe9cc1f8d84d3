-- The tables as they were when migrations got this shape: the sync service's log, ours, and the vault's. A table that
-- another service made is taken as it is: missing columns are added, nothing is renamed (an old service may be running).
-- Schema mana_ai and the ledger of migrations are made in migrate.py.

-- The sync service's log.
CREATE TABLE IF NOT EXISTS public.sync_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  app_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  user_id text NOT NULL,
  op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
  data jsonb,
  field_meta jsonb DEFAULT '{}',
  client_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  schema_version int NOT NULL DEFAULT 1,
  actor jsonb,
  origin text,
  space_id text
);

-- Each change to the shared table happens only where the catalogue lacks it: an ALTER takes an exclusive lock even
-- when it has nothing to do.
DO $$
DECLARE
  has_column text[] := ARRAY(SELECT attname::text FROM pg_attribute
                              WHERE attrelid = 'public.sync_changes'::regclass AND attnum > 0 AND NOT attisdropped);
  wanted record;
BEGIN
  FOR wanted IN SELECT * FROM (VALUES ('schema_version', 'int NOT NULL DEFAULT 1'), ('actor', 'jsonb'),
                                      ('origin', 'text'), ('space_id', 'text')) AS w (name, type) LOOP
    IF NOT wanted.name = ANY (has_column) THEN
      EXECUTE format('ALTER TABLE public.sync_changes ADD COLUMN %I %s', wanted.name, wanted.type);
    END IF;
  END LOOP;
  IF NOT ('field_meta' = ANY (has_column) OR 'field_timestamps' = ANY (has_column)) THEN
    ALTER TABLE public.sync_changes ADD COLUMN field_meta jsonb DEFAULT '{}';
  END IF;

  IF to_regclass('public.idx_sync_changes_user_app') IS NULL THEN
    CREATE INDEX idx_sync_changes_user_app ON public.sync_changes (user_id, app_id, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_table_record') IS NULL THEN
    CREATE INDEX idx_sync_changes_table_record ON public.sync_changes (table_name, record_id, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_since') IS NULL THEN
    CREATE INDEX idx_sync_changes_since ON public.sync_changes (user_id, app_id, table_name, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_user_space_app_since') IS NULL THEN
    CREATE INDEX idx_sync_changes_user_space_app_since
        ON public.sync_changes (user_id, space_id, app_id, created_at) WHERE space_id IS NOT NULL;
  END IF;

  IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'public.sync_changes'::regclass) THEN
    ALTER TABLE public.sync_changes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE public.sync_changes FORCE ROW LEVEL SECURITY;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass
                    AND polname = 'sync_changes_user_isolation') THEN
    CREATE POLICY sync_changes_user_isolation ON public.sync_changes
      USING (user_id = current_setting('app.current_user_id', true))
      WITH CHECK (user_id = current_setting('app.current_user_id', true));
  END IF;
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass
                    AND polname = 'sync_changes_space_member_read') THEN
    CREATE POLICY sync_changes_space_member_read ON public.sync_changes FOR SELECT
      USING (space_id IS NOT NULL
             AND space_id = ANY (string_to_array(current_setting('app.current_user_space_ids', true), ',')));
  END IF;
END $$;

-- These five tables are the original service's: made with its columns, then extended, so that an installation of it is
-- upgraded by the same statements.
CREATE TABLE IF NOT EXISTS mana_ai.mission_snapshots (
  user_id text NOT NULL, mission_id text NOT NULL, record jsonb NOT NULL,
  last_applied_at timestamptz NOT NULL DEFAULT 'epoch', updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, mission_id));
CREATE TABLE IF NOT EXISTS mana_ai.agent_snapshots (
  user_id text NOT NULL, agent_id text NOT NULL, record jsonb NOT NULL,
  last_applied_at timestamptz NOT NULL DEFAULT 'epoch', updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, agent_id));
CREATE TABLE IF NOT EXISTS mana_ai.decrypt_audit (
  id bigserial PRIMARY KEY, user_id text NOT NULL, mission_id text NOT NULL, iteration_id text,
  table_name text NOT NULL, record_id text NOT NULL,
  status text NOT NULL CHECK (status IN ('ok', 'failed', 'scope-violation')), reason text,
  ts timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS mana_ai.mission_research_jobs (
  user_id text NOT NULL, mission_id text NOT NULL, task_id text NOT NULL, provider_id text NOT NULL,
  submitted_at timestamptz NOT NULL DEFAULT now(), last_polled_at timestamptz,
  PRIMARY KEY (user_id, mission_id));
CREATE TABLE IF NOT EXISTS mana_ai.token_usage (
  id bigserial PRIMARY KEY, user_id text NOT NULL, agent_id text NOT NULL, mission_id text NOT NULL,
  tokens_used int NOT NULL, ts timestamptz NOT NULL DEFAULT now());
ALTER TABLE mana_ai.mission_snapshots OWNER TO mana_owner;
ALTER TABLE mana_ai.agent_snapshots OWNER TO mana_owner;
ALTER TABLE mana_ai.decrypt_audit OWNER TO mana_owner;
ALTER TABLE mana_ai.mission_research_jobs OWNER TO mana_owner;
ALTER TABLE mana_ai.token_usage OWNER TO mana_owner;

SET LOCAL ROLE mana_owner;

CREATE SEQUENCE mana_ai.snapshot_version;

-- wake_at is the only column the due query reads: null when nothing can change without a new row in the log.
ALTER TABLE mana_ai.mission_snapshots
  ADD COLUMN bucket smallint NOT NULL DEFAULT 0,
  ADD COLUMN version bigint NOT NULL DEFAULT 0,
  ADD COLUMN wake_at timestamptz,
  ADD COLUMN next_run_at timestamptz,
  ADD COLUMN state text NOT NULL DEFAULT 'paused',
  ADD COLUMN agent_id text NOT NULL DEFAULT 'legacy:ai-default',
  ADD COLUMN space_id text,
  ADD COLUMN complete boolean NOT NULL DEFAULT false,
  ADD COLUMN present boolean NOT NULL DEFAULT true,
  ADD COLUMN hidden boolean NOT NULL DEFAULT false,
  ADD COLUMN readable boolean NOT NULL DEFAULT true,
  ADD COLUMN problems text[] NOT NULL DEFAULT '{}',
  ADD COLUMN newest_at timestamptz NOT NULL DEFAULT 'epoch',
  ADD COLUMN newest_id uuid,
  ADD COLUMN folded_count bigint NOT NULL DEFAULT 0,
  ADD COLUMN folded_digest bigint NOT NULL DEFAULT 0,
  ADD COLUMN heal boolean NOT NULL DEFAULT false,
  ADD COLUMN decision text,
  ADD COLUMN reason text,
  ADD COLUMN decided_at timestamptz,
  -- When a browser began the iteration that still says it is running, so that no process is spent to find that out.
  ADD COLUMN browser_since timestamptz;
CREATE INDEX mission_snapshots_wake ON mana_ai.mission_snapshots (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX mission_snapshots_orphans ON mana_ai.mission_snapshots (mission_id) WHERE NOT complete;
CREATE INDEX mission_snapshots_agent ON mana_ai.mission_snapshots (user_id, agent_id);

ALTER TABLE mana_ai.agent_snapshots
  ADD COLUMN bucket smallint NOT NULL DEFAULT 0,
  ADD COLUMN version bigint NOT NULL DEFAULT 0,
  ADD COLUMN state text NOT NULL DEFAULT 'paused',
  ADD COLUMN max_tokens_per_day bigint,
  ADD COLUMN max_concurrent int NOT NULL DEFAULT 1,
  ADD COLUMN space_id text,
  ADD COLUMN complete boolean NOT NULL DEFAULT false,
  ADD COLUMN present boolean NOT NULL DEFAULT true,
  ADD COLUMN hidden boolean NOT NULL DEFAULT false,
  ADD COLUMN problems text[] NOT NULL DEFAULT '{}',
  ADD COLUMN newest_at timestamptz NOT NULL DEFAULT 'epoch',
  ADD COLUMN newest_id uuid,
  ADD COLUMN folded_count bigint NOT NULL DEFAULT 0,
  ADD COLUMN folded_digest bigint NOT NULL DEFAULT 0;
CREATE INDEX agent_snapshots_orphans ON mana_ai.agent_snapshots (agent_id) WHERE NOT complete;

ALTER TABLE mana_ai.token_usage
  ALTER COLUMN tokens_used TYPE bigint,
  ADD COLUMN run_id uuid,
  ADD COLUMN call_id uuid,
  ADD COLUMN round int,
  ADD COLUMN basis text NOT NULL DEFAULT 'reported',
  ADD COLUMN cost_micros bigint NOT NULL DEFAULT 0;  -- millionths of the alias file's currency
CREATE INDEX IF NOT EXISTS token_usage_window ON mana_ai.token_usage (user_id, agent_id, ts DESC);
CREATE UNIQUE INDEX token_usage_call ON mana_ai.token_usage (call_id) WHERE call_id IS NOT NULL;
-- Numbers no call has: their sum would pass bigint, and every check of the installation's limit and every operator's view would
-- fail. A call whose end is refused is charged at its hold. NOT VALID, because earlier rows stay as they are.
ALTER TABLE mana_ai.token_usage ADD CONSTRAINT token_usage_believable
  CHECK (tokens_used BETWEEN 0 AND 8589934592 AND cost_micros BETWEEN 0 AND 1000000000000) NOT VALID;
CREATE INDEX token_usage_ts ON mana_ai.token_usage (ts) INCLUDE (tokens_used, cost_micros);

-- Rows of the original service have neither run nor release.
ALTER TABLE mana_ai.decrypt_audit
  ADD COLUMN run_id uuid,
  ADD COLUMN attempt int,
  ADD COLUMN release_id uuid;
CREATE INDEX decrypt_audit_release ON mana_ai.decrypt_audit (release_id) WHERE release_id IS NOT NULL;
CREATE INDEX decrypt_audit_user ON mana_ai.decrypt_audit (user_id, ts DESC, id DESC);
CREATE INDEX IF NOT EXISTS decrypt_audit_mission ON mana_ai.decrypt_audit (user_id, mission_id, ts DESC);
CREATE INDEX IF NOT EXISTS mission_research_jobs_user ON mana_ai.mission_research_jobs (user_id, submitted_at DESC);

-- When this database was taken into use; slots older than that move on instead of running (null: nothing was there before).
CREATE TABLE mana_ai.install (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  slots_from timestamptz);

-- One row per supervisor shard. Folding and dispatching hold the row's lock with the epoch; ranges cannot overlap.
CREATE TABLE mana_ai.shards (
  shard text PRIMARY KEY,
  buckets int4range NOT NULL CHECK (NOT isempty(buckets) AND buckets <@ int4range(0, 256)),
  epoch bigint NOT NULL,
  holder text NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  folded_at timestamptz,
  ticked_at timestamptz,
  reconcile_after text,
  reconcile_started_at timestamptz,
  reconciled_at timestamptz,
  CONSTRAINT shards_own_buckets_alone EXCLUDE USING gist (buckets WITH &&));

-- Deleting is what consumes. No constraint but the key, so that nothing in it can fail somebody's push. Keyed by seq
-- alone: the poll reads from the last seq it saw, in one index descent for any number of buckets.
CREATE TABLE mana_ai.change_feed (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  bucket smallint NOT NULL,
  change_id uuid NOT NULL,
  user_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL);
-- Finds the feed rows of one record; a hash, so that no length of an id can make an insert fail.
CREATE INDEX change_feed_record ON mana_ai.change_feed USING hash (record_id);

CREATE TABLE mana_ai.quarantine (
  change_id uuid PRIMARY KEY,
  user_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  reason text NOT NULL,
  forced boolean NOT NULL DEFAULT false,
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX quarantine_user ON mana_ai.quarantine (user_id, seen_at DESC);

CREATE TABLE mana_ai.user_settings (
  user_id text PRIMARY KEY,
  time_zone text,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp());

-- One row per occurrence of a mission, so that it is planned once on any number of nodes.
CREATE TABLE mana_ai.runs (
  run_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  agent_id text NOT NULL,
  mission_id text NOT NULL,
  due_at timestamptz NOT NULL,
  state text NOT NULL CONSTRAINT runs_state CHECK (state IN ('open', 'waiting', 'committed', 'failed', 'withdrawn')),
  requested boolean NOT NULL DEFAULT false,
  attempt int NOT NULL DEFAULT 1,
  failures int NOT NULL DEFAULT 0,
  lost int NOT NULL DEFAULT 0,
  holder text,
  lease_until timestamptz,
  not_before timestamptz,
  waiting_for text,
  pinned jsonb,
  reason text,
  iteration_id text,
  steps int,
  tokens bigint NOT NULL DEFAULT 0,
  model_calls int NOT NULL DEFAULT 0,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  healed_at timestamptz,
  cancelled_at timestamptz,  -- a cancelled occurrence stays withdrawn; other withdrawn ones may reopen
  stop_reason text,
  duplicate_calls int NOT NULL DEFAULT 0,
  dropped_calls int NOT NULL DEFAULT 0,
  refused_calls int NOT NULL DEFAULT 0,
  answers jsonb NOT NULL DEFAULT '{}',
  CONSTRAINT runs_one_per_occurrence UNIQUE (user_id, mission_id, due_at));
CREATE UNIQUE INDEX runs_one_live_per_mission ON mana_ai.runs (user_id, mission_id) WHERE state IN ('open', 'waiting');
CREATE INDEX runs_live_of_agent ON mana_ai.runs (user_id, agent_id) WHERE state IN ('open', 'waiting');
CREATE INDEX runs_by_holder ON mana_ai.runs (holder) WHERE state = 'open';
CREATE INDEX runs_closed ON mana_ai.runs (closed_at) WHERE closed_at IS NOT NULL;

-- "Run now": one row per idempotency key; its database time is the occurrence.
CREATE TABLE mana_ai.run_requests (
  user_id text NOT NULL,
  request_key text NOT NULL,
  mission_id text NOT NULL,
  due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  PRIMARY KEY (user_id, request_key));
CREATE INDEX run_requests_open ON mana_ai.run_requests (user_id, mission_id, due_at) WHERE closed_at IS NULL;
CREATE INDEX run_requests_closed ON mana_ai.run_requests (closed_at) WHERE closed_at IS NOT NULL;

-- What the gate said, whenever it said something new.
CREATE TABLE mana_ai.decisions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id text NOT NULL,
  mission_id text NOT NULL,
  agent_id text NOT NULL,
  due_at timestamptz,
  decision text NOT NULL,
  reason text,
  at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX decisions_mission ON mana_ai.decisions (user_id, mission_id, id);
CREATE INDEX decisions_at ON mana_ai.decisions (at);

-- The ledger: a lock row per (user, agent), the holds of model calls under way, and token_usage as what was spent.
CREATE TABLE mana_ai.ledger (
  user_id text NOT NULL, agent_id text NOT NULL, PRIMARY KEY (user_id, agent_id));
CREATE TABLE mana_ai.token_holds (
  call_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  agent_id text NOT NULL,
  mission_id text NOT NULL,
  run_id uuid NOT NULL,
  attempt int NOT NULL,
  round int NOT NULL,
  tokens bigint NOT NULL CHECK (tokens >= 0),
  deadline timestamptz NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  cost_micros bigint NOT NULL DEFAULT 0 CONSTRAINT token_holds_cost CHECK (cost_micros >= 0));
-- A hold ends with the longest call there is (an hour) and its margin.
ALTER TABLE mana_ai.token_holds ADD CONSTRAINT token_holds_believable
  CHECK (tokens <= 8589934592 AND cost_micros <= 1000000000000 AND deadline <= opened_at + interval '2 hours') NOT VALID;
CREATE INDEX token_holds_agent ON mana_ai.token_holds (user_id, agent_id);
CREATE INDEX token_holds_deadline ON mana_ai.token_holds (deadline);

-- Model answers of live runs, reused by a later attempt while the request's hash is the same.
CREATE TABLE mana_ai.journal (
  run_id uuid NOT NULL REFERENCES mana_ai.runs ON DELETE CASCADE,
  round int NOT NULL,
  user_id text NOT NULL,
  request_hash text NOT NULL,
  answer text NOT NULL,
  tokens bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (run_id, round));

-- Secrets that sign capabilities, as precomputed HMAC pads; one signs per audience, and while rotating the one before it
-- verifies for as long as anything it signed can be alive. After that the clock refuses it; the next rotation deletes it.
CREATE TABLE mana_ai.capability_secrets (
  audience text NOT NULL,
  kid text NOT NULL,
  inner_pad bytea NOT NULL,
  outer_pad bytea NOT NULL,
  signs boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  verifies_until timestamptz,  -- null: it signs
  PRIMARY KEY (audience, kid),
  CONSTRAINT capability_secrets_sign_or_end CHECK (signs = (verifies_until IS NULL)));
CREATE UNIQUE INDEX capability_secrets_one_signs ON mana_ai.capability_secrets (audience) WHERE signs;

-- Limits of the last 24 hours. `each-agent` is what an agent gets whose owner and operator say nothing else; a named
-- user's limit takes the place of `each-user`.
CREATE TABLE mana_ai.limits (
  kind text NOT NULL CONSTRAINT limits_kind CHECK (kind IN ('installation', 'each-user', 'each-agent', 'user', 'agent')),
  user_id text NOT NULL DEFAULT '',
  agent_id text NOT NULL DEFAULT '',
  tokens bigint CONSTRAINT limits_tokens CHECK (tokens >= 0),
  micros bigint CONSTRAINT limits_micros CHECK (micros >= 0),
  set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kind, user_id, agent_id),
  CONSTRAINT limits_named CHECK ((user_id <> '') = (kind IN ('user', 'agent')) AND (agent_id <> '') = (kind = 'agent')),
  CONSTRAINT limits_say_something CHECK (tokens IS NOT NULL OR micros IS NOT NULL));

-- Whose missions to look at again because a limit changed ('' = everybody's), and when: at once, and once more after a
-- minute for those that were deciding by the old limits meanwhile.
CREATE TABLE mana_ai.budget_wakes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  whose text NOT NULL,
  wake_at timestamptz NOT NULL);

-- What the key holder was asked and answered: durable before a key leaves. Attempt and outcome (decrypt_audit) are rows of two
-- tables, each insert-only for every login; the reading side joins them by release_id.
CREATE TABLE mana_ai.key_releases (
  release_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  agent_id text NOT NULL,
  mission_id text NOT NULL,
  run_id uuid NOT NULL,
  attempt int NOT NULL,
  outcome text NOT NULL CONSTRAINT key_releases_outcome CHECK (outcome IN ('released', 'refused')),
  reason text,
  grant_version text,
  record_ids text[] NOT NULL DEFAULT '{}',  -- what the key opens
  expires_at timestamptz,
  ts timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX key_releases_user ON mana_ai.key_releases (user_id, ts DESC, release_id);
CREATE INDEX key_releases_run ON mana_ai.key_releases (run_id);
CREATE INDEX key_releases_age ON mana_ai.key_releases (ts);

-- What a master key must hash to, so that leaving zero knowledge takes no other key. Ours, beside the auth service's table;
-- written_for is the vault's version (rotated_at, else created_at): a check for an older key says nothing.
CREATE TABLE mana_ai.vault_key_checks (
  user_id text PRIMARY KEY,
  written_for timestamptz NOT NULL,
  key_check text NOT NULL);

-- Sealed copies: what a mission may read of its owner's encrypted records, sealed by the owner's client under that mission's
-- data key. They live as long as the grant in the mission's snapshot: a revoked or expired one takes them along.
CREATE TABLE mana_ai.sealed_copies (
  user_id text NOT NULL,
  mission_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  data jsonb NOT NULL CONSTRAINT sealed_copies_bounded CHECK (jsonb_typeof(data) = 'object' AND length(data::text) <= 262144),
  written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  -- Which ciphertext it was made of; null: its client sent none.
  source text CONSTRAINT sealed_copies_source CHECK (source ~ '^[0-9a-f]{64}$'),
  PRIMARY KEY (user_id, mission_id, table_name, record_id));
CREATE INDEX sealed_copies_age ON mana_ai.sealed_copies (expires_at);

-- The public key a person's client registers, so that what runs make of decrypted inputs is sealed for its owner's eyes. One per
-- person, the newest; each change leaves a row that its owner sees and no login can alter.
CREATE TABLE mana_ai.owner_keys (
  user_id text PRIMARY KEY,
  key_id text NOT NULL,
  public_key bytea NOT NULL CONSTRAINT owner_keys_x25519 CHECK (length(public_key) = 32),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp());

CREATE TABLE mana_ai.owner_key_changes (
  change_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  key_id text NOT NULL,
  action text NOT NULL CONSTRAINT owner_key_changes_action CHECK (action IN ('registered', 'removed')),
  ip_address text,
  user_agent text,
  at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX owner_key_changes_user ON mana_ai.owner_key_changes (user_id, at DESC);
CREATE INDEX owner_key_changes_age ON mana_ai.owner_key_changes (at);

-- Sealed copies on demand: a run that misses one, or finds it stale, asks for copies; whoever has the owner's key in a vault
-- makes them. An idle tenant costs nothing.
-- One row per mission, asked for or answered. due_at: when it may be taken, and while it is taken, the end of that lease; null
-- once it is answered.
CREATE TABLE mana_ai.copy_requests (
  user_id text NOT NULL,
  mission_id text NOT NULL,
  asked_at timestamptz NOT NULL,
  due_at timestamptz,
  for_grant text NOT NULL,  -- hash of the grant it was asked under: another one is another question
  taken uuid,
  taken_at timestamptz,
  tries int NOT NULL DEFAULT 0,  -- takings without an answer
  answer text CONSTRAINT copy_requests_answer CHECK (answer IN ('made', 'current', 'no-grant', 'grant-refused', 'grant-outdated',
    'zero-knowledge', 'no-vault', 'not-opened', 'too-large', 'failed')),
  answered_at timestamptz,
  PRIMARY KEY (user_id, mission_id));
CREATE INDEX copy_requests_due ON mana_ai.copy_requests (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX copy_requests_age ON mana_ai.copy_requests (asked_at);

RESET ROLE;

GRANT USAGE ON SCHEMA mana_ai TO mana_router;
GRANT CREATE ON SCHEMA mana_ai TO mana_router;  -- only until its view is handed over

-- The log as our functions see it. A view, because an old sync service still calls the stamps field_timestamps.
DO $$
DECLARE
  stamps text := CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'public.sync_changes'::regclass
                                      AND attname = 'field_meta' AND NOT attisdropped)
                      THEN 'field_meta' ELSE 'field_timestamps' END;
  columns text := format('id, app_id, table_name, record_id, user_id, op, data, %I AS field_meta, client_id, created_at,
                          schema_version, actor, origin, space_id', stamps);
BEGIN
  EXECUTE 'CREATE VIEW mana_ai.log_rows AS SELECT ' || columns || ' FROM public.sync_changes';
  EXECUTE 'CREATE VIEW mana_ai.router_log AS SELECT ' || columns || ' FROM public.sync_changes';
END $$;
ALTER VIEW mana_ai.log_rows OWNER TO mana_owner;     -- writes of claim/commit: the log's own user policy applies
ALTER VIEW mana_ai.router_log OWNER TO mana_router;  -- reads of two tables across users, and nothing else

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass AND polname = 'mana_router_read') THEN
    CREATE POLICY mana_router_read ON public.sync_changes FOR SELECT TO mana_router
      USING (app_id = 'ai' AND table_name IN ('aiMissions', 'agents'));
  END IF;
END $$;
GRANT SELECT ON public.sync_changes TO mana_router;
GRANT SELECT, INSERT ON public.sync_changes TO mana_owner;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_router;

-- Slots that fell due before we came are the old runner's affair; an empty log has none.
INSERT INTO mana_ai.install (slots_from)
SELECT CASE WHEN EXISTS (SELECT FROM mana_ai.router_log) THEN clock_timestamp() END;

-- The vault: each person's master key, wrapped under a key that is in no database. The tables are the auth service's: created as
-- it would create them when absent, and taken as they are when it made them.
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
