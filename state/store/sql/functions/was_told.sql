CREATE OR REPLACE FUNCTION mana_ai.was_told(p_run mana_ai.runs, p_decision text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT EXISTS (SELECT FROM mana_ai.decisions AS d WHERE d.user_id = p_run.user_id AND d.mission_id = p_run.mission_id
                    AND d.decision = p_decision AND d.reason = p_run.reason AND d.at >= p_run.claimed_at);
END;

COMMENT ON FUNCTION mana_ai.was_told IS
'Whether this attempt of a run noted this decision: what its lost reply would have called news.';
ALTER FUNCTION mana_ai.was_told OWNER TO mana_owner;
