CREATE OR REPLACE FUNCTION mana_ai.grant_end(p_user text, p_mission text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given jsonb;
  most timestamptz := clock_timestamp() + interval '30 days';
BEGIN
  SELECT s.record -> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden;
  IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
    RETURN NULL;
  END IF;
  RETURN least(most, (given ->> 'expiresAt')::timestamptz);
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

COMMENT ON FUNCTION mana_ai.grant_end IS
'When the grant in a mission''s snapshot ends, at most 30 days from now. Null without such a mission, without a grant,
or where its end cannot be read.';
ALTER FUNCTION mana_ai.grant_end OWNER TO mana_owner;
