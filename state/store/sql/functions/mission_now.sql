CREATE OR REPLACE FUNCTION mana_ai.mission_now(p_run uuid, p_attempt int,
  OUT snapshot jsonb, OUT changes jsonb, OUT agent jsonb, OUT agent_changes jsonb, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT (SELECT to_jsonb(s) FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id),
         mana_ai.unfolded(run.user_id, 'aiMissions', run.mission_id),
         (SELECT to_jsonb(s) FROM mana_ai.agent_snapshots AS s WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id),
         mana_ai.unfolded(run.user_id, 'agents', run.agent_id),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = run.user_id)
    INTO snapshot, changes, agent, agent_changes, time_zone;
END $$;

COMMENT ON FUNCTION mana_ai.mission_now IS
'Everything a commit decides by, read in one statement so that a fold in between cannot split it. Rows that are not
folded yet carry their JSON as text, so one that cannot be read is skipped alone. The agent''s rows count too: a pause
that is in the log is a pause.';
ALTER FUNCTION mana_ai.mission_now OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.mission_now TO mana_agent;
