CREATE OR REPLACE FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE mana_ai.runs SET state = p_state, reason = p_reason, closed_at = clock_timestamp(), lease_until = NULL WHERE run_id = p_run.run_id;
  DELETE FROM mana_ai.journal WHERE run_id = p_run.run_id;
  UPDATE mana_ai.run_requests SET closed_at = clock_timestamp()
   WHERE user_id = p_run.user_id AND mission_id = p_run.mission_id AND due_at = p_run.due_at;
  PERFORM mana_ai.wake_next(p_run.user_id, p_run.agent_id, p_run.mission_id);
END $$;

COMMENT ON FUNCTION mana_ai.close_run IS
'Ends a live run for good: drops its journal, closes its request, and gives its place to the next mission of the agent.';
ALTER FUNCTION mana_ai.close_run OWNER TO mana_owner;
