-- What `mana migrate --print-sql` of the last release before the baseline wrote: tests load it to have a database of then.
-- For psql, as the owner of sync_changes with CREATEROLE, or as superuser.
-- Afterwards give each login its password with \password and put it into the
-- secrets folder as a file of mode 0600 named after the login.
\set ON_ERROR_STOP on
BEGIN;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_owner') THEN
    CREATE ROLE mana_owner NOLOGIN;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_router') THEN
    CREATE ROLE mana_router NOLOGIN;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_fleet') THEN
    CREATE ROLE mana_fleet NOLOGIN;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_supervisor') THEN
    CREATE ROLE mana_supervisor LOGIN CONNECTION LIMIT 40;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_agent') THEN
    CREATE ROLE mana_agent LOGIN CONNECTION LIMIT 120;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_keys') THEN
    CREATE ROLE mana_keys LOGIN CONNECTION LIMIT 20;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_gateway') THEN
    CREATE ROLE mana_gateway LOGIN CONNECTION LIMIT 40;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_janitor') THEN
    CREATE ROLE mana_janitor LOGIN CONNECTION LIMIT 4;
  END IF;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mana_issuer') THEN
    CREATE ROLE mana_issuer LOGIN CONNECTION LIMIT 20;
  END IF;
END $$;
ALTER ROLE mana_supervisor SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE mana_agent SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE mana_keys SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE mana_gateway SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE mana_janitor SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE mana_issuer SET idle_in_transaction_session_timeout = '30s';
GRANT mana_owner TO CURRENT_USER;
GRANT mana_router TO CURRENT_USER;
GRANT mana_fleet TO CURRENT_USER;
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA IF NOT EXISTS mana_ai;
ALTER SCHEMA mana_ai OWNER TO mana_owner;
CREATE TABLE IF NOT EXISTS mana_ai.migrations (
  name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE mana_ai.migrations OWNER TO mana_owner;
GRANT SELECT ON mana_ai.migrations TO mana_supervisor, mana_gateway;

-- 0001_log
-- The sync service's log. Created as the sync service would create it when absent; an existing one, also of an
-- older shape, is accepted: missing nullable columns are added, nothing is renamed (an old service may be running).
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

-- 0002_tables
-- Our own schema. The first five tables are the original service's (data-model §10): created with its columns and
-- then extended, so that an existing installation is upgraded by the same statements. (The schema itself is made with
-- the ledger of migrations, in migrate.py.)
GRANT USAGE ON SCHEMA mana_ai TO mana_router, mana_fleet, mana_supervisor, mana_agent, mana_keys, mana_gateway, mana_janitor;

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

-- An existing installation may have forced row security already; an UPDATE under FORCE touches no row, silently.
ALTER TABLE mana_ai.mission_snapshots NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.agent_snapshots NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.token_usage NO FORCE ROW LEVEL SECURITY;

-- The original's own policy was for everybody; ours name who they are for.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_policy WHERE polrelid = 'mana_ai.decrypt_audit'::regclass AND polname = 'decrypt_audit_user_scope') THEN
    DROP POLICY decrypt_audit_user_scope ON mana_ai.decrypt_audit;
  END IF;
END $$;

-- Which of the 256 buckets a user's rows belong to: the first byte of SHA-256 of the user id.
CREATE OR REPLACE FUNCTION mana_ai.bucket_of(p_user text) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN get_byte(sha256(convert_to(p_user, 'UTF8')), 0)::smallint;

-- One number per change row, xored into a snapshot's digest (state/log/merge.py computes the same).
CREATE OR REPLACE FUNCTION mana_ai.change_digest(p_id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || left(replace(p_id::text, '-', ''), 16))::bit(64)::bigint
     # ('x' || right(replace(p_id::text, '-', ''), 16))::bit(64)::bigint;

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
  ADD COLUMN decided_at timestamptz;
UPDATE mana_ai.mission_snapshots SET bucket = mana_ai.bucket_of(user_id);
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
UPDATE mana_ai.agent_snapshots SET bucket = mana_ai.bucket_of(user_id);
CREATE INDEX agent_snapshots_orphans ON mana_ai.agent_snapshots (agent_id) WHERE NOT complete;

ALTER TABLE mana_ai.token_usage
  ALTER COLUMN tokens_used TYPE bigint,
  ADD COLUMN run_id uuid,
  ADD COLUMN call_id uuid,
  ADD COLUMN round int,
  ADD COLUMN basis text NOT NULL DEFAULT 'reported';
CREATE INDEX IF NOT EXISTS token_usage_window ON mana_ai.token_usage (user_id, agent_id, ts DESC);
CREATE UNIQUE INDEX token_usage_call ON mana_ai.token_usage (call_id) WHERE call_id IS NOT NULL;
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

-- One row per occurrence of a mission (P1).
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
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp());
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

-- Keys that sign capabilities, as precomputed HMAC pads; two per audience while rotating.
CREATE TABLE mana_ai.capability_secrets (
  audience text NOT NULL,
  kid text NOT NULL,
  inner_pad bytea NOT NULL,
  outer_pad bytea NOT NULL,
  signs boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (audience, kid));

RESET ROLE;

-- 0003_capability
-- Capabilities: what one agent process may do, signed here and only here. base64url(payload) "." base64url(HMAC-SHA-256),
-- payload = {"u": user, "a": agent, "s": [space ids], "sc": [scope], "aud": audience, "exp": unix seconds, "kid": key id}.
-- HMAC is RFC 2104 over core sha256() with precomputed pads, so pgcrypto is not needed.
SET LOCAL ROLE mana_owner;

CREATE FUNCTION mana_ai.base64url(p_bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN translate(encode(p_bytes, 'base64'), E'+/=\n', '-_');

CREATE FUNCTION mana_ai.unbase64url(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN decode(rpad(translate(p_text, '-_', '+/'), (length(p_text) + 3) / 4 * 4, '='), 'base64');

CREATE FUNCTION mana_ai.pad(p_secret bytea, p_byte int) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT
RETURN (SELECT string_agg(decode(lpad(to_hex(
          (CASE WHEN i < length(p_secret) THEN get_byte(p_secret, i) ELSE 0 END) # p_byte), 2, '0'), 'hex'), ''::bytea ORDER BY i)
          FROM generate_series(0, 63) AS i);

-- Adds a signing secret for an audience (32 random bytes from the caller); the newest signs, all that are there verify.
CREATE FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
  VALUES (p_audience, p_kid, mana_ai.pad(p_secret, 54), mana_ai.pad(p_secret, 92))
  ON CONFLICT DO NOTHING;
END;

CREATE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT body.text || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body.text, 'UTF8'))))
          FROM (SELECT * FROM mana_ai.capability_secrets WHERE audience = p_payload ->> 'aud' AND signs
                 ORDER BY created_at DESC, kid LIMIT 1) AS k,
       LATERAL (SELECT mana_ai.base64url(convert_to((p_payload || jsonb_build_object('kid', k.kid))::text, 'UTF8'))) AS body (text));

-- Only the supervisor may call this.
CREATE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s int)
RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                               'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));

-- The capability of this transaction if its signature holds and it has not expired by the wall clock, else null.
CREATE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text := split_part(token, '.', 1);
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR length(token) > 8192 THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND k.kid = payload ->> 'kid'
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8')))))
     OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

CREATE FUNCTION mana_ai.capability_user() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'u';
CREATE FUNCTION mana_ai.capability_agent() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'a';

-- What the capability's scope lists outside app "ai": "app/table/record" entries.
CREATE FUNCTION mana_ai.capability_scope() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT jsonb_array_elements_text(mana_ai.capability() -> 'sc'));

-- Write functions raise rather than find no row: a capability that ran out must not look like "nothing to do".
CREATE FUNCTION mana_ai.require_capability() RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.capability();
BEGIN
  IF held IS NULL THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

-- Whose rows a function owned by mana_owner sees: the capability's user in an agent's session, else the user that the
-- trusted session (supervisor, gateway) named for this transaction.
CREATE FUNCTION mana_ai.acting_user() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN session_user = 'mana_agent' THEN mana_ai.capability() ->> 'u'
            ELSE current_setting('app.current_user_id', true) END;

RESET ROLE;

-- 0004_feed
GRANT CREATE ON SCHEMA mana_ai TO mana_router;  -- only until the objects below are handed over

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

