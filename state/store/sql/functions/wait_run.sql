CREATE OR REPLACE FUNCTION mana_ai.wait_run(p_run uuid, p_attempt int, p_not_before timestamptz, p_for text, p_reason text, p_failed boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  UPDATE mana_ai.runs SET state = 'waiting', not_before = p_not_before, waiting_for = p_for, reason = p_reason, lease_until = NULL,
         failures = failures + p_failed::int WHERE run_id = p_run;
  UPDATE mana_ai.mission_snapshots SET wake_at = p_not_before WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
END $$;

COMMENT ON FUNCTION mana_ai.wait_run IS
'Gives the place back and comes again later: after a back-off, or for research.';
ALTER FUNCTION mana_ai.wait_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.wait_run TO mana_agent;
