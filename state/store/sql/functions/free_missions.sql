CREATE OR REPLACE FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) RETURNS TABLE (user_id text, mission_id text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.user_id, s.mission_id FROM mana_ai.mission_snapshots AS s
    JOIN unnest(p_users, p_missions) AS k (user_id, mission_id) USING (user_id, mission_id) FOR UPDATE OF s SKIP LOCKED;
END;

COMMENT ON FUNCTION mana_ai.free_missions IS
'Locks the snapshots of these missions and returns them, but for those that somebody else holds: what the supervisor does
for many waits for no one. It runs with its caller''s rights.';
ALTER FUNCTION mana_ai.free_missions OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.free_missions TO mana_supervisor;