-- A row of a shared space folds into the record of whoever inserted it; a personal row always into its author's.
CREATE FUNCTION mana_ai.is_shared(p_space text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_space IS NOT NULL AND p_space <> '' AND NOT starts_with(p_space, '_personal:');

CREATE FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN EXISTS (SELECT FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table AND record_id = p_record
                            AND user_id = p_user AND op = 'insert') THEN p_user
            ELSE coalesce((SELECT user_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                              AND record_id = p_record AND space_id = p_space AND op = 'insert'
                            ORDER BY created_at, id LIMIT 1), p_user) END;

-- Every row that folds into one user's record.
CREATE FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT * FROM mana_ai.router_log AS own
   WHERE own.app_id = 'ai' AND own.table_name = p_table AND own.record_id = p_record AND own.user_id = p_user
     AND (own.op = 'insert' OR NOT mana_ai.is_shared(own.space_id)
          OR mana_ai.owner_of(own.user_id, p_table, p_record, own.space_id) = p_user)
  UNION ALL
  SELECT * FROM mana_ai.router_log AS members
   WHERE members.app_id = 'ai' AND members.table_name = p_table AND members.record_id = p_record AND members.user_id <> p_user
     AND members.op <> 'insert' AND mana_ai.is_shared(members.space_id)
     AND members.space_id IN (SELECT space_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                                 AND record_id = p_record AND user_id = p_user AND op = 'insert')
     AND mana_ai.owner_of(members.user_id, p_table, p_record, members.space_id) = p_user;
END;

-- Runs in the pushing client's transaction: it must never stop somebody's sync, so it catches everything and warns.
-- What it misses, the reconcile sweep brings in.
CREATE FUNCTION mana_ai.feed_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
  SELECT mana_ai.bucket_of(user_id), id, user_id, table_name, record_id
    FROM added WHERE app_id = 'ai' AND table_name IN ('aiMissions', 'agents');
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: change feed not written (%); the reconcile sweep will bring the rows in', SQLSTATE;
  RETURN NULL;
END $$;

-- Finds the feed rows of one record; a hash, so that no length of an id can make an insert fail.
CREATE INDEX change_feed_record ON mana_ai.change_feed USING hash (record_id);

-- Takes the next changes of buckets [p_lo, p_hi), in fold order. Bounded by rows and by (estimated uncompressed) bytes, at
-- least one. A member's row of a shared space whose owner lives in another shard's bucket is handed on to that bucket.
CREATE FUNCTION mana_ai.take_changes(p_lo int, p_hi int, p_floor bigint, p_limit int, p_bytes bigint)
RETURNS TABLE (seq bigint, owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb,
               field_meta jsonb, created_at timestamptz, space_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH head AS MATERIALIZED (
    SELECT f.seq, f.change_id FROM mana_ai.change_feed AS f
     WHERE f.seq > p_floor AND f.bucket >= p_lo AND f.bucket < p_hi ORDER BY f.seq LIMIT p_limit),
  read AS MATERIALIZED (
    SELECT h.seq, c.* FROM head AS h LEFT JOIN mana_ai.router_log AS c ON c.id = h.change_id),
  sized AS (  -- pglz and lz4 reach about 1:100 and 1:250; measuring exactly would decompress what is not taken
    SELECT r.*, sum(coalesce(pg_column_size(r.data), 0)::bigint * CASE WHEN pg_column_compression(r.data) IS NULL THEN 1 ELSE 100 END)
                  OVER (ORDER BY r.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM read AS r),
  owned AS (
    SELECT s.*, CASE WHEN s.op = 'insert' OR NOT mana_ai.is_shared(s.space_id) THEN s.user_id
                     ELSE mana_ai.owner_of(s.user_id, s.table_name, s.record_id, s.space_id) END AS owner_id
      FROM sized AS s WHERE coalesce(s.before, 0) < p_bytes),
  placed AS MATERIALIZED (
    -- Only a shared row is ever handed on, and its owner may have changed since: the others need no hashing.
    SELECT o.*, o.op = 'insert' OR NOT mana_ai.is_shared(o.space_id)
                OR (mana_ai.bucket_of(o.owner_id) >= p_lo AND mana_ai.bucket_of(o.owner_id) < p_hi) AS is_here
      FROM owned AS o),
  taken AS (
    DELETE FROM mana_ai.change_feed AS f USING placed AS o WHERE f.seq = o.seq RETURNING f.seq),
  handed_on AS (
    INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
    SELECT mana_ai.bucket_of(o.owner_id), o.id, o.user_id, o.table_name, o.record_id FROM placed AS o WHERE NOT o.is_here)
  SELECT o.seq, o.owner_id, o.id, o.table_name, o.record_id, o.op, o.data, o.field_meta, o.created_at, o.space_id
    FROM placed AS o  -- not joined to taken: the shard's lock makes them equal, and a join of two CTEs is planned as a loop
   WHERE o.id IS NOT NULL AND o.is_here
   ORDER BY o.created_at, o.id;
END;

-- Reads records whole, in fold order, after dropping what the feed still holds of them: a row that commits between the two
-- statements is both read here and left in the feed, comes again as a late row, and the record is replayed once more.
CREATE FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[])
RETURNS TABLE (owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb,
               created_at timestamptz, space_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM mana_ai.change_feed AS f
   USING unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
   WHERE f.record_id = k.record_id AND f.table_name = k.table_name AND f.user_id = k.user_id;
  RETURN QUERY
    SELECT k.user_id, c.id, c.table_name, c.record_id, c.op, c.data, c.field_meta, c.created_at, c.space_id
      FROM unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
     CROSS JOIN LATERAL mana_ai.record_rows(k.user_id, k.table_name, k.record_id) AS c
     ORDER BY c.created_at, c.id;
END $$;

-- Compares the snapshots of the next p_users users after p_after (in buckets [p_lo, p_hi)) with the log, by count and
-- digest of change ids; returns the records that differ, and one row with null table for the last user looked at.
CREATE FUNCTION mana_ai.reconcile(p_after text, p_users int, p_lo int, p_hi int)
RETURNS TABLE (user_id text, table_name text, record_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE walk AS (
    SELECT least((SELECT min(l.user_id) FROM mana_ai.router_log AS l WHERE l.user_id > p_after),
                 (SELECT min(s.user_id) FROM mana_ai.mission_snapshots AS s WHERE s.user_id > p_after),
                 (SELECT min(s.user_id) FROM mana_ai.agent_snapshots AS s WHERE s.user_id > p_after)) AS user_id, 1 AS n
    UNION ALL
    SELECT least((SELECT min(l.user_id) FROM mana_ai.router_log AS l WHERE l.user_id > w.user_id),
                 (SELECT min(s.user_id) FROM mana_ai.mission_snapshots AS s WHERE s.user_id > w.user_id),
                 (SELECT min(s.user_id) FROM mana_ai.agent_snapshots AS s WHERE s.user_id > w.user_id)), w.n + 1
      FROM walk AS w WHERE w.user_id IS NOT NULL AND w.n < p_users),
  users AS (
    SELECT w.user_id FROM walk AS w WHERE w.user_id IS NOT NULL
       AND mana_ai.bucket_of(w.user_id) >= p_lo AND mana_ai.bucket_of(w.user_id) < p_hi),
  grouped AS (
    SELECT l.user_id, l.table_name, l.record_id, count(*) AS n, bit_xor(mana_ai.change_digest(l.id)) AS digest,
           bool_or(mana_ai.is_shared(l.space_id)) AS shared
      FROM users AS u JOIN mana_ai.router_log AS l ON l.user_id = u.user_id AND l.app_id = 'ai'
       AND l.table_name IN ('aiMissions', 'agents')
     GROUP BY l.user_id, l.table_name, l.record_id),
  logged AS (  -- rows of shared spaces may belong to somebody else's record: those keys are counted by their rule
    SELECT g.user_id, g.table_name, g.record_id, g.n, g.digest FROM grouped AS g WHERE NOT g.shared
    UNION ALL
    SELECT g.user_id, g.table_name, g.record_id, r.n, r.digest FROM grouped AS g
     CROSS JOIN LATERAL (SELECT count(*) AS n, bit_xor(mana_ai.change_digest(c.id)) AS digest
                           FROM mana_ai.record_rows(g.user_id, g.table_name, g.record_id) AS c) AS r
     WHERE g.shared AND r.n > 0),
  folded AS (
    SELECT s.user_id, 'aiMissions' AS table_name, s.mission_id AS record_id, s.folded_count, s.folded_digest
      FROM users AS u JOIN mana_ai.mission_snapshots AS s USING (user_id)
    UNION ALL
    SELECT s.user_id, 'agents', s.agent_id, s.folded_count, s.folded_digest
      FROM users AS u JOIN mana_ai.agent_snapshots AS s USING (user_id))
  SELECT coalesce(l.user_id, f.user_id), coalesce(l.table_name, f.table_name), coalesce(l.record_id, f.record_id)
    FROM logged AS l FULL JOIN folded AS f USING (user_id, table_name, record_id)
   WHERE (l.n, l.digest) IS DISTINCT FROM (f.folded_count, f.folded_digest)
  UNION ALL
  SELECT max(w.user_id), NULL, NULL FROM walk AS w;
END;

ALTER FUNCTION mana_ai.is_shared(text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.owner_of(text, text, text, text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.record_rows(text, text, text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.feed_changes() OWNER TO mana_router;
ALTER FUNCTION mana_ai.take_changes(int, int, bigint, int, bigint) OWNER TO mana_router;
ALTER FUNCTION mana_ai.replay_records(text[], text[], text[]) OWNER TO mana_router;
ALTER FUNCTION mana_ai.reconcile(text, int, int, int) OWNER TO mana_router;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_router;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.sync_changes'::regclass AND tgname = 'mana_ai_feed') THEN
    CREATE TRIGGER mana_ai_feed AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added
      FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.feed_changes();
  END IF;
END $$;

-- Slots that fell due before we came are the old runner's affair; an empty log has none.
INSERT INTO mana_ai.install (slots_from)
SELECT CASE WHEN EXISTS (SELECT FROM mana_ai.router_log) THEN clock_timestamp() END;

-- 0005_runs
-- What an agent may do, as functions: each takes user and agent from the capability, never from an argument.
-- Lock order everywhere: ledger, then run. Errors: MA001 capability_invalid, MA002 superseded.
SET LOCAL ROLE mana_owner;

-- Locks the agent's ledger row, in a statement of its own so that what follows reads what the previous holder wrote.
CREATE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

-- A hold past its call's deadline is charged whole, once: deleting it is what charges.
CREATE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH expired AS (
    DELETE FROM mana_ai.token_holds WHERE user_id = p_user AND agent_id = p_agent AND deadline < clock_timestamp() RETURNING *)
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, run_id, call_id, round, basis, ts)
  SELECT user_id, agent_id, mission_id, tokens, run_id, call_id, round, 'expired-hold', opened_at FROM expired
  ON CONFLICT DO NOTHING;
END;

-- Looks again at the oldest mission of the agent that waits for the place which p_mission leaves: not at one that has
-- a place or sits out a back-off, though it may have been told to wait for a place before.
CREATE FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.mission_snapshots AS s
          WHERE s.user_id = p_user AND s.agent_id = p_agent AND s.mission_id <> p_mission
            AND s.decision = 'skipped-concurrency' AND s.wake_at > clock_timestamp()
            AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = s.mission_id
                               AND (r.state = 'open' OR r.state = 'waiting' AND r.not_before > clock_timestamp()))
          ORDER BY s.next_run_at NULLS FIRST, s.mission_id LIMIT 1);
END;

-- Keeps the newest decision with the mission, and the history of those that changed something.
CREATE FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamptz, p_decision text, p_reason text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)
  VALUES (p_user, p_mission, p_agent, p_due, p_decision, p_reason);
  UPDATE mana_ai.mission_snapshots SET decision = p_decision, reason = p_reason, decided_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = p_mission;
END;

-- The caller's run, locked, if this attempt is still the one; raises MA002 otherwise.
CREATE FUNCTION mana_ai.own_run(p_run uuid, p_attempt int) RETURNS mana_ai.runs LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  run mana_ai.runs;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs
   WHERE run_id = p_run AND user_id = held ->> 'u' AND agent_id = held ->> 'a' FOR UPDATE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  RETURN run;
END $$;

CREATE FUNCTION mana_ai.claim(p_mission text, p_due timestamptz, p_lease_ms int, p_holder text, p_pinned jsonb,
  OUT outcome text, OUT run_id uuid, OUT attempt int, OUT due_at timestamptz, OUT look_at timestamptz, OUT pinned jsonb,
  OUT failures int, OUT lost int, OUT requested boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  u text := held ->> 'u';
  a text := held ->> 'a';
  mission mana_ai.mission_snapshots;
  live mana_ai.runs;
  slot mana_ai.runs;
  is_request boolean;
BEGIN
  PERFORM mana_ai.lock_ledger(u, a);
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission;
  IF mission.mission_id IS NULL OR mission.agent_id <> a OR mission.hidden OR NOT mission.complete OR mission.state <> 'active' THEN
    outcome := 'unwanted'; RETURN;
  END IF;
  SELECT * INTO live FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.state IN ('open', 'waiting') FOR UPDATE;
  due_at := p_due;
  IF live.run_id IS NOT NULL THEN
    IF live.state = 'open' AND live.lease_until > clock_timestamp() THEN
      outcome := 'held'; look_at := live.lease_until; RETURN;
    END IF;
    IF live.due_at = mission.next_run_at OR EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u
         AND q.mission_id = p_mission AND q.due_at = live.due_at AND q.closed_at IS NULL) THEN
      due_at := live.due_at;  -- one live run per mission: finish that occurrence first
      IF live.state = 'waiting' AND live.not_before > clock_timestamp() THEN
        outcome := 'waiting'; look_at := live.not_before; RETURN;
      END IF;
    ELSE
      UPDATE mana_ai.runs AS r SET state = 'withdrawn', reason = 'the owner moved the next run', closed_at = clock_timestamp()
       WHERE r.run_id = live.run_id;
      DELETE FROM mana_ai.journal AS j WHERE j.run_id = live.run_id;
      live := NULL;
    END IF;
  END IF;
  is_request := EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = p_mission
                           AND q.due_at = claim.due_at AND q.closed_at IS NULL);
  IF NOT is_request AND claim.due_at IS DISTINCT FROM mission.next_run_at THEN
    outcome := 'stale'; RETURN;
  END IF;
  IF claim.due_at > clock_timestamp() THEN
    outcome := 'early'; look_at := claim.due_at; RETURN;
  END IF;
  SELECT * INTO slot FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.due_at = claim.due_at FOR UPDATE;
  IF slot.state IN ('committed', 'failed') THEN
    outcome := 'served'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
         AND r.lease_until > clock_timestamp() AND r.mission_id <> p_mission)
     >= coalesce((SELECT max_concurrent FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a), 1) THEN
    outcome := 'concurrency'; RETURN;
  END IF;
  INSERT INTO mana_ai.runs AS r (user_id, agent_id, mission_id, due_at, state, requested, holder, lease_until, pinned)
  VALUES (u, a, p_mission, claim.due_at, 'open', is_request, p_holder,
          clock_timestamp() + least(p_lease_ms, 3600000) * interval '1 ms', p_pinned)
  ON CONFLICT ON CONSTRAINT runs_one_per_occurrence DO UPDATE
     SET state = 'open', agent_id = a, attempt = r.attempt + 1, lost = r.lost + (r.state = 'open')::int, holder = excluded.holder, lease_until = excluded.lease_until,
         pinned = coalesce(r.pinned, excluded.pinned), claimed_at = clock_timestamp(), closed_at = NULL, not_before = NULL,
         waiting_for = NULL, reason = NULL
  RETURNING r.run_id, r.attempt, r.lease_until, r.pinned, r.failures, r.lost, r.requested
       INTO claim.run_id, claim.attempt, claim.look_at, claim.pinned, claim.failures, claim.lost, claim.requested;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = claim.look_at WHERE s.user_id = u AND s.mission_id = p_mission;
  outcome := 'claimed';
END $$;

-- Extends the leases that are still the caller's and returns those, with a capability that outlives them.
CREATE FUNCTION mana_ai.renew(p_runs uuid[], p_attempts int[], p_lease_ms int, OUT renewed uuid[], OUT capability text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  lease_ms int := least(p_lease_ms, 3600000);  -- whoever holds a capability cannot make it last for days
  until timestamptz := clock_timestamp() + lease_ms * interval '1 ms';
BEGIN
  WITH mine AS (
    UPDATE mana_ai.runs AS r SET lease_until = until FROM unnest(p_runs, p_attempts) AS k (run_id, attempt)
     WHERE r.run_id = k.run_id AND r.attempt = k.attempt AND r.state = 'open' AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a'
    RETURNING r.run_id, r.mission_id),
  looked AS (
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until FROM mine WHERE s.user_id = held ->> 'u' AND s.mission_id = mine.mission_id)
  SELECT array_agg(mine.run_id) INTO renewed FROM mine;
  IF renewed IS NOT NULL THEN
    capability := mana_ai.sign_payload((held - 'kid') || jsonb_build_object('exp',
      floor(extract(epoch FROM clock_timestamp()))::bigint + greatest(900, 2 * lease_ms / 1000)));
  END IF;
END $$;

-- A place in the budget for one model call, or the journalled answer to the very same request (P5).
CREATE FUNCTION mana_ai.begin_call(p_run uuid, p_attempt int, p_round int, p_hash text, p_hold bigint, p_deadline_ms int,
  OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT j.answer INTO begin_call.answer FROM mana_ai.journal AS j
   WHERE j.run_id = p_run AND j.round = p_round AND j.request_hash = p_hash;
  IF begin_call.answer IS NOT NULL THEN
    outcome := 'journaled'; RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT h.call_id INTO begin_call.call_id FROM mana_ai.token_holds AS h
   WHERE h.run_id = p_run AND h.attempt = p_attempt AND h.round = p_round;
  IF begin_call.call_id IS NOT NULL THEN
    outcome := 'go'; RETURN;  -- asked again because the answer to the first asking was lost
  END IF;
  SELECT coalesce(sum(t.tokens_used), 0) INTO used FROM mana_ai.token_usage AS t
   WHERE t.user_id = run.user_id AND t.agent_id = run.agent_id AND t.ts > clock_timestamp() - interval '24 hours';
  SELECT coalesce(sum(h.tokens), 0) INTO begin_call.held FROM mana_ai.token_holds AS h
   WHERE h.user_id = run.user_id AND h.agent_id = run.agent_id;
  SELECT s.max_tokens_per_day INTO cap FROM mana_ai.agent_snapshots AS s
   WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id;
  IF cap IS NOT NULL AND used + begin_call.held + p_hold > cap THEN
    outcome := 'no-room'; RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

-- The answer and what it cost, durable together. A superseded attempt is charged all the same, but journals nothing.
-- p_tokens null: the provider reported no usage, the hold is charged.
CREATE FUNCTION mana_ai.end_call(p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint,
  OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cap jsonb := mana_ai.require_capability();
  hold mana_ai.token_holds;
BEGIN
  PERFORM mana_ai.lock_ledger(cap ->> 'u', cap ->> 'a');
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = cap ->> 'u' AND h.agent_id = cap ->> 'a' RETURNING * INTO hold;
  journaled := false;
  IF hold.call_id IS NULL THEN
    charged := 0;  -- its deadline passed: charged whole already
    RETURN;
  END IF;
  charged := CASE WHEN p_tokens >= 0 THEN p_tokens ELSE hold.tokens END;  -- nobody earns tokens back
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, run_id, call_id, round, basis)
  VALUES (hold.user_id, hold.agent_id, hold.mission_id, charged, hold.run_id, hold.call_id, hold.round,
          CASE WHEN p_tokens >= 0 THEN 'reported' ELSE 'hold' END);
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged WHERE r.run_id = hold.run_id;
  IF p_answer IS NOT NULL AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = hold.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (hold.run_id, hold.round, hold.user_id, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

-- Everything a commit decides on, read in one statement so that a fold in between cannot split it. Rows not folded yet
-- carry their JSON as text: one that cannot be read is skipped alone.
CREATE FUNCTION mana_ai.mission_now(p_run uuid, p_attempt int,
  OUT snapshot jsonb, OUT changes jsonb, OUT agent jsonb, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT (SELECT to_jsonb(s) FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id),
         (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                              'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
            FROM mana_ai.change_feed AS f JOIN mana_ai.log_rows AS c ON c.id = f.change_id
           WHERE f.record_id = run.mission_id AND f.table_name = 'aiMissions' AND f.user_id = run.user_id),
         (SELECT to_jsonb(s) FROM mana_ai.agent_snapshots AS s WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = run.user_id)
    INTO snapshot, changes, agent, time_zone;
END $$;

-- One row into the log, as data-model §5 wants it; its space is the column of the mission's insert.
CREATE FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)
  SELECT 'ai', 'aiMissions', p_mission, p_user, 'update', p_data,
         (SELECT jsonb_object_agg(key, p_stamp) FROM jsonb_object_keys(p_data) AS key),
         'mana-ai-runner', 1, p_actor, p_origin,
         coalesce((SELECT c.space_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = 'ai' AND c.table_name = 'aiMissions'
                      AND c.record_id = p_mission AND c.op = 'insert' ORDER BY c.created_at, c.id LIMIT 1),
                  (SELECT s.space_id FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission));
END;

-- Closes a live run for good: no journal, no request, no place taken.
CREATE FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE mana_ai.runs SET state = p_state, reason = p_reason, closed_at = clock_timestamp(), lease_until = NULL WHERE run_id = p_run.run_id;
  DELETE FROM mana_ai.journal WHERE run_id = p_run.run_id;
  UPDATE mana_ai.run_requests SET closed_at = clock_timestamp()
   WHERE user_id = p_run.user_id AND mission_id = p_run.mission_id AND due_at = p_run.due_at;
  PERFORM mana_ai.wake_next(p_run.user_id, p_run.agent_id, p_run.mission_id);
END $$;

-- When to look at a mission again once a run is over: at a waiting request, else at its next run.
CREATE FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamptz) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = least(p_next, (
         SELECT min(q.due_at) FROM mana_ai.run_requests AS q
          WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.closed_at IS NULL))
   WHERE s.user_id = p_user AND s.mission_id = p_mission;
END;

-- Plan, next run time and run state change together or not at all (P2).
CREATE FUNCTION mana_ai.commit_run(p_run uuid, p_attempt int, p_state text, p_data jsonb, p_stamp text, p_actor jsonb,
  p_next timestamptz, p_iteration text, p_steps int, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  IF p_state NOT IN ('committed', 'failed') OR NOT p_data ? 'iterations' OR p_data - 'iterations' - 'nextRunAt' <> '{}'
     OR p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM run.agent_id THEN
    RAISE EXCEPTION 'commit_run: not a plan of this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.write_mission(run.user_id, run.mission_id, p_data, p_stamp, p_actor, 'agent');
  UPDATE mana_ai.runs SET iteration_id = p_iteration, steps = p_steps WHERE run_id = p_run;
  PERFORM mana_ai.close_run(run, p_state, p_reason);
  DELETE FROM mana_ai.mission_research_jobs WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_next);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at,
                                CASE p_state WHEN 'committed' THEN 'ran' ELSE 'failed' END, p_reason);
END $$;

-- The owner no longer wants this occurrence, or somebody else served it.
CREATE FUNCTION mana_ai.withdraw_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
END $$;

-- Gives the place back and comes again later: back-off, research, or budget.
CREATE FUNCTION mana_ai.wait_run(p_run uuid, p_attempt int, p_not_before timestamptz, p_for text, p_reason text, p_failed boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  UPDATE mana_ai.runs SET state = 'waiting', not_before = p_not_before, waiting_for = p_for, reason = p_reason, lease_until = NULL,
         failures = failures + p_failed::int WHERE run_id = p_run;
  UPDATE mana_ai.mission_snapshots SET wake_at = p_not_before WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
END $$;

-- Puts back server iterations that a client's write dropped; at most once per iteration, a second removal is the owner's will.
-- p_version is the snapshot the array was made from: a change since then stands, and the mission is looked at again.
CREATE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  IF EXISTS (SELECT FROM mana_ai.change_feed WHERE user_id = held ->> 'u' AND table_name = 'aiMissions' AND record_id = p_mission)
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s
                     WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

-- For the supervisor: a run that only waits is over as soon as its owner no longer wants it.
CREATE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  IF run.run_id IS NOT NULL THEN
    PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
    PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  END IF;
END $$;

-- For the supervisor: a due slot that is already served, or fell due before we were installed, moves on without a plan.
CREATE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamptz, p_next text, p_stamp text, p_actor jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due)
     OR NOT (EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND r.state IN ('committed', 'failed'))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- For the gateway: "run now" under the caller's idempotency key; the same key gives the same occurrence.
CREATE FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamptz, OUT created boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden) THEN
    RETURN;
  END IF;
  INSERT INTO mana_ai.run_requests AS q (user_id, request_key, mission_id) VALUES (p_user, p_key, p_mission)
  ON CONFLICT DO NOTHING RETURNING q.due_at INTO request_run.due_at;
  created := FOUND;
  IF NOT created THEN
    SELECT q.due_at INTO request_run.due_at FROM mana_ai.run_requests AS q
     WHERE q.user_id = p_user AND q.request_key = p_key AND q.mission_id = p_mission;
    RETURN;
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, request_run.due_at) WHERE user_id = p_user AND mission_id = p_mission;
END $$;

