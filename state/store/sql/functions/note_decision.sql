CREATE OR REPLACE FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamptz, p_decision text, p_reason text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)
  VALUES (p_user, p_mission, p_agent, p_due, p_decision, p_reason);
  UPDATE mana_ai.mission_snapshots SET decision = p_decision, reason = p_reason, decided_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = p_mission;
END;

COMMENT ON FUNCTION mana_ai.note_decision IS
'Stores a decision about a mission: the newest with its snapshot, each one in the history.';
ALTER FUNCTION mana_ai.note_decision OWNER TO mana_owner;
