CREATE OR REPLACE FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamptz) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = least(p_next, (
         SELECT min(q.due_at) FROM mana_ai.run_requests AS q
          WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.closed_at IS NULL))
   WHERE s.user_id = p_user AND s.mission_id = p_mission;
END;

COMMENT ON FUNCTION mana_ai.look_again IS
'Sets when to look at a mission again after a run: at a waiting request, else at p_next.';
ALTER FUNCTION mana_ai.look_again OWNER TO mana_owner;
