CREATE OR REPLACE FUNCTION mana_ai.note_release(p_run uuid, p_attempt int, p_mission text, p_outcome text, p_reason text, p_version text,
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

COMMENT ON FUNCTION mana_ai.note_release IS
'Writes the audit row of an attempt to get a key. It is durable with the caller''s commit whatever the server''s
default; a key leaves only after that.';
ALTER FUNCTION mana_ai.note_release OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.note_release TO mana_keys;
