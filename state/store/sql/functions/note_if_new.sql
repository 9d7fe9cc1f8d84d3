CREATE OR REPLACE FUNCTION mana_ai.note_if_new(p_user text, p_mission text, p_agent text, p_due timestamptz, p_decision text, p_reason text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                    AND (s.decision, s.reason) IS DISTINCT FROM (p_decision, p_reason)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.note_decision(p_user, p_mission, p_agent, p_due, p_decision, p_reason);
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.note_if_new IS
'Stores a decision where it differs from the mission''s last, and returns whether it did: a mission that is told the
same again keeps its one row.';
ALTER FUNCTION mana_ai.note_if_new OWNER TO mana_owner;
