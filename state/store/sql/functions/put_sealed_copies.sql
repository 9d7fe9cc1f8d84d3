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

COMMENT ON FUNCTION mana_ai.put_sealed_copies IS
'Stores copies in place of those of the same records; false where the mission has no living grant. It locks the
snapshot first, so that a revoke waits and then deletes. The mission is looked at again, and gets a new version: a run
that missed the copies and ends at this moment asks by the old version, and is not listened to.';
ALTER FUNCTION mana_ai.put_sealed_copies OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.put_sealed_copies TO mana_gateway;
