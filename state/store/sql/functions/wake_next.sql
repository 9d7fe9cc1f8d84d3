CREATE OR REPLACE FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.mission_snapshots AS s
          WHERE s.user_id = p_user AND s.agent_id = p_agent AND s.mission_id <> p_mission
            AND s.decision = 'skipped-concurrency' AND s.wake_at > clock_timestamp()
            AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = s.mission_id
                               AND (r.state = 'open' OR r.state = 'waiting' AND r.not_before > clock_timestamp()))
          ORDER BY s.next_run_at NULLS FIRST, s.mission_id LIMIT 1 FOR UPDATE SKIP LOCKED);
END;

COMMENT ON FUNCTION mana_ai.wake_next IS
'Looks again at the oldest mission of the agent that waits for a place, when p_mission gives one up. A mission that has
a place or sits out a back-off is left alone, even if it was told to wait for a place before, and so is one that somebody
holds: whoever wakes one holds its own already, and two of them would wait for each other.';
ALTER FUNCTION mana_ai.wake_next OWNER TO mana_owner;
