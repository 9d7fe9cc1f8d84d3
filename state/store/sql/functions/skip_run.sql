CREATE OR REPLACE FUNCTION mana_ai.skip_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  RETURN mana_ai.note_if_new(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-grant', p_reason);
END $$;

COMMENT ON FUNCTION mana_ai.skip_run IS
'Closes a run that must not be planned and shows its owner why, in place of ''withdrawn''. Returns whether that is
news: a mission skipped again for the same reason keeps its one row.';
ALTER FUNCTION mana_ai.skip_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.skip_run TO mana_agent;
