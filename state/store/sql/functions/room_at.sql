CREATE OR REPLACE FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_scope = 'installation' THEN
    RETURN mana_ai.installation_room_at(p_since, p_unit, p_need);
  END IF;
  RETURN (SELECT min(f.ts) + interval '24 hours'
            FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
                    FROM mana_ai.token_usage AS t
                   WHERE t.user_id = p_user AND (p_scope = 'user' OR t.agent_id = p_agent) AND t.ts > p_since) AS f
           WHERE f.freed >= p_need);
END $$;

COMMENT ON FUNCTION mana_ai.room_at IS
'When p_need of what one agent, one user or the installation spent (p_unit: ''tokens'' or ''money'') will have left the
window of 24 hours.';
ALTER FUNCTION mana_ai.room_at OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.room_at TO mana_supervisor, mana_gateway;
