CREATE OR REPLACE FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt int, p_mission text,
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
           mana_ai.only_fields(s.record, wanted)
           || jsonb_build_object('__fieldMeta', mana_ai.only_fields(s.record -> '__fieldMeta', wanted)))
    INTO granted_mission.snapshot
    FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = p_mission;
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', mana_ai.only_fields(c.data, wanted)::text,
                                      'field_meta', mana_ai.only_fields(c.field_meta, wanted)::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    INTO granted_mission.changes
    FROM mana_ai.unfolded_rows(run.user_id, 'aiMissions', p_mission) AS c;
END $$;

COMMENT ON FUNCTION mana_ai.granted_mission IS
'What the key holder may know of a live run''s mission: its grant with the rows not folded yet, and nothing else the
owner wrote. It locks the run until the caller''s transaction ends, so the run cannot close in between. Outcome:
''live'', ''run-not-live'', ''other-mission'', ''too-many''.';
ALTER FUNCTION mana_ai.granted_mission OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.granted_mission TO mana_keys;