RESET ROLE;

-- 0006_access
-- Who may do what. Row security is enabled and forced on every table that holds a user's rows.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'decrypt_audit', 'mission_research_jobs', 'token_usage',
      'change_feed', 'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds', 'journal'] LOOP
    EXECUTE format('ALTER TABLE mana_ai.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE mana_ai.%I FORCE ROW LEVEL SECURITY', name);
    -- Functions owned by mana_owner see the rows of the user they act for, nobody else's.
    EXECUTE format('CREATE POLICY owner_acts_for_user ON mana_ai.%I TO mana_owner
                    USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()))', name);
    EXECUTE format('CREATE POLICY gateway_reads_as_user ON mana_ai.%I TO mana_gateway
                    USING (user_id = current_setting(''app.current_user_id'', true))', name);
    EXECUTE format('CREATE POLICY agent_reads ON mana_ai.%I FOR SELECT TO mana_agent USING (true)', name);
    EXECUTE format('CREATE POLICY agent_within_capability ON mana_ai.%I AS RESTRICTIVE TO mana_agent
                    USING (user_id = (SELECT mana_ai.capability_user()))', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'mission_research_jobs', 'token_usage', 'change_feed',
      'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds'] LOOP
    EXECUTE format('CREATE POLICY supervisor_schedules ON mana_ai.%I TO mana_supervisor USING (true) WITH CHECK (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'runs', 'token_usage', 'token_holds', 'quarantine', 'decisions'] LOOP
    EXECUTE format('CREATE POLICY fleet_reads ON mana_ai.%I FOR SELECT TO mana_fleet USING (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['token_usage', 'decisions', 'runs', 'run_requests', 'decrypt_audit', 'quarantine'] LOOP
    EXECUTE format('CREATE POLICY janitor_prunes ON mana_ai.%I TO mana_janitor USING (true)', name);
  END LOOP;
END $$;
CREATE POLICY router_moves ON mana_ai.change_feed TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY router_compares ON mana_ai.mission_snapshots FOR SELECT TO mana_router USING (true);
CREATE POLICY router_compares ON mana_ai.agent_snapshots FOR SELECT TO mana_router USING (true);

-- The log, for agents: their owner's rows of the two tables and the records their capability lists. The service's own
-- policies stay the permissive side (they ask for app.current_user_id); this one can only take away.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass AND polname = 'mana_agent_within_capability') THEN
    CREATE POLICY mana_agent_within_capability ON public.sync_changes AS RESTRICTIVE TO mana_agent
      USING ((user_id = (SELECT mana_ai.capability_user())
              OR space_id = ANY (ARRAY(SELECT jsonb_array_elements_text((SELECT mana_ai.capability()) -> 's'))))
             AND ((app_id = 'ai' AND table_name IN ('aiMissions', 'agents'))
                  OR app_id || '/' || table_name || '/' || record_id = ANY ((SELECT mana_ai.capability_scope())::text[])
                  OR app_id || '/' || table_name || '/*' = ANY ((SELECT mana_ai.capability_scope())::text[])));
  END IF;
END $$;
GRANT SELECT ON public.sync_changes TO mana_agent;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mana_ai FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA mana_ai FROM PUBLIC;

GRANT EXECUTE ON FUNCTION mana_ai.bucket_of(text), mana_ai.change_digest(uuid) TO mana_router, mana_supervisor, mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.is_shared(text), mana_ai.owner_of(text, text, text, text), mana_ai.record_rows(text, text, text)
  TO mana_owner;
GRANT SELECT, INSERT, DELETE ON mana_ai.change_feed TO mana_router;
GRANT SELECT (user_id, mission_id, folded_count, folded_digest) ON mana_ai.mission_snapshots TO mana_router;
GRANT SELECT (user_id, agent_id, folded_count, folded_digest) ON mana_ai.agent_snapshots TO mana_router;

GRANT SELECT, INSERT, UPDATE, DELETE ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.quarantine, mana_ai.shards TO mana_supervisor;
GRANT SELECT ON mana_ai.install, mana_ai.user_settings, mana_ai.run_requests, mana_ai.runs, mana_ai.change_feed, mana_ai.token_usage,
  mana_ai.token_holds, mana_ai.ledger, mana_ai.decisions, mana_ai.mission_research_jobs TO mana_supervisor;
GRANT UPDATE (lease_until, state, reason, closed_at) ON mana_ai.runs TO mana_supervisor;
GRANT UPDATE (closed_at) ON mana_ai.run_requests TO mana_supervisor;
GRANT INSERT ON mana_ai.decisions, mana_ai.token_usage TO mana_supervisor;
GRANT DELETE ON mana_ai.token_holds TO mana_supervisor;
GRANT USAGE ON SEQUENCE mana_ai.snapshot_version, mana_ai.token_usage_id_seq TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.take_changes(int, int, bigint, int, bigint), mana_ai.replay_records(text[], text[], text[]),
  mana_ai.reconcile(text, int, int, int), mana_ai.sign_capability(text, text, text[], text[], text, int),
  mana_ai.move_slot(text, text, timestamptz, text, text, jsonb), mana_ai.withdraw_waiting(text, uuid, text) TO mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.mission_research_jobs, mana_ai.run_requests TO mana_agent;
GRANT SELECT ON mana_ai.install TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.capability(text), mana_ai.capability_user(), mana_ai.capability_agent(), mana_ai.capability_scope(),
  mana_ai.claim(text, timestamptz, int, text, jsonb), mana_ai.renew(uuid[], int[], int),
  mana_ai.begin_call(uuid, int, int, text, bigint, int), mana_ai.end_call(uuid, int, text, text, bigint),
  mana_ai.mission_now(uuid, int), mana_ai.commit_run(uuid, int, text, jsonb, text, jsonb, timestamptz, text, int, text),
  mana_ai.withdraw_run(uuid, int, text, timestamptz), mana_ai.wait_run(uuid, int, timestamptz, text, text, boolean),
  mana_ai.heal_mission(text, bigint, jsonb, text, jsonb, text[]) TO mana_agent;

-- Operators see ids, states, times, costs and reasons; the records themselves are the owner's.
CREATE VIEW mana_ai.fleet_missions AS
  SELECT user_id, mission_id, agent_id, state, next_run_at, wake_at, complete, hidden, readable, problems, version,
         decision, reason, decided_at FROM mana_ai.mission_snapshots;
CREATE VIEW mana_ai.fleet_agents AS
  SELECT a.user_id, a.agent_id, a.state, a.max_tokens_per_day, a.max_concurrent, a.complete, a.hidden, a.problems, a.version,
         coalesce((SELECT sum(t.tokens_used) FROM mana_ai.token_usage AS t WHERE t.user_id = a.user_id AND t.agent_id = a.agent_id
                      AND t.ts > clock_timestamp() - interval '24 hours'), 0)::bigint AS used_24h,
         coalesce((SELECT sum(h.tokens) FROM mana_ai.token_holds AS h WHERE h.user_id = a.user_id AND h.agent_id = a.agent_id), 0)::bigint AS held,
         (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = a.user_id AND r.agent_id = a.agent_id AND r.state = 'open') AS running
    FROM mana_ai.agent_snapshots AS a;
CREATE VIEW mana_ai.fleet_runs AS
  SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
         iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at FROM mana_ai.runs;
CREATE VIEW mana_ai.fleet_quarantine AS SELECT change_id, user_id, table_name, record_id, reason, seen_at FROM mana_ai.quarantine;
CREATE VIEW mana_ai.fleet_decisions AS SELECT id, user_id, mission_id, agent_id, due_at, decision, reason, at FROM mana_ai.decisions;
GRANT SELECT (user_id, mission_id, agent_id, state, next_run_at, wake_at, complete, hidden, readable, problems, version, decision, reason, decided_at)
  ON mana_ai.mission_snapshots TO mana_fleet;
GRANT SELECT (user_id, agent_id, state, max_tokens_per_day, max_concurrent, complete, hidden, problems, version) ON mana_ai.agent_snapshots TO mana_fleet;
GRANT SELECT ON mana_ai.runs, mana_ai.token_usage, mana_ai.token_holds, mana_ai.quarantine, mana_ai.decisions TO mana_fleet;
GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
ALTER VIEW mana_ai.fleet_missions OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_agents OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_runs OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_quarantine OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_decisions OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT SELECT ON mana_ai.fleet_missions, mana_ai.fleet_agents, mana_ai.fleet_runs, mana_ai.fleet_quarantine, mana_ai.fleet_decisions
  TO mana_gateway, mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.decrypt_audit, mana_ai.run_requests, mana_ai.quarantine TO mana_gateway;
GRANT SELECT ON mana_ai.shards, mana_ai.install TO mana_gateway;
GRANT INSERT, UPDATE ON mana_ai.user_settings TO mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.request_run(text, text, text) TO mana_gateway;

GRANT SELECT (ts), DELETE ON mana_ai.token_usage, mana_ai.decrypt_audit TO mana_janitor;
GRANT SELECT (at), DELETE ON mana_ai.decisions TO mana_janitor;
GRANT SELECT (closed_at), DELETE ON mana_ai.runs, mana_ai.run_requests TO mana_janitor;
GRANT SELECT (seen_at), DELETE ON mana_ai.quarantine TO mana_janitor;

-- 0007_budgets
-- Budgets: what operators allow beside the owners' own caps, in tokens and in money; what each call costs; when room
-- returns. One rule, `caps_of` and `budgets_of`, read by the check before a call, by the gate and by what people see.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.token_usage NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.token_holds NO FORCE ROW LEVEL SECURITY;
-- Money is in millionths of the alias file's currency.
ALTER TABLE mana_ai.token_usage ADD COLUMN cost_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE mana_ai.token_holds ADD COLUMN cost_micros bigint NOT NULL DEFAULT 0
  CONSTRAINT token_holds_cost CHECK (cost_micros >= 0);
ALTER TABLE mana_ai.token_usage FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.token_holds FORCE ROW LEVEL SECURITY;
CREATE INDEX token_usage_ts ON mana_ai.token_usage (ts) INCLUDE (tokens_used, cost_micros);
CREATE INDEX run_requests_closed ON mana_ai.run_requests (closed_at) WHERE closed_at IS NOT NULL;

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
ALTER TABLE mana_ai.limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.limits FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.limits TO mana_owner
  USING (user_id IN ('', (SELECT mana_ai.acting_user()))) WITH CHECK (user_id IN ('', (SELECT mana_ai.acting_user())));
CREATE POLICY fleet_reads ON mana_ai.limits FOR SELECT TO mana_gateway, mana_supervisor, mana_fleet USING (true);

-- Whose missions to look at again because a limit changed ('' = everybody's), and when: at once, and once more after a
-- minute for those that were deciding by the old limits meanwhile.
CREATE TABLE mana_ai.budget_wakes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  whose text NOT NULL,
  wake_at timestamptz NOT NULL);

-- The caps in force for an agent, its user and the installation; null is no cap.
CREATE FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text,
  OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN a.tokens IS NULL THEN coalesce(l.named, l.default_tokens) ELSE least(a.tokens, l.named) END,
         l.micros,
         CASE WHEN a.tokens <= coalesce(l.named, a.tokens) THEN 'owner' WHEN l.named IS NOT NULL THEN 'operator'
              WHEN l.default_tokens IS NOT NULL THEN 'default' ELSE 'none' END,
         l.user_tokens, l.user_micros, l.installation_tokens, l.installation_micros
    FROM (SELECT (SELECT s.max_tokens_per_day FROM mana_ai.agent_snapshots AS s WHERE s.user_id = p_user AND s.agent_id = p_agent)) AS a (tokens)
   CROSS JOIN (
         SELECT max(tokens) FILTER (WHERE kind = 'agent') AS named,
                max(tokens) FILTER (WHERE kind = 'each-agent') AS default_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'agent'), max(micros) FILTER (WHERE kind = 'each-agent')) AS micros,
                coalesce(max(tokens) FILTER (WHERE kind = 'user'), max(tokens) FILTER (WHERE kind = 'each-user')) AS user_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'user'), max(micros) FILTER (WHERE kind = 'each-user')) AS user_micros,
                max(tokens) FILTER (WHERE kind = 'installation') AS installation_tokens,
                max(micros) FILTER (WHERE kind = 'installation') AS installation_micros
           FROM mana_ai.limits WHERE user_id IN ('', p_user) AND agent_id IN ('', p_agent)) AS l;
