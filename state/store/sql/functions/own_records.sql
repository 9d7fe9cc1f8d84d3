CREATE OR REPLACE FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit int)
RETURNS TABLE (id text, space text, snapshot jsonb, changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  WITH page AS (
    SELECT named.id FROM (
      SELECT s.mission_id AS id FROM mana_ai.mission_snapshots AS s WHERE p_table = 'aiMissions' AND s.user_id = p_user AND NOT s.hidden
      UNION SELECT s.agent_id FROM mana_ai.agent_snapshots AS s WHERE p_table = 'agents' AND s.user_id = p_user AND NOT s.hidden
      UNION SELECT f.record_id FROM mana_ai.change_feed AS f WHERE f.user_id = p_user AND f.table_name = p_table) AS named
     WHERE p_after IS NULL OR named.id > p_after ORDER BY named.id LIMIT p_limit)
  SELECT p.id, coalesce(m.space_id, a.space_id, (m.record ->> 'spaceId'), (a.record ->> 'spaceId')),
         CASE WHEN m.mission_id IS NOT NULL
              THEN jsonb_build_object('present', m.present, 'complete', m.complete, 'record', m.record - 'iterations')
              WHEN a.agent_id IS NOT NULL THEN jsonb_build_object('present', a.present, 'complete', a.complete, 'record', a.record) END,
         mana_ai.unfolded(p_user, p_table, p.id)
    FROM page AS p
    LEFT JOIN mana_ai.mission_snapshots AS m ON p_table = 'aiMissions' AND m.user_id = p_user AND m.mission_id = p.id
    LEFT JOIN mana_ai.agent_snapshots AS a ON p_table = 'agents' AND a.user_id = p_user AND a.agent_id = p.id
   ORDER BY p.id;
END $$;

COMMENT ON FUNCTION mana_ai.own_records IS
'A page of a person''s own agents or missions by id, each with the rows that wait to be folded, those without a snapshot
yet among them; for the gateway. Iterations, which may be large, are left out.';
ALTER FUNCTION mana_ai.own_records OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_records TO mana_gateway;
