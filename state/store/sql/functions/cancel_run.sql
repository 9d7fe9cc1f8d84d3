CREATE OR REPLACE FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text,
  OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run;
  IF run.run_id IS NULL THEN
    RETURN;
  END IF;
  PERFORM mana_ai.lock_ledger(p_user, run.agent_id);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run FOR UPDATE;
  agent_id := run.agent_id;
  mission_id := run.mission_id;
  IF run.state NOT IN ('open', 'waiting') THEN
    state := run.state;
    outcome := CASE WHEN run.cancelled_at IS NOT NULL THEN 'already' ELSE 'over' END;
    RETURN;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  UPDATE mana_ai.runs AS r SET cancelled_at = clock_timestamp() WHERE r.run_id = p_run;
  -- Its slot is due still: the supervisor looks at once, and moves it on.
  PERFORM mana_ai.look_again(p_user, run.mission_id, (SELECT s.next_run_at FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.state = 'active' AND NOT s.hidden));
  PERFORM mana_ai.note_decision(p_user, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  state := 'withdrawn';
  outcome := 'cancelled';
END $$;

COMMENT ON FUNCTION mana_ai.cancel_run IS
'Ends a run now, open or waiting, and its occurrence with it; for the gateway. Its tokens stay charged: the process
that hears of the cancel settles its hold, else the hold is charged whole at its deadline. Outcome: ''cancelled'',
''already'' (cancelled before), ''over'' (it had ended), or null (no such run).';
ALTER FUNCTION mana_ai.cancel_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.cancel_run TO mana_gateway;