END;

-- Sums over all users; usage and holds in one statement, so that a call being settled is in one of them and in one only.
CREATE FUNCTION mana_ai.installation_spent(p_since timestamptz, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT u.tokens, h.tokens, u.micros, h.micros
    FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS u (tokens, micros),
         (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o) AS h (tokens, micros);
END;

-- When `p_need` of what all users spent (p_unit: tokens or money) will have left the window.
CREATE FUNCTION mana_ai.installation_room_at(p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT min(f.ts) + interval '24 hours'
    FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS f
   WHERE f.freed >= p_need;
END;

-- The same for one user, or one agent of the user.
CREATE FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_scope = 'installation' THEN
    RETURN mana_ai.installation_room_at(p_since, p_unit, p_need);
  END IF;
  RETURN (SELECT min(f.ts) + interval '24 hours'
            FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
                    FROM mana_ai.token_usage AS t
                   WHERE t.user_id = p_user AND (p_scope = 'user' OR t.agent_id = p_agent) AND t.ts > p_since) AS f
           WHERE f.freed >= p_need);
END $$;

-- What was spent in 24 hours, what is held, and the caps, for the scopes asked: 'agent' (always there), 'user' and
-- 'installation' where they are capped. Every sum comes from the caller's one snapshot.
CREATE FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, source text, cap bigint, used bigint, held bigint, micros_cap bigint, micros_used bigint, micros_held bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  since timestamptz := clock_timestamp() - interval '24 hours';
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  IF 'agent' = ANY (p_scopes) THEN
    RETURN QUERY SELECT 'agent', caps.agent_source, caps.agent_tokens, u.tokens, h.tokens, caps.agent_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.agent_id = p_agent AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user AND o.agent_id = p_agent) AS h (tokens, micros);
  END IF;
  IF 'user' = ANY (p_scopes) AND (caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'user', 'operator', caps.user_tokens, u.tokens, h.tokens, caps.user_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user) AS h (tokens, micros);
  END IF;
  IF 'installation' = ANY (p_scopes) AND (caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'installation', 'operator', caps.installation_tokens, i.used, i.held,
                        caps.installation_micros, i.micros_used, i.micros_held
      FROM mana_ai.installation_spent(since) AS i;
  END IF;
END $$;

-- The scope and unit that a hold does not fit, no row where it fits all. `until` says what can change that: 'change' of
-- a cap below this one hold, the 'window' (at back_at), or 'holds' that only have to be settled.
CREATE FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint)
RETURNS TABLE (scope text, unit text, cap bigint, used bigint, held bigint, until text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit, x.cap, x.used, x.held, w.until, r.back_at
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used, b.held, p_hold),
                                ('money', b.micros_cap, b.micros_used, b.micros_held, p_micros)) AS x (unit, cap, used, held, asked)
     CROSS JOIN LATERAL (SELECT CASE WHEN x.asked > x.cap THEN 'change' WHEN x.used + x.asked > x.cap THEN 'window' ELSE 'holds' END) AS w (until)
     CROSS JOIN LATERAL (SELECT CASE w.until WHEN 'window' THEN
         mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used + x.asked - x.cap) END) AS r (back_at)
     WHERE x.used + x.held + x.asked > x.cap
     ORDER BY array_position(ARRAY['change', 'window', 'holds'], w.until), r.back_at DESC NULLS LAST LIMIT 1;
END $$;

-- The first scope with nothing left at all; no row where each has something.
CREATE FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, unit text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit,
           mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used - x.cap + 1)
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used), ('money', b.micros_cap, b.micros_used)) AS x (unit, cap, used)
     WHERE x.used >= x.cap AND (x.unit = 'tokens' OR x.used > 0)
     ORDER BY array_position(ARRAY['agent', 'user', 'installation'], b.scope), x.unit DESC LIMIT 1;
END $$;

