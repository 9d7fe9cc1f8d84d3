CREATE OR REPLACE FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text, p_basis jsonb) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(
         (p_basis ->> 'mission_version')::bigint
           = (SELECT s.version FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission)
     AND (p_basis ->> 'agent_version')::bigint
           = coalesce((SELECT s.version FROM mana_ai.agent_snapshots AS s WHERE s.user_id = p_user AND s.agent_id = p_agent), 0)
     AND p_basis ->> 'time_zone' = coalesce((SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = p_user), '')
     AND (NOT p_basis ? 'owner_key' OR p_basis ->> 'owner_key'
           = coalesce((SELECT k.key_id FROM mana_ai.owner_keys AS k WHERE k.user_id = p_user), ''))
     AND NOT EXISTS (SELECT FROM mana_ai.unfolded_rows(p_user, 'aiMissions', p_mission) AS c WHERE ((p_basis -> 'merged') ? c.id::text) IS NOT TRUE)
     AND NOT EXISTS (SELECT FROM mana_ai.unfolded_rows(p_user, 'agents', p_agent) AS c WHERE ((p_basis -> 'merged') ? c.id::text) IS NOT TRUE),
         false);
END;

COMMENT ON FUNCTION mana_ai.is_as_decided IS
'Whether a decision still fits: versions of mission and agent (0: no record), the zone, the owner''s key where it was
sealed for one, and no row waits to be folded but those that were merged already. One statement: asked apart, a fold in
between would hide a row from both. What p_basis leaves out does not fit.';
ALTER FUNCTION mana_ai.is_as_decided OWNER TO mana_owner;
