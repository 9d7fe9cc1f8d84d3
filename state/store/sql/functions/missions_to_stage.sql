CREATE OR REPLACE FUNCTION mana_ai.missions_to_stage(p_user text) RETURNS TABLE (mission_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  (SELECT s.mission_id FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.awaits_staging AND s.complete AND NOT s.hidden ORDER BY s.mission_id LIMIT 100)
  UNION
  (SELECT r.mission_id FROM mana_ai.runs AS r
    WHERE r.user_id = p_user AND r.closed_at > now() - interval '1 minute' AND r.steps > 0
      AND EXISTS (SELECT FROM mana_ai.change_feed AS f WHERE f.record_id = r.mission_id AND f.table_name = 'aiMissions' AND f.user_id = p_user)
    LIMIT 100)
  UNION
  (SELECT p.mission_id FROM mana_ai.proposals AS p
    WHERE p.user_id = p_user AND p.state IN ('pending', 'refused') AND p.expires_at <= clock_timestamp() LIMIT 100);
END $$;

COMMENT ON FUNCTION mana_ai.missions_to_stage IS
'A person''s missions with plans that they were not asked about yet, or with proposals that nobody answered in time; for the
gateway. A plan that a run wrote a moment ago counts though it waits to be folded: who heard that the run ended finds its
proposals. Where folding lags by more than a minute, they are found once it is folded.';
ALTER FUNCTION mana_ai.missions_to_stage OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.missions_to_stage TO mana_gateway;
