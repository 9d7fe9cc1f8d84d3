CREATE OR REPLACE FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt int, p_call text, p_note text, p_reason text,
  p_look_s float, OUT outcome text, OUT charged bigint, OUT look_at timestamptz, OUT is_news boolean, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  is_news := true;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_look_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
      PERFORM mana_ai.look_again(run.user_id, run.mission_id, look_at);
      PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'withdrawn' AND run.reason = p_reason AND run.cancelled_at IS NULL THEN
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.withdraw_run IS
'Ends a run because the owner no longer wants this occurrence, or somebody else served it. Its answer is settled first.
Outcome: ''done'', ''landed'' (asked before, and the reply was lost), ''superseded'' (another attempt has it, or it is
closed), ''refused'' (a value that cannot be stored).';
ALTER FUNCTION mana_ai.withdraw_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.withdraw_run TO mana_agent;
