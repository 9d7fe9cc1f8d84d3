CREATE OR REPLACE FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt int, p_call text, p_note text, p_basis text,
  p_state text, p_data text, p_floor text, p_actor text, p_next timestamptz, p_iteration text, p_steps int, p_reason text,
  OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
  data jsonb;
  actor jsonb;
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      IF NOT mana_ai.is_as_decided(run.user_id, run.mission_id, run.agent_id, p_basis::jsonb) THEN
        outcome := 'changed';
        newer := mana_ai.mission_now(run.user_id, run.mission_id, run.agent_id);
      ELSE
        data := p_data::jsonb;
        actor := p_actor::jsonb;
        IF (p_state IN ('committed', 'failed') AND data ? 'iterations' AND data - 'iterations' - 'nextRunAt' = '{}'
            AND actor ->> 'kind' = 'ai' AND actor ->> 'principalId' = run.agent_id
            AND p_floor ~ '^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,9}Z$' AND isfinite(p_floor::timestamptz)) IS NOT TRUE THEN
          RAISE EXCEPTION 'commit_run: not a plan of this agent' USING ERRCODE = 'check_violation';
        END IF;
        PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
        PERFORM mana_ai.write_mission(run.user_id, run.mission_id, data, mana_ai.stamp_now(p_floor), actor, 'agent');
        UPDATE mana_ai.runs AS r SET iteration_id = p_iteration, steps = p_steps WHERE r.run_id = p_run;
        PERFORM mana_ai.close_run(run, p_state, p_reason);
        DELETE FROM mana_ai.mission_research_jobs AS j WHERE j.user_id = run.user_id AND j.mission_id = run.mission_id;
        PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_next);
        PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at,
                                      CASE p_state WHEN 'committed' THEN 'ran' ELSE 'failed' END, p_reason);
        outcome := 'done';
      END IF;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state IN ('committed', 'failed') AND run.iteration_id = p_iteration THEN
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.commit_run IS
'Writes the plan and the next run time into the log and closes the run, in one statement: all of it or nothing but its last
answer''s price, which is settled first whatever becomes of the plan. It writes only what was decided on the mission as it
is; else the outcome is ''changed'' and newer has what to decide on. The stamp is the database''s clock, or p_floor where
that is later: a process''s clock must not beat its owner''s edits. It accepts nothing but iterations and nextRunAt, and only
as this agent. Other outcomes as of withdraw_run.';
ALTER FUNCTION mana_ai.commit_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.commit_run TO mana_agent;
