CREATE OR REPLACE FUNCTION mana_ai.withdraw_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
END $$;

COMMENT ON FUNCTION mana_ai.withdraw_run IS
'Ends a run because the owner no longer wants this occurrence, or somebody else served it.';
ALTER FUNCTION mana_ai.withdraw_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.withdraw_run TO mana_agent;
