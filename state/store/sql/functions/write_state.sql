CREATE OR REPLACE FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) RETURNS void
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

COMMENT ON FUNCTION mana_ai.write_state IS
'Writes one row into the owner''s log that sets a record''s state to active or paused, in the record''s space; for the
gateway.';
ALTER FUNCTION mana_ai.write_state OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.write_state TO mana_gateway;
