CREATE OR REPLACE FUNCTION mana_ai.installation_room_at(p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT min(f.ts) + interval '24 hours'
    FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS f
   WHERE f.freed >= p_need;
END;

COMMENT ON FUNCTION mana_ai.installation_room_at IS
'When p_need of what all users spent (p_unit: ''tokens'' or ''money'') will have left the window of 24 hours. Owned by
mana_fleet, which may read all users'' usage.';
ALTER FUNCTION mana_ai.installation_room_at OWNER TO mana_fleet;
GRANT EXECUTE ON FUNCTION mana_ai.installation_room_at TO mana_owner, mana_supervisor, mana_gateway;
