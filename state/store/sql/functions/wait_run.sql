CREATE OR REPLACE FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt int, p_call text, p_note text, p_reason text,
  p_wait_s float, p_for text, p_failed boolean,
  OUT outcome text, OUT charged bigint, OUT look_at timestamptz, OUT is_news boolean, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  is_news := true;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_wait_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      UPDATE mana_ai.runs AS r SET state = 'waiting', not_before = wait_run.look_at, waiting_for = p_for, reason = p_reason,
             lease_until = NULL, failures = r.failures + p_failed::int WHERE r.run_id = p_run;
      UPDATE mana_ai.mission_snapshots AS s SET wake_at = wait_run.look_at
       WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
      PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'waiting' AND run.reason = p_reason THEN
    look_at := run.not_before;
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.wait_run IS
'Gives the place back and comes again at look_at: after a back-off, or for research. Its answer is settled first and stays
in the journal. Outcomes as of withdraw_run.';
ALTER FUNCTION mana_ai.wait_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.wait_run TO mana_agent;
