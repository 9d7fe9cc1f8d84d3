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