-- What the gate asks about a due mission; sums nothing where nothing is capped.
CREATE FUNCTION mana_ai.standing_of(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamptz,
  OUT full_scope text, OUT full_unit text, OUT full_back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  used := 0;
  IF caps.agent_tokens IS NOT NULL THEN
    SELECT b.cap, b.used INTO standing_of.cap, standing_of.used FROM mana_ai.budgets_of(p_user, p_agent, ARRAY['agent']) AS b;
    back_at := mana_ai.room_at('agent', p_user, p_agent, clock_timestamp() - interval '24 hours', 'tokens',
                               greatest(1, standing_of.used - standing_of.cap + 1));
  END IF;
  IF caps.agent_micros IS NOT NULL OR caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    SELECT f.scope, f.unit, f.back_at INTO full_scope, full_unit, full_back_at
      FROM mana_ai.used_up(p_user, p_agent, ARRAY['agent', 'user']) AS f;
  END IF;
END $$;

-- For an agent: its own budget, without what other agents and users spent.
CREATE FUNCTION mana_ai.own_budget(OUT cap bigint, OUT used bigint, OUT held bigint, OUT back_at timestamptz, OUT running int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability();
  u text := token ->> 'u';
  a text := token ->> 'a';
BEGIN
  SELECT b.cap, b.used, b.held INTO own_budget.cap, own_budget.used, own_budget.held
    FROM mana_ai.budgets_of(u, a, ARRAY['agent']) AS b;
  back_at := mana_ai.room_at('agent', u, a, clock_timestamp() - interval '24 hours', 'tokens',
                             greatest(1, own_budget.used - own_budget.cap + 1));
  running := (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
                 AND r.lease_until > clock_timestamp());
END $$;

-- One lock for whoever spends under the installation's limit, in a statement of its own like lock_ledger; no login may
-- take it by itself.
CREATE FUNCTION mana_ai.lock_installation() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM mana_ai.install FOR UPDATE;
END $$;

-- A place in every budget for one model call, or the journalled answer to the very same request (P5). Lock order:
-- installation, user (the ledger row without an agent), agent, run; the first two only where such a limit is set, and a
-- limit that is made in this very moment counts from the next call.
DROP FUNCTION mana_ai.begin_call(uuid, int, int, text, bigint, int);
CREATE FUNCTION mana_ai.begin_call(p_run uuid, p_attempt int, p_round int, p_hash text, p_hold bigint, p_deadline_ms int,
  p_micros bigint DEFAULT 0,
  OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint,
  OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability();
  scopes text[] := ARRAY['agent'];
  caps record;
  run mana_ai.runs;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(token ->> 'u', token ->> 'a');
  IF caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_installation();
    scopes := scopes || 'installation'::text;
  END IF;
  IF caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_ledger(token ->> 'u', '');
    scopes := scopes || 'user'::text;
  END IF;
  run := mana_ai.own_run(p_run, p_attempt);
  SELECT j.answer INTO begin_call.answer FROM mana_ai.journal AS j
   WHERE j.run_id = p_run AND j.round = p_round AND j.request_hash = p_hash;
  IF begin_call.answer IS NOT NULL THEN
    outcome := 'journaled'; RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT h.call_id INTO begin_call.call_id FROM mana_ai.token_holds AS h
   WHERE h.run_id = p_run AND h.attempt = p_attempt AND h.round = p_round;
  IF begin_call.call_id IS NOT NULL THEN
    outcome := 'go'; RETURN;  -- asked again because the answer to the first asking was lost
  END IF;
  SELECT r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO begin_call.scope, begin_call.unit, begin_call.cap, begin_call.used, begin_call.held, begin_call.until
    FROM mana_ai.refusal(run.user_id, run.agent_id, scopes, p_hold, p_micros) AS r;
  IF begin_call.scope IS NOT NULL THEN
    outcome := 'no-room';
    IF begin_call.scope = 'installation' THEN  -- what all users spent is no agent's business
      begin_call.cap := NULL; begin_call.used := NULL; begin_call.held := NULL;
    END IF;
    RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, cost_micros, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, p_micros,
          clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

-- A hold past its call's deadline is charged whole, once: deleting it is what charges.
CREATE OR REPLACE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH expired AS (
    DELETE FROM mana_ai.token_holds WHERE user_id = p_user AND agent_id = p_agent AND deadline < clock_timestamp() RETURNING *)
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis, ts)
  SELECT user_id, agent_id, mission_id, tokens, cost_micros, run_id, call_id, round, 'expired-hold', opened_at FROM expired
  ON CONFLICT DO NOTHING;
END;

-- Looks again at the oldest mission of the agent that waits for nothing but holds to be settled.
CREATE FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.runs AS r
           JOIN mana_ai.mission_snapshots AS s ON s.user_id = r.user_id AND s.mission_id = r.mission_id
          WHERE r.user_id = p_user AND r.agent_id = p_agent AND r.state = 'waiting' AND r.waiting_for = 'holds'
            AND s.wake_at > clock_timestamp()
          ORDER BY r.due_at, r.mission_id LIMIT 1);
END;

-- The answer and what it cost, durable together. A superseded attempt is charged all the same, but journals nothing.
-- Null tokens: the provider reported no usage, the hold is charged; null micros: nobody knows the price of what was used.
-- basis: 'reported', 'above-hold' (more than was held: charged all the same), 'hold', 'expired-hold'.
DROP FUNCTION mana_ai.end_call(uuid, int, text, text, bigint);
CREATE FUNCTION mana_ai.end_call(p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint, p_micros bigint DEFAULT NULL,
  OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cap jsonb := mana_ai.require_capability();
  hold mana_ai.token_holds;
  is_reported boolean := coalesce(p_tokens >= 0, false);  -- nobody earns tokens back
BEGIN
  PERFORM mana_ai.lock_ledger(cap ->> 'u', cap ->> 'a');
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = cap ->> 'u' AND h.agent_id = cap ->> 'a' RETURNING * INTO hold;
  journaled := false;
  IF hold.call_id IS NULL THEN
    -- Its deadline passed, or the reply to the first asking was lost: what was charged then.
    charged := coalesce((SELECT t.tokens_used FROM mana_ai.token_usage AS t
                          WHERE t.call_id = p_call AND t.user_id = cap ->> 'u' AND t.agent_id = cap ->> 'a'), 0);
    RETURN;
  END IF;
  charged := CASE WHEN is_reported THEN p_tokens ELSE hold.tokens END;
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis)
  VALUES (hold.user_id, hold.agent_id, hold.mission_id, charged,
          CASE WHEN p_micros >= 0 THEN p_micros WHEN charged = 0 THEN 0 ELSE hold.cost_micros END,
          hold.run_id, hold.call_id, hold.round,
          CASE WHEN NOT is_reported THEN 'hold' WHEN charged > hold.tokens THEN 'above-hold' ELSE 'reported' END);
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged WHERE r.run_id = hold.run_id;
  PERFORM mana_ai.wake_for_room(hold.user_id, hold.agent_id);
  IF p_answer IS NOT NULL AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = hold.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (hold.run_id, hold.round, hold.user_id, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

-- Gives the place back until a hold of this size may fit: at the time the window says, soon after holds, or when a cap
-- changes. The mission's row is written before the caps are read again: a fold that changed them either was seen, or
-- comes after and wakes the mission itself. The run has no not_before: wake_at alone says when.
CREATE FUNCTION mana_ai.wait_for_room(p_run uuid, p_attempt int, p_hold bigint, p_micros bigint, p_reason text,
  OUT look_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  no record;
BEGIN
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = run.user_id AND mission_id = run.mission_id;
  SELECT * INTO no FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros);
  look_at := CASE WHEN no.scope IS NULL THEN clock_timestamp()  -- there is room by now
                  WHEN no.until = 'holds' THEN clock_timestamp() + interval '5 seconds'
                  WHEN no.until = 'window' THEN greatest(no.back_at, clock_timestamp() + interval '1 second') END;
  UPDATE mana_ai.runs SET state = 'waiting', not_before = NULL, lease_until = NULL, reason = p_reason,
         waiting_for = CASE no.until WHEN 'holds' THEN 'holds' ELSE 'budget' END WHERE run_id = p_run;
  UPDATE mana_ai.mission_snapshots SET wake_at = look_at WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
END $$;

-- For the gateway: sets one limit; p_sets_* says which of the two, null lifts it.
CREATE FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before mana_ai.limits;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.limits WHERE kind = p_kind AND user_id = p_user AND agent_id = p_agent RETURNING * INTO before;
  IF NOT p_sets_tokens THEN
    p_tokens := before.tokens;
  END IF;
  IF NOT p_sets_micros THEN
    p_micros := before.micros;
  END IF;
  IF p_tokens IS NOT NULL OR p_micros IS NOT NULL THEN
    INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens, micros) VALUES (p_kind, p_user, p_agent, p_tokens, p_micros)
    ON CONFLICT (kind, user_id, agent_id) DO UPDATE SET tokens = excluded.tokens, micros = excluded.micros, set_at = clock_timestamp();
  END IF;
  INSERT INTO mana_ai.budget_wakes (whose, wake_at)
  VALUES (p_user, clock_timestamp()), (p_user, clock_timestamp() + interval '1 minute');
END $$;

RESET ROLE;

REVOKE ALL ON mana_ai.limits, mana_ai.budget_wakes FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mana_ai FROM PUBLIC;
GRANT SELECT ON mana_ai.limits TO mana_gateway, mana_supervisor, mana_fleet;
GRANT SELECT, DELETE ON mana_ai.budget_wakes TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.caps_of(text, text), mana_ai.budgets_of(text, text, text[]),
  mana_ai.room_at(text, text, text, timestamptz, text, bigint), mana_ai.used_up(text, text, text[]), mana_ai.standing_of(text, text) TO mana_supervisor, mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.set_limit(text, text, text, bigint, bigint, boolean, boolean) TO mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.begin_call(uuid, int, int, text, bigint, int, bigint),
  mana_ai.end_call(uuid, int, text, text, bigint, bigint), mana_ai.own_budget(),
  mana_ai.wait_for_room(uuid, int, bigint, bigint, text) TO mana_agent;
-- Sums over all users are read as mana_fleet, for those who act on them; agents reach them only through begin_call.
GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
ALTER FUNCTION mana_ai.installation_spent(timestamptz) OWNER TO mana_fleet;
ALTER FUNCTION mana_ai.installation_room_at(timestamptz, text, bigint) OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT EXECUTE ON FUNCTION mana_ai.installation_spent(timestamptz), mana_ai.installation_room_at(timestamptz, text, bigint)
  TO mana_owner, mana_supervisor, mana_gateway;

-- 0008_control
-- Pause, resume, cancel: an operator's word takes effect within a second, whatever a run is doing.
-- A pause is a row of the owner's log, so that every device shows it and the owner can undo it. A cancel closes the run
-- itself: whatever its process still does meets MA002, and the message to the process only spares the rest of the call.
SET LOCAL ROLE mana_owner;

-- A cancelled occurrence stays withdrawn: claim refuses it and the slot moves on, while other withdrawn ones may reopen.
ALTER TABLE mana_ai.runs ADD COLUMN cancelled_at timestamptz;

-- When a browser began the iteration that still says it is running, so that no process is spent to find that out.
ALTER TABLE mana_ai.mission_snapshots ADD COLUMN browser_since timestamptz;

CREATE OR REPLACE FUNCTION mana_ai.claim(p_mission text, p_due timestamptz, p_lease_ms int, p_holder text, p_pinned jsonb,
  OUT outcome text, OUT run_id uuid, OUT attempt int, OUT due_at timestamptz, OUT look_at timestamptz, OUT pinned jsonb,
  OUT failures int, OUT lost int, OUT requested boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  u text := held ->> 'u';
  a text := held ->> 'a';
  mission mana_ai.mission_snapshots;
  live mana_ai.runs;
  slot mana_ai.runs;
  is_request boolean;
BEGIN
  PERFORM mana_ai.lock_ledger(u, a);
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission;
  IF mission.mission_id IS NULL OR mission.agent_id <> a OR mission.hidden OR NOT mission.complete OR mission.state <> 'active' THEN
    outcome := 'unwanted'; RETURN;
  END IF;
  SELECT * INTO live FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.state IN ('open', 'waiting') FOR UPDATE;
  due_at := p_due;
  IF live.run_id IS NOT NULL THEN
    IF live.state = 'open' AND live.lease_until > clock_timestamp() THEN
      outcome := 'held'; look_at := live.lease_until; RETURN;
    END IF;
    IF live.due_at = mission.next_run_at OR EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u
         AND q.mission_id = p_mission AND q.due_at = live.due_at AND q.closed_at IS NULL) THEN
      due_at := live.due_at;  -- one live run per mission: finish that occurrence first
      IF live.state = 'waiting' AND live.not_before > clock_timestamp() THEN
        outcome := 'waiting'; look_at := live.not_before; RETURN;
      END IF;
    ELSE
      UPDATE mana_ai.runs AS r SET state = 'withdrawn', reason = 'the owner moved the next run', closed_at = clock_timestamp()
       WHERE r.run_id = live.run_id;
      DELETE FROM mana_ai.journal AS j WHERE j.run_id = live.run_id;
      live := NULL;
    END IF;
  END IF;
  is_request := EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = p_mission
                           AND q.due_at = claim.due_at AND q.closed_at IS NULL);
  IF NOT is_request AND claim.due_at IS DISTINCT FROM mission.next_run_at THEN
    outcome := 'stale'; RETURN;
  END IF;
  IF claim.due_at > clock_timestamp() THEN
    outcome := 'early'; look_at := claim.due_at; RETURN;
  END IF;
  SELECT * INTO slot FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.due_at = claim.due_at FOR UPDATE;
  IF slot.state IN ('committed', 'failed') OR slot.cancelled_at IS NOT NULL THEN
    outcome := 'served'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
         AND r.lease_until > clock_timestamp() AND r.mission_id <> p_mission)
     >= coalesce((SELECT max_concurrent FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a), 1) THEN
    outcome := 'concurrency'; RETURN;
  END IF;
  INSERT INTO mana_ai.runs AS r (user_id, agent_id, mission_id, due_at, state, requested, holder, lease_until, pinned)
  VALUES (u, a, p_mission, claim.due_at, 'open', is_request, p_holder,
          clock_timestamp() + least(p_lease_ms, 3600000) * interval '1 ms', p_pinned)
  ON CONFLICT ON CONSTRAINT runs_one_per_occurrence DO UPDATE
     SET state = 'open', agent_id = a, attempt = r.attempt + 1, lost = r.lost + (r.state = 'open')::int, holder = excluded.holder, lease_until = excluded.lease_until,
         pinned = coalesce(r.pinned, excluded.pinned), claimed_at = clock_timestamp(), closed_at = NULL, not_before = NULL,
         waiting_for = NULL, reason = NULL
  RETURNING r.run_id, r.attempt, r.lease_until, r.pinned, r.failures, r.lost, r.requested
       INTO claim.run_id, claim.attempt, claim.look_at, claim.pinned, claim.failures, claim.lost, claim.requested;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = claim.look_at WHERE s.user_id = u AND s.mission_id = p_mission;
  outcome := 'claimed';
END $$;

