CREATE OR REPLACE FUNCTION mana_ai.commit_run(p_run uuid, p_attempt int, p_state text, p_data jsonb, p_stamp text, p_actor jsonb,
  p_next timestamptz, p_iteration text, p_steps int, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  IF p_state NOT IN ('committed', 'failed') OR NOT p_data ? 'iterations' OR p_data - 'iterations' - 'nextRunAt' <> '{}'
     OR p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM run.agent_id THEN
    RAISE EXCEPTION 'commit_run: not a plan of this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.write_mission(run.user_id, run.mission_id, p_data, p_stamp, p_actor, 'agent');
  UPDATE mana_ai.runs SET iteration_id = p_iteration, steps = p_steps WHERE run_id = p_run;
  PERFORM mana_ai.close_run(run, p_state, p_reason);
  DELETE FROM mana_ai.mission_research_jobs WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_next);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at,
                                CASE p_state WHEN 'committed' THEN 'ran' ELSE 'failed' END, p_reason);
END $$;

COMMENT ON FUNCTION mana_ai.commit_run IS
'Writes the plan and the next run time into the log and closes the run, in one transaction: all of it or nothing. It
accepts nothing but iterations and nextRunAt, and only as this agent.';
ALTER FUNCTION mana_ai.commit_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.commit_run TO mana_agent;
