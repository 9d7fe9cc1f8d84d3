CREATE OR REPLACE FUNCTION mana_ai.mission_now(p_user text, p_mission text, p_agent text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT jsonb_build_object(
    'mission', (SELECT jsonb_build_object('version', s.version, 'present', s.present, 'complete', s.complete, 'record', s.record)
                  FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission),
    'mission_rows', coalesce(mana_ai.unfolded(p_user, 'aiMissions', p_mission), '[]'),
    'agent', (SELECT jsonb_build_object('hidden', s.hidden, 'state', s.state, 'version', s.version, 'present', s.present, 'complete', s.complete, 'record', s.record)
                FROM mana_ai.agent_snapshots AS s WHERE s.user_id = p_user AND s.agent_id = p_agent),
    'agent_rows', coalesce(mana_ai.unfolded(p_user, 'agents', p_agent), '[]'),
    'time_zone', (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = p_user));
END;

COMMENT ON FUNCTION mana_ai.mission_now IS
'Everything a commit is decided by, read in one statement so that a fold in between cannot split it: the two snapshots, the
rows of them that are not folded yet, whoever wrote them, and the zone. The agent''s rows count too: a pause that is in the
log is a pause.';
ALTER FUNCTION mana_ai.mission_now OWNER TO mana_owner;