CREATE OR REPLACE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamptz, p_next text, p_stamp text, p_actor jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due)
     OR NOT (EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND (r.state IN ('committed', 'failed') OR r.cancelled_at IS NOT NULL))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- The rows of one record that wait to be folded, in fold order; null where there are none. (STABLE: it reads with the
-- snapshot of the statement that asks.)
CREATE FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    FROM mana_ai.change_feed AS f JOIN mana_ai.log_rows AS c ON c.id = f.change_id
   WHERE f.record_id = p_record AND f.table_name = p_table AND f.user_id = p_user;
END;

-- Everything a commit decides on, read in one statement so that a fold in between cannot split it. Rows not folded yet
-- carry their JSON as text: one that cannot be read is skipped alone. Those of the agent count as well: a pause that is in
-- the log is a pause.
DROP FUNCTION mana_ai.mission_now(uuid, int);
CREATE FUNCTION mana_ai.mission_now(p_run uuid, p_attempt int,
  OUT snapshot jsonb, OUT changes jsonb, OUT agent jsonb, OUT agent_changes jsonb, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT (SELECT to_jsonb(s) FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id),
         mana_ai.unfolded(run.user_id, 'aiMissions', run.mission_id),
         (SELECT to_jsonb(s) FROM mana_ai.agent_snapshots AS s WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id),
         mana_ai.unfolded(run.user_id, 'agents', run.agent_id),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = run.user_id)
    INTO snapshot, changes, agent, agent_changes, time_zone;
END $$;

-- For the supervisor: a run that only waits is over as soon as its owner no longer wants it; says whether it was.
DROP FUNCTION mana_ai.withdraw_waiting(text, uuid, text);
CREATE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  IF run.run_id IS NULL THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  RETURN true;
END $$;

-- For the gateway: a run ends now, open or waiting, and its occurrence with it. Its tokens stay charged: a hold is settled
-- by the process that hears of it, or charged whole at its deadline. `outcome`: cancelled, already, over, or null.
CREATE FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text,
  OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run;
  IF run.run_id IS NULL THEN
    RETURN;
  END IF;
  PERFORM mana_ai.lock_ledger(p_user, run.agent_id);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run FOR UPDATE;
  agent_id := run.agent_id;
  mission_id := run.mission_id;
  IF run.state NOT IN ('open', 'waiting') THEN
    state := run.state;
    outcome := CASE WHEN run.cancelled_at IS NOT NULL THEN 'already' ELSE 'over' END;
    RETURN;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  UPDATE mana_ai.runs AS r SET cancelled_at = clock_timestamp() WHERE r.run_id = p_run;
  -- Its slot is due still: the supervisor looks at once, and moves it on.
  PERFORM mana_ai.look_again(p_user, run.mission_id, (SELECT s.next_run_at FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.state = 'active' AND NOT s.hidden));
  PERFORM mana_ai.note_decision(p_user, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  state := 'withdrawn';
  outcome := 'cancelled';
END $$;

-- For the gateway: what a pause decides on, without a word of the record: state, deletion and their stamps, also of rows
-- not folded yet. No lock is taken that an agent could hold: whoever runs away must still be stoppable.
CREATE FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  record jsonb;
  present boolean;
  complete boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF p_table = 'agents' THEN
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.agent_snapshots AS s
     WHERE s.user_id = p_user AND s.agent_id = p_record;
  ELSE
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.mission_snapshots AS s
     WHERE s.user_id = p_user AND s.mission_id = p_record;
  END IF;
  IF record IS NOT NULL THEN
    snapshot := jsonb_build_object('present', present, 'complete', complete, 'record',
      mana_ai.only_state(record) || jsonb_build_object('__fieldMeta', mana_ai.only_state(record -> '__fieldMeta')));
  END IF;
  SELECT jsonb_agg(c || jsonb_build_object('data', mana_ai.only_state((c ->> 'data')::jsonb)::text,
                                           'field_meta', mana_ai.only_state((c ->> 'field_meta')::jsonb)::text))
    INTO changes FROM jsonb_array_elements(mana_ai.unfolded(p_user, p_table, p_record)) AS c;
END $$;

CREATE FUNCTION mana_ai.only_state(p_fields jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN jsonb_typeof(p_fields) = 'object' THEN
  coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(p_fields) WHERE key IN ('state', 'deletedAt')), '{}') END;

-- For the gateway: one row into the owner's log that sets a record's state, in its space, as data-model §5 wants it.
CREATE FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_table NOT IN ('agents', 'aiMissions') OR p_state NOT IN ('active', 'paused') OR p_actor ->> 'kind' IS DISTINCT FROM 'system' THEN
    RAISE EXCEPTION 'write_state: not a pause or its end' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)
  SELECT 'ai', p_table, p_record, p_user, 'update', jsonb_build_object('state', p_state), jsonb_build_object('state', p_stamp),
         'mana-ai-runner', 1, p_actor, 'system',
         coalesce((SELECT c.space_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = 'ai' AND c.table_name = p_table
                      AND c.record_id = p_record AND c.op = 'insert' ORDER BY c.created_at, c.id LIMIT 1),
                  (SELECT s.space_id FROM mana_ai.mission_snapshots AS s
                    WHERE p_table = 'aiMissions' AND s.user_id = p_user AND s.mission_id = p_record),
                  (SELECT s.space_id FROM mana_ai.agent_snapshots AS s
                    WHERE p_table = 'agents' AND s.user_id = p_user AND s.agent_id = p_record));
END $$;

REVOKE ALL ON FUNCTION mana_ai.unfolded(text, text, text), mana_ai.mission_now(uuid, int), mana_ai.withdraw_waiting(text, uuid, text),
  mana_ai.cancel_run(text, uuid, text), mana_ai.state_now(text, text, text), mana_ai.only_state(jsonb),
  mana_ai.write_state(text, text, text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.mission_now(uuid, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.withdraw_waiting(text, uuid, text) TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.cancel_run(text, uuid, text), mana_ai.state_now(text, text, text),
  mana_ai.write_state(text, text, text, text, text, jsonb) TO mana_gateway;

RESET ROLE;

-- 0009_receipts
-- What became of a run's thinking: why it stopped, which calls were not taken, and who answered its model calls.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.runs
  ADD COLUMN stop_reason text,
  ADD COLUMN duplicate_calls int NOT NULL DEFAULT 0,
  ADD COLUMN dropped_calls int NOT NULL DEFAULT 0,
  ADD COLUMN refused_calls int NOT NULL DEFAULT 0,
  ADD COLUMN answers jsonb NOT NULL DEFAULT '{}';

-- A model's name as a provider may write it, else "unknown": operators see it, so it carries no sentence.
CREATE FUNCTION mana_ai.model_word(p_text text) RETURNS text IMMUTABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN p_text ~ '^[A-Za-z0-9._:/@+-]{1,120}$' THEN p_text ELSE 'unknown' END;
END;

-- Keeps what a run knows of its model calls, in the transaction that ends it or lets it wait. Keys name a call: an answer
-- that a later attempt took from the journal is the same call, and what was noted first stands.
CREATE FUNCTION mana_ai.note_plan(p_run uuid, p_attempt int, p_answers jsonb, p_stop text, p_duplicates int, p_dropped int, p_refused int)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  UPDATE mana_ai.runs SET stop_reason = mana_ai.model_word(p_stop), duplicate_calls = p_duplicates, dropped_calls = p_dropped,
         refused_calls = p_refused, answers = coalesce((
           SELECT jsonb_object_agg(a.key, jsonb_build_object(
                    'provider', mana_ai.model_word(a.value ->> 'provider'), 'model', mana_ai.model_word(a.value ->> 'model'),
                    'exposure', CASE WHEN a.value ->> 'exposure' IN ('local', 'eu', 'any') THEN a.value ->> 'exposure' ELSE '' END,
                    'tokens', (a.value ->> 'tokens')::bigint, 'cost_micros', (a.value ->> 'cost_micros')::bigint))
             FROM jsonb_each(p_answers) AS a WHERE a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'), '{}') || run.answers
   WHERE run_id = p_run;
END $$;

-- The receipt of a run: one entry per provider, model and exposure; costs are null where one of its calls has no known price.
CREATE FUNCTION mana_ai.receipt(p_answers jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(jsonb_agg(jsonb_build_object('provider', g.provider, 'model', g.model, 'exposure', g.exposure,
                                               'calls', g.calls, 'tokens', g.tokens, 'cost_micros', g.cost_micros)
                            ORDER BY g.provider, g.model, g.exposure), '[]')
    FROM (SELECT a.value ->> 'provider' AS provider, a.value ->> 'model' AS model, a.value ->> 'exposure' AS exposure,
                 count(*) AS calls, sum((a.value ->> 'tokens')::bigint) AS tokens,
                 CASE WHEN count(a.value ->> 'cost_micros') = count(*) THEN sum((a.value ->> 'cost_micros')::bigint) END AS cost_micros
            FROM jsonb_each(p_answers) AS a GROUP BY 1, 2, 3) AS g;
END;

REVOKE ALL ON FUNCTION mana_ai.model_word(text), mana_ai.receipt(jsonb), mana_ai.note_plan(uuid, int, jsonb, text, int, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.note_plan(uuid, int, jsonb, text, int, int, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.receipt(jsonb) TO mana_fleet, mana_gateway, mana_supervisor;

GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
SET LOCAL ROLE mana_fleet;
CREATE OR REPLACE VIEW mana_ai.fleet_runs AS
  SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
         iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at,
         stop_reason, duplicate_calls, dropped_calls, refused_calls, mana_ai.receipt(answers) AS receipt
    FROM mana_ai.runs;
SET LOCAL ROLE mana_owner;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;

RESET ROLE;

-- 0010_keys
-- The key holder: what it may ask about a run, and the audit that is durable before a key leaves (P7). Attempt and
-- outcome are rows of two tables, each insert-only for every login; the reading side joins them by release_id.
SET LOCAL ROLE mana_owner;

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

-- Rows of the original have neither run nor release.
ALTER TABLE mana_ai.decrypt_audit
  ADD COLUMN run_id uuid,
  ADD COLUMN attempt int,
  ADD COLUMN release_id uuid;
CREATE INDEX decrypt_audit_release ON mana_ai.decrypt_audit (release_id) WHERE release_id IS NOT NULL;
CREATE INDEX decrypt_audit_user ON mana_ai.decrypt_audit (user_id, ts DESC, id DESC);

ALTER TABLE mana_ai.key_releases ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.key_releases FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.key_releases TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY gateway_reads_as_user ON mana_ai.key_releases FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.key_releases TO mana_janitor USING (true);

-- A capability for the key holder: of this run's attempt alone, and for a minute.
CREATE FUNCTION mana_ai.keys_capability(p_run uuid, p_attempt int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  RETURN mana_ai.sign_payload(jsonb_build_object('u', run.user_id, 'a', run.agent_id, 'm', run.mission_id, 'run', p_run,
    'attempt', p_attempt, 'aud', 'keys', 'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + 60));
END $$;

-- The key holder's counterpart of require_capability: its own audience, and the run that was signed.
CREATE FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt int) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.capability('keys');
BEGIN
  IF held IS NULL OR held ->> 'run' IS DISTINCT FROM p_run::text OR held ->> 'attempt' IS DISTINCT FROM p_attempt::text THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

-- An object without all keys but these; anything else as it is, so that the merge sets it aside.
CREATE FUNCTION mana_ai.only_keys(p_value jsonb, p_keys text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_value) = 'object'
       THEN (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(p_value) AS e WHERE e.key = ANY (p_keys))
       ELSE p_value END;

-- The grant a live run's mission has now: snapshot and rows not folded yet, without what the owner wrote.
-- Outcome: live, run-not-live, other-mission, too-many. The run stays as it is until the caller's transaction ends.
CREATE FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt int, p_mission text,
  OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_keys_capability(p_run, p_attempt);
  wanted text[] := ARRAY['grant', 'deletedAt', 'createdAt', 'updatedAt'];
  run mana_ai.runs;
BEGIN
  user_id := held ->> 'u';
  agent_id := held ->> 'a';
  asked_at := clock_timestamp();
  SELECT * INTO run FROM mana_ai.runs AS r
   WHERE r.run_id = p_run AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' FOR SHARE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' OR run.lease_until <= clock_timestamp() THEN
    outcome := 'run-not-live'; RETURN;
  END IF;
  IF run.mission_id <> p_mission THEN
    outcome := 'other-mission'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.key_releases AS k WHERE k.run_id = p_run) >= 100 THEN
    outcome := 'too-many'; RETURN;
  END IF;
  outcome := 'live';
  SELECT jsonb_build_object('present', s.present, 'complete', s.complete, 'record',
           mana_ai.only_keys(s.record, wanted)
           || jsonb_build_object('__fieldMeta', mana_ai.only_keys(s.record -> '__fieldMeta', wanted)))
    INTO granted_mission.snapshot
    FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = p_mission;
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', mana_ai.only_keys(c.data, wanted)::text,
                                      'field_meta', mana_ai.only_keys(c.field_meta, wanted)::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    INTO granted_mission.changes
    FROM mana_ai.change_feed AS f JOIN mana_ai.log_rows AS c ON c.id = f.change_id
   WHERE f.record_id = p_mission AND f.table_name = 'aiMissions' AND f.user_id = run.user_id;
END $$;

-- The attempt, durable with the caller's commit whatever the server's default; a key leaves only after that.
CREATE FUNCTION mana_ai.note_release(p_run uuid, p_attempt int, p_mission text, p_outcome text, p_reason text, p_version text,
  p_records text[], p_expires timestamptz) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_keys_capability(p_run, p_attempt);
  release uuid;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome, reason, grant_version, record_ids, expires_at)
  VALUES (held ->> 'u', held ->> 'a', left(p_mission, 512), p_run, p_attempt, p_outcome, p_reason, p_version, p_records, p_expires)
  RETURNING release_id INTO release;
  RETURN release;
END $$;

-- How reading went, for the agent, also for one that was passed by meanwhile: what it read, it read.
CREATE FUNCTION mana_ai.audit_outcome(p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[],
  p_reasons text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  release mana_ai.key_releases;
BEGIN
  SELECT * INTO release FROM mana_ai.key_releases AS k
   WHERE k.release_id = p_release AND k.user_id = held ->> 'u' AND k.agent_id = held ->> 'a' AND k.outcome = 'released';
  IF release.release_id IS NULL OR cardinality(p_tables) + (SELECT count(*) FROM mana_ai.decrypt_audit AS d
       WHERE d.release_id = p_release) > 4000 THEN
    RAISE EXCEPTION 'audit_outcome: no such release' USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id, status, reason, run_id, attempt, release_id)
  SELECT release.user_id, release.mission_id, left(p_iteration, 512), left(k.t, 512), left(k.r, 512), k.s, left(k.w, 512),
         release.run_id, release.attempt, p_release
    FROM unnest(p_tables, p_records, p_statuses, p_reasons) AS k (t, r, s, w);
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.keys_capability(uuid, int), mana_ai.require_keys_capability(uuid, int), mana_ai.only_keys(jsonb, text[]),
  mana_ai.granted_mission(uuid, int, text), mana_ai.note_release(uuid, int, text, text, text, text, text[], timestamptz),
  mana_ai.audit_outcome(uuid, text, text[], text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.keys_capability(uuid, int), mana_ai.audit_outcome(uuid, text, text[], text[], text[], text[]) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.granted_mission(uuid, int, text),
  mana_ai.note_release(uuid, int, text, text, text, text, text[], timestamptz) TO mana_keys;
GRANT SELECT ON mana_ai.key_releases TO mana_gateway;
GRANT SELECT (ts), DELETE ON mana_ai.key_releases TO mana_janitor;

-- 0011_vault
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

-- 0012_sealed_copies
-- Sealed copies: what a mission may read of its owner's encrypted records, sealed by the owner's client under that mission's
-- data key. They live as long as the grant in the mission's snapshot: a revoked or expired one takes them along.
SET LOCAL ROLE mana_owner;

CREATE TABLE mana_ai.sealed_copies (
  user_id text NOT NULL,
  mission_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  data jsonb NOT NULL CONSTRAINT sealed_copies_bounded CHECK (jsonb_typeof(data) = 'object' AND length(data::text) <= 262144),
  written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, mission_id, table_name, record_id));
CREATE INDEX sealed_copies_age ON mana_ai.sealed_copies (expires_at);

ALTER TABLE mana_ai.sealed_copies ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.sealed_copies FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.sealed_copies TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY agent_reads_own_missions ON mana_ai.sealed_copies FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()) AND expires_at > clock_timestamp() AND EXISTS (
         SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = sealed_copies.user_id AND s.mission_id = sealed_copies.mission_id
            AND s.agent_id = (SELECT mana_ai.capability_agent())));
CREATE POLICY agent_within_capability ON mana_ai.sealed_copies AS RESTRICTIVE TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));
CREATE POLICY janitor_prunes ON mana_ai.sealed_copies TO mana_janitor USING (true);

-- The end of a grant as its mission tells it, never more than 30 days away; null where there is no such mission or no grant.
CREATE FUNCTION mana_ai.grant_end(p_user text, p_mission text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given jsonb;
  most timestamptz := clock_timestamp() + interval '30 days';
BEGIN
  SELECT s.record -> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden;
  IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
    RETURN NULL;
  END IF;
  RETURN least(most, (given ->> 'expiresAt')::timestamptz);
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

-- Puts copies in the place of those there are; false where the mission has no living grant. The mission is looked at again,
-- also where a run that missed them ends in this moment: what it asks for belongs to the version before.
CREATE FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  until timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots WHERE user_id = p_user AND mission_id = p_mission FOR UPDATE;  -- a revoke waits, then deletes
  until := mana_ai.grant_end(p_user, p_mission);
  IF until IS NULL OR until <= clock_timestamp() THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, expires_at)
  SELECT DISTINCT ON (c ->> 'table', c ->> 'id') p_user, p_mission, c ->> 'table', c ->> 'id', c -> 'fields', until
    FROM jsonb_array_elements(p_copies) AS c
  ON CONFLICT (user_id, mission_id, table_name, record_id)
  DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at, written_at = clock_timestamp();
  UPDATE mana_ai.sealed_copies SET expires_at = until WHERE user_id = p_user AND mission_id = p_mission;
  IF (SELECT count(*) FROM mana_ai.sealed_copies WHERE user_id = p_user AND mission_id = p_mission) > 1000 THEN
    RAISE EXCEPTION 'sealed_copies: over 1000 of one mission' USING ERRCODE = 'check_violation';
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
   WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- A fold that shows a revoked grant, or a mission that is gone, leaves neither copies nor answers that were made of them.
CREATE FUNCTION mana_ai.forget_revoked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  acting text := current_setting('app.current_user_id', true);
BEGIN
  PERFORM set_config('app.current_user_id', NEW.user_id, true);
  DELETE FROM mana_ai.sealed_copies WHERE user_id = NEW.user_id AND mission_id = NEW.mission_id;
  DELETE FROM mana_ai.journal WHERE (run_id, round) IN (  -- one that is locked is being dropped anyway
    SELECT j.run_id, j.round FROM mana_ai.journal AS j JOIN mana_ai.runs AS r ON r.run_id = j.run_id
     WHERE r.user_id = NEW.user_id AND r.mission_id = NEW.mission_id FOR UPDATE OF j SKIP LOCKED);
  PERFORM set_config('app.current_user_id', coalesce(acting, ''), true);
  RETURN NULL;
END $$;
CREATE TRIGGER forget_revoked AFTER UPDATE OF record, hidden ON mana_ai.mission_snapshots FOR EACH ROW
  WHEN (jsonb_typeof(OLD.record -> 'grant') IS NOT DISTINCT FROM 'object'
        AND (NEW.hidden OR jsonb_typeof(NEW.record -> 'grant') IS DISTINCT FROM 'object'))
  EXECUTE FUNCTION mana_ai.forget_revoked();

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.grant_end(text, text), mana_ai.put_sealed_copies(text, text, jsonb), mana_ai.forget_revoked() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.put_sealed_copies(text, text, jsonb) TO mana_gateway;
GRANT SELECT ON mana_ai.sealed_copies TO mana_agent;
GRANT SELECT (expires_at), DELETE ON mana_ai.sealed_copies TO mana_janitor;

-- 0013_owner_keys
-- The public key a person's client registers, so that what runs make of decrypted inputs is sealed for its owner's eyes. One per
-- person, the newest; each change leaves a row that its owner sees and no login can alter.
SET LOCAL ROLE mana_owner;

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

ALTER TABLE mana_ai.owner_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.owner_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.owner_keys TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY gateway_reads_as_user ON mana_ai.owner_keys FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY agent_reads_own ON mana_ai.owner_keys FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));
CREATE POLICY agent_within_capability ON mana_ai.owner_keys AS RESTRICTIVE TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));

