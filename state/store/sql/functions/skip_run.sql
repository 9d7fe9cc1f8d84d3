CREATE OR REPLACE FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt int, p_call text, p_note text, p_reason text,
  p_look_s float, OUT outcome text, OUT charged bigint, OUT look_at timestamptz, OUT is_news boolean, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_look_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
      PERFORM mana_ai.look_again(run.user_id, run.mission_id, look_at);
      is_news := mana_ai.note_if_new(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-grant', p_reason);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'withdrawn' AND run.reason = p_reason AND run.cancelled_at IS NULL THEN
    is_news := mana_ai.was_told(run, 'skipped-grant');
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.skip_run IS
'Closes a run that must not be planned and shows its owner why, in place of ''withdrawn''. is_news: that differs from what
was said last; a mission skipped again for the same reason keeps its one row. Outcomes as of withdraw_run.';
ALTER FUNCTION mana_ai.skip_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.skip_run TO mana_agent;
