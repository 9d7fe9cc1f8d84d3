CREATE OR REPLACE FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.runs AS r
           JOIN mana_ai.mission_snapshots AS s ON s.user_id = r.user_id AND s.mission_id = r.mission_id
          WHERE r.user_id = p_user AND r.agent_id = p_agent AND r.state = 'waiting' AND r.waiting_for = 'holds'
            AND s.wake_at > clock_timestamp()
          ORDER BY r.due_at, r.mission_id LIMIT 1 FOR UPDATE OF s SKIP LOCKED);
END;

COMMENT ON FUNCTION mana_ai.wake_for_room IS
'Looks again at the oldest mission of the agent that waits for nothing but holds to be settled, and that nobody holds.';
ALTER FUNCTION mana_ai.wake_for_room OWNER TO mana_owner;