ALTER TABLE mana_ai.owner_key_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.owner_key_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.owner_key_changes TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY gateway_reads_as_user ON mana_ai.owner_key_changes FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.owner_key_changes TO mana_janitor USING (true);

-- Puts a key in the place of the one there is, and says since when it is there; the same key again changes nothing.
CREATE FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  since timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.owner_keys AS k (user_id, key_id, public_key) VALUES (p_user, p_key_id, p_public_key)
  ON CONFLICT (user_id) DO UPDATE SET key_id = excluded.key_id, public_key = excluded.public_key, created_at = clock_timestamp()
   WHERE k.public_key <> excluded.public_key
  RETURNING created_at INTO since;
  IF since IS NULL THEN
    SELECT created_at INTO since FROM mana_ai.owner_keys WHERE user_id = p_user;
  ELSE
    INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent, at)
    VALUES (p_user, p_key_id, 'registered', p_address, p_agent, since);
  END IF;
  RETURN since;
END $$;

-- Takes the key away, false where there is none: from now on output is plain text again.
CREATE FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  removed text;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.owner_keys WHERE user_id = p_user RETURNING key_id INTO removed;
  IF removed IS NULL THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent) VALUES (p_user, removed, 'removed', p_address, p_agent);
  RETURN true;
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.put_owner_key(text, text, bytea, text, text), mana_ai.remove_owner_key(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.put_owner_key(text, text, bytea, text, text), mana_ai.remove_owner_key(text, text, text) TO mana_gateway;
GRANT SELECT ON mana_ai.owner_keys TO mana_agent, mana_gateway;
GRANT SELECT ON mana_ai.owner_key_changes TO mana_gateway;
GRANT SELECT (at), DELETE ON mana_ai.owner_key_changes TO mana_janitor;

-- 0014_copy_requests
-- Sealed copies on demand: a run that misses one, or finds it stale, asks for copies; whoever has the owner's key in a vault
-- makes them. An idle tenant costs nothing. A copy says of which ciphertext it was made.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.sealed_copies
  ADD COLUMN source text CONSTRAINT sealed_copies_source CHECK (source ~ '^[0-9a-f]{64}$');  -- null: its client sent none
CREATE POLICY gateway_reads_as_user ON mana_ai.sealed_copies FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));

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

ALTER TABLE mana_ai.copy_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.copy_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.copy_requests TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY router_takes ON mana_ai.copy_requests TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY janitor_prunes ON mana_ai.copy_requests TO mana_janitor USING (true);

-- Asks for copies for a live run's own mission; what the last request under this grant came to, null where nothing did yet.
-- Asked again at once after copies were made, ten minutes later where they could not be.
CREATE FUNCTION mana_ai.request_copies(p_run uuid, p_attempt int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  at timestamptz := clock_timestamp();
  given text;
  told text;
BEGIN
  IF run.lease_until <= at THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  SELECT s.record ->> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  given := encode(sha256(convert_to(coalesce(given, ''), 'UTF8')), 'hex');
  INSERT INTO mana_ai.copy_requests AS q (user_id, mission_id, asked_at, due_at, for_grant)
  VALUES (run.user_id, run.mission_id, at, at, given)
  ON CONFLICT (user_id, mission_id) DO UPDATE
     SET asked_at = at, for_grant = given, answer = CASE WHEN q.for_grant = given THEN q.answer END,
         due_at = CASE WHEN q.due_at IS NOT NULL THEN q.due_at
                       WHEN q.for_grant <> given THEN at
                       WHEN q.answer IN ('made', 'current') THEN greatest(at, q.answered_at + interval '10 seconds')
                       WHEN q.answered_at <= at - interval '10 minutes' THEN at END
  RETURNING q.answer INTO told;
  RETURN told;
END $$;

-- Takes the oldest requests, of each person one before anybody's second, for as long as a lease; one that nobody answers comes
-- back after it, each time later. Ids only.
CREATE FUNCTION mana_ai.take_copy_requests(p_limit int, p_lease_s int) RETURNS TABLE (user_id text, mission_id text, taken uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH oldest AS MATERIALIZED (
    SELECT d.user_id, d.mission_id, d.due_at, row_number() OVER (PARTITION BY d.user_id ORDER BY d.due_at, d.mission_id) AS turn
      FROM (SELECT q.user_id, q.mission_id, q.due_at FROM mana_ai.copy_requests AS q
             WHERE q.due_at <= (SELECT clock_timestamp()) ORDER BY q.due_at LIMIT 1000) AS d),
  mine AS MATERIALIZED (
    SELECT q.user_id, q.mission_id FROM mana_ai.copy_requests AS q
      JOIN oldest AS o ON o.user_id = q.user_id AND o.mission_id = q.mission_id
     WHERE q.due_at <= (SELECT clock_timestamp())
     ORDER BY o.turn, o.due_at, q.user_id LIMIT p_limit FOR UPDATE OF q SKIP LOCKED)
  UPDATE mana_ai.copy_requests AS q
     SET taken = gen_random_uuid(), taken_at = clock_timestamp(), tries = q.tries + 1,
         due_at = clock_timestamp() + least(p_lease_s * (1 << least(q.tries, 10)), 3600) * interval '1 second'
    FROM mine WHERE q.user_id = mine.user_id AND q.mission_id = mine.mission_id
  RETURNING q.user_id, q.mission_id, q.taken;
END;

-- A record's rows for whoever took the request: only an input of that mission that its grant lists, 2 MB of rows at most.
CREATE FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text)
RETURNS TABLE (id uuid, op text, data text, field_meta text, created_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.copy_requests AS q WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken
                    AND q.due_at > clock_timestamp())
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                       AND s.record -> 'inputs' @> jsonb_build_array(jsonb_build_object('table', p_table, 'id', p_record))
                       AND s.record #> '{grant,derivation,recordIds}' ? (p_table || ':' || p_record)) THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 2097152 THEN
    RAISE EXCEPTION 'copy_source: over 2 MB of rows' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  RETURN QUERY SELECT c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM mana_ai.log_rows AS c
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record ORDER BY c.created_at, c.id;
END $$;

-- What became of a request, from whoever still has it; asked again meanwhile, it is due again. An answer that is news, and not
-- that copies are there (they wake it themselves), has the mission looked at again: its owner is told why.
CREATE FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked mana_ai.copy_requests;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO asked FROM mana_ai.copy_requests AS q
   WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken FOR UPDATE;
  IF asked.taken IS NULL THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.copy_requests AS q
     SET answer = p_answer, answered_at = clock_timestamp(), tries = 0, taken = NULL,
         due_at = CASE WHEN asked.asked_at > asked.taken_at THEN clock_timestamp() END
   WHERE q.user_id = p_user AND q.mission_id = p_mission;
  IF p_answer NOT IN ('made', 'current') AND p_answer IS DISTINCT FROM asked.answer THEN
    UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
     WHERE user_id = p_user AND mission_id = p_mission;
  END IF;
  RETURN true;
END $$;

-- As before, with what each copy was made of.
CREATE OR REPLACE FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  until timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots WHERE user_id = p_user AND mission_id = p_mission FOR UPDATE;  -- a revoke waits, then deletes
  until := mana_ai.grant_end(p_user, p_mission);
  IF until IS NULL OR until <= clock_timestamp() THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, source, expires_at)
  SELECT DISTINCT ON (c ->> 'table', c ->> 'id') p_user, p_mission, c ->> 'table', c ->> 'id', c -> 'fields', c ->> 'source', until
    FROM jsonb_array_elements(p_copies) AS c
  ON CONFLICT (user_id, mission_id, table_name, record_id)
  DO UPDATE SET data = excluded.data, source = excluded.source, expires_at = excluded.expires_at, written_at = clock_timestamp();
  UPDATE mana_ai.sealed_copies SET expires_at = until WHERE user_id = p_user AND mission_id = p_mission;
  IF (SELECT count(*) FROM mana_ai.sealed_copies WHERE user_id = p_user AND mission_id = p_mission) > 1000 THEN
    RAISE EXCEPTION 'sealed_copies: over 1000 of one mission' USING ERRCODE = 'check_violation';
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
   WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

