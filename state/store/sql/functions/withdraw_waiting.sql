CREATE OR REPLACE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
  mission mana_ai.mission_snapshots;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.version = p_mission_version FOR UPDATE SKIP LOCKED;
  IF mission.mission_id IS NULL
     OR p_agent_version IS DISTINCT FROM (SELECT s.version FROM mana_ai.agent_snapshots AS s
                                           WHERE s.user_id = p_user AND s.agent_id = mission.agent_id) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.withdraw_waiting IS
'Ends a run that only waits, as soon as its owner no longer wants it; for the supervisor, which decides that and says by
which versions of mission and agent. Where those are others by now it does nothing, and so where somebody holds run or
mission: the supervisor waits for nobody, and looks again. Returns whether it ended one.';
ALTER FUNCTION mana_ai.withdraw_waiting OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.withdraw_waiting TO mana_supervisor;
