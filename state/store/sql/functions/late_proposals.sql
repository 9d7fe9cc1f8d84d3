CREATE OR REPLACE FUNCTION mana_ai.late_proposals(p_limit int) RETURNS TABLE (user_id text, mission_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT l.user_id, l.mission_id FROM (
    SELECT p.user_id, p.mission_id, p.expires_at FROM mana_ai.proposals AS p
     WHERE p.state IN ('pending', 'refused') AND p.expires_at <= clock_timestamp() ORDER BY p.expires_at LIMIT p_limit) AS l
   GROUP BY 1, 2 ORDER BY min(l.expires_at);
END;

COMMENT ON FUNCTION mana_ai.late_proposals IS
'Missions with proposals that nobody answered in time, the latest first to have been so; for the gateway, which lets them
expire though their owner does not look.';
ALTER FUNCTION mana_ai.late_proposals OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.late_proposals TO mana_gateway;
