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