RESET ROLE;
GRANT CREATE ON SCHEMA mana_ai TO mana_router;  -- only until the function is handed over
ALTER FUNCTION mana_ai.take_copy_requests(int, int) OWNER TO mana_router;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_router;
GRANT SELECT, UPDATE ON mana_ai.copy_requests TO mana_router;

REVOKE ALL ON FUNCTION mana_ai.request_copies(uuid, int), mana_ai.take_copy_requests(int, int),
  mana_ai.copy_source(text, text, uuid, text, text, text), mana_ai.answer_copies(text, text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.request_copies(uuid, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.take_copy_requests(int, int), mana_ai.copy_source(text, text, uuid, text, text, text),
  mana_ai.answer_copies(text, text, uuid, text) TO mana_gateway;
GRANT SELECT (user_id, mission_id, table_name, record_id, source, written_at) ON mana_ai.sealed_copies TO mana_gateway;
GRANT SELECT (asked_at), DELETE ON mana_ai.copy_requests TO mana_janitor;

-- 0015_capability_rotation
-- Rotation of the secrets that sign capabilities, without downtime: per audience one secret signs, and the one before
-- verifies for as long as anything it signed can be alive. After that the clock refuses it; the next rotation removes its row.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.capability_secrets ADD COLUMN verifies_until timestamptz;  -- null: it signs

-- The longest that a capability lives, whatever was asked for: what renew() gives for the longest lease.
CREATE FUNCTION mana_ai.capability_life() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '2 hours';

-- Callers that ran at once may have added several: the newest goes on signing, as it did.
UPDATE mana_ai.capability_secrets AS k
   SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute'
 WHERE NOT signs OR EXISTS (
         SELECT FROM mana_ai.capability_secrets AS newer
          WHERE newer.audience = k.audience AND newer.signs AND (newer.created_at, k.kid) > (k.created_at, newer.kid));
ALTER TABLE mana_ai.capability_secrets
  ADD CONSTRAINT capability_secrets_sign_or_end CHECK (signs = (verifies_until IS NULL));
CREATE UNIQUE INDEX capability_secrets_one_signs ON mana_ai.capability_secrets (audience) WHERE signs;

CREATE OR REPLACE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT body.text || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body.text, 'UTF8'))))
          FROM (SELECT * FROM mana_ai.capability_secrets WHERE audience = p_payload ->> 'aud' AND signs) AS k,
       LATERAL (SELECT p_payload || jsonb_build_object('kid', k.kid, 'exp', least((p_payload ->> 'exp')::bigint,
                  floor(extract(epoch FROM clock_timestamp() + mana_ai.capability_life()))::bigint))) AS signed (payload),
       LATERAL (SELECT mana_ai.base64url(convert_to(signed.payload::text, 'UTF8'))) AS body (text));

CREATE OR REPLACE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text := split_part(token, '.', 1);
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR length(token) > 8192 THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND k.kid = payload ->> 'kid'
          AND (k.verifies_until IS NULL OR k.verifies_until > clock_timestamp())
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8')))))
     OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

-- New secrets sign from now on; with p_now, whatever was signed before is refused from the commit on. Two at most verify
-- per audience, so a rotation within the overlap is refused. Rotations take turns; who signs or verifies never waits.
-- Not SECURITY DEFINER: only the owner of the table gets anywhere with it.
CREATE FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  its_audience text;
  secret bytea;
BEGIN
  LOCK TABLE mana_ai.capability_secrets IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM mana_ai.capability_secrets WHERE p_now OR verifies_until <= clock_timestamp();
  IF EXISTS (SELECT FROM mana_ai.capability_secrets WHERE verifies_until IS NOT NULL) THEN
    RAISE EXCEPTION 'rotated_already' USING ERRCODE = 'MA003';
  END IF;
  -- A minute more: what is being signed at this moment lives that much longer.
  UPDATE mana_ai.capability_secrets
     SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute';
  FOREACH its_audience IN ARRAY ARRAY['db', 'keys'] LOOP
    secret := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
    VALUES (its_audience, substr(md5(gen_random_uuid()::text), 1, 8), mana_ai.pad(secret, 54), mana_ai.pad(secret, 92));
  END LOOP;
END $$;

-- Which secrets there are and until when each verifies; nothing of what they are.
CREATE FUNCTION mana_ai.capability_secrets_now()
RETURNS TABLE (audience text, kid text, created_at timestamptz, verifies_until timestamptz, asked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.audience, k.kid, k.created_at, k.verifies_until, clock_timestamp()
    FROM mana_ai.capability_secrets AS k ORDER BY k.audience, k.created_at DESC
$$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.capability_life(), mana_ai.rotate_capability_secrets(boolean), mana_ai.capability_secrets_now()
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.capability_secrets_now() TO mana_supervisor;

-- 0016_agent_bounds
-- What an agent's login could still do by hand, with a valid capability of its own.
SET LOCAL ROLE mana_owner;

-- Numbers no call has: their sum would pass bigint, and every check of the installation's limit and every operator's view would
-- fail. A call whose end is refused is charged at its hold; a hold ends with the longest call there is (an hour) and its margin.
ALTER TABLE mana_ai.token_usage ADD CONSTRAINT token_usage_believable
  CHECK (tokens_used BETWEEN 0 AND 8589934592 AND cost_micros BETWEEN 0 AND 1000000000000) NOT VALID;
ALTER TABLE mana_ai.token_holds ADD CONSTRAINT token_holds_believable
  CHECK (tokens <= 8589934592 AND cost_micros <= 1000000000000 AND deadline <= opened_at + interval '2 hours') NOT VALID;

-- Locks the agent's ledger row, in a statement of its own so that what follows reads what the previous holder wrote. In a
-- transaction that keeps one snapshot it would read what was there before, and pass every limit.
CREATE OR REPLACE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'lock_ledger: needs read committed' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

-- Puts back server iterations that a client's write dropped; at most once per iteration, a second removal is the owner's will.
-- p_version is the snapshot the array was made from: a change since then stands, and the mission is looked at again.
-- Its author is the agent, as in commit_run.
CREATE OR REPLACE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  IF p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM held ->> 'a' THEN
    RAISE EXCEPTION 'heal_mission: not by this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  IF EXISTS (SELECT FROM mana_ai.change_feed WHERE user_id = held ->> 'u' AND table_name = 'aiMissions' AND record_id = p_mission)
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s
                     WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

RESET ROLE;

-- 0017_room_and_skips
-- A key is asked for only where a model call can follow (D-39), and a run that is skipped after its claim leaves one decision.
SET LOCAL ROLE mana_owner;

-- Whether a call of this size has room now: outcome `go` or `no-room`, the rest as begin_call says it. A run that has
-- answers already goes on whatever is left: it keeps the plan it has.
CREATE FUNCTION mana_ai.room_for_call(p_run uuid, p_attempt int, p_hold bigint, p_micros bigint,
  OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  outcome := 'go';
  IF EXISTS (SELECT FROM mana_ai.journal AS j WHERE j.run_id = p_run) THEN
    RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT 'no-room', r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO outcome, scope, unit, cap, used, held, until
    FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros) AS r;
  outcome := coalesce(outcome, 'go');
  IF scope = 'installation' THEN  -- what all users spent is no agent's business
    cap := NULL; used := NULL; held := NULL;
  END IF;
END $$;

-- Closes a run that must not be planned, with the decision that its owner is to see in place of `withdrawn`; says whether
-- that is news. A mission that is skipped again for the same reason keeps its one row.
CREATE FUNCTION mana_ai.skip_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  is_news boolean;
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  SELECT (s.decision, s.reason) IS DISTINCT FROM ('skipped-grant', p_reason) INTO is_news
    FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  IF is_news THEN
    PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-grant', p_reason);
  END IF;
  RETURN coalesce(is_news, false);
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.room_for_call(uuid, int, bigint, bigint), mana_ai.skip_run(uuid, int, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.room_for_call(uuid, int, bigint, bigint), mana_ai.skip_run(uuid, int, text, timestamptz) TO mana_agent;

-- 0018_long_capabilities
-- Capabilities of agents whose missions list thousands of inputs. The bound fits 3,000 ids of 36 characters in the table
-- with the longest name; a reach that does not fit is refused where it is signed, so that somebody hears of it.
SET LOCAL ROLE mana_owner;

-- The longest capability that is accepted, in characters.
CREATE FUNCTION mana_ai.capability_chars() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 512 * 1024;

-- For hundreds of kilobytes: replace() is several times faster than translate(), which looks at characters.
CREATE OR REPLACE FUNCTION mana_ai.unbase64url(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN decode(replace(replace(p_text, '-', '+'), '_', '/') || repeat('=', (4 - octet_length(p_text) % 4) % 4), 'base64');

-- A thousand characters are left for a renewal, whose secret may have a longer name.
CREATE OR REPLACE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s int)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                       'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));
BEGIN
  IF octet_length(token) > mana_ai.capability_chars() - 1000 THEN
    RAISE EXCEPTION 'capability_too_long' USING ERRCODE = 'MA004';
  END IF;
  RETURN token;
END $$;

-- The signature comes first: what nobody signed costs one hash per secret, and is never parsed.
CREATE OR REPLACE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text;
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR octet_length(token) > mana_ai.capability_chars() THEN
    RETURN NULL;
  END IF;
  body := split_part(token, '.', 1);
  IF NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND (k.verifies_until IS NULL OR k.verifies_until > clock_timestamp())
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8'))))) THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.capability_chars() FROM PUBLIC;

SET LOCAL ROLE mana_owner;

SELECT mana_ai.add_capability_secret(a.audience, substr(md5(gen_random_uuid()::text), 1, 8),
         uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
  FROM unnest(ARRAY['db', 'keys']) AS a (audience)
 WHERE NOT EXISTS (SELECT FROM mana_ai.capability_secrets AS s WHERE s.audience = a.audience);
INSERT INTO mana_ai.migrations (name) VALUES ('0001_log'), ('0002_tables'), ('0003_capability'), ('0004_feed'), ('0005_runs'), ('0006_access'), ('0007_budgets'), ('0008_control'), ('0009_receipts'), ('0010_keys'), ('0011_vault'), ('0012_sealed_copies'), ('0013_owner_keys'), ('0014_copy_requests'), ('0015_capability_rotation'), ('0016_agent_bounds'), ('0017_room_and_skips'), ('0018_long_capabilities');
RESET ROLE;
REVOKE mana_owner FROM CURRENT_USER;
REVOKE mana_router FROM CURRENT_USER;
REVOKE mana_fleet FROM CURRENT_USER;
COMMIT;
