CREATE OR REPLACE FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text)
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

COMMENT ON FUNCTION mana_ai.write_mission IS
'Writes one row of a mission into the log, as the sync service would. Its space is that of the mission''s insert.';
ALTER FUNCTION mana_ai.write_mission OWNER TO mana_owner;
