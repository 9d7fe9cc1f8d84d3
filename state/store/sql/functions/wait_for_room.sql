CREATE OR REPLACE FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt int, p_call text, p_note text, p_reason text,
  p_hold bigint, p_micros bigint,
  OUT outcome text, OUT charged bigint, OUT look_at timestamptz, OUT is_news boolean, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
  no record;
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      SELECT * INTO no FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros);
      look_at := CASE WHEN no.scope IS NULL THEN clock_timestamp()  -- there is room by now
                      WHEN no.until = 'holds' THEN clock_timestamp() + interval '5 seconds'
                      WHEN no.until = 'window' THEN greatest(no.back_at, clock_timestamp() + interval '1 second') END;
      UPDATE mana_ai.runs AS r SET state = 'waiting', not_before = NULL, lease_until = NULL, reason = p_reason,
             waiting_for = CASE no.until WHEN 'holds' THEN 'holds' ELSE 'budget' END WHERE r.run_id = p_run;
      UPDATE mana_ai.mission_snapshots AS s SET wake_at = wait_for_room.look_at
       WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
      is_news := mana_ai.note_if_new(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-budget', p_reason);
      PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'waiting' AND run.reason = p_reason THEN
    is_news := mana_ai.was_told(run, 'skipped-budget');
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.wait_for_room IS
'Gives the place back until a hold of this size may fit: when the window says, soon after holds, or when a cap changes.
It writes the mission''s row before it reads the caps again: a fold that changed them was either seen, or comes after
and wakes the mission itself. The run gets no not_before; wake_at alone says when. Its owner is told here and not by
whoever hears of it, since the process may die before anybody does; is_news: that differs from what was said last.
Outcomes as of withdraw_run.';
ALTER FUNCTION mana_ai.wait_for_room OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.wait_for_room TO mana_agent;
