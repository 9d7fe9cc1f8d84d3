CREATE OR REPLACE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  IF p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM held ->> 'a' THEN
    RAISE EXCEPTION 'heal_mission: not by this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  -- Locked by its version: a sweep that replays it leaves nothing in the feed to be seen by.
  PERFORM FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version FOR UPDATE;
  IF NOT FOUND OR EXISTS (SELECT FROM mana_ai.unfolded_rows(held ->> 'u', 'aiMissions', p_mission)) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.heal_mission IS
'Puts back iterations of ours that a client''s write dropped, at most once each: a second removal is the owner''s will.
p_version is the snapshot that the array was made from. Where the mission changed since, the change stands and the
mission is looked at again. The author must be the agent, as in commit_run.';
ALTER FUNCTION mana_ai.heal_mission OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.heal_mission TO mana_agent;
