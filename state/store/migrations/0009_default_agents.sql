-- The default agent is everybody's, whether or not its owner ever wrote a record of it: who has a mission with it is listed with it.
CREATE OR REPLACE VIEW mana_ai.fleet_agents AS
  SELECT a.user_id, a.agent_id, a.state, a.max_tokens_per_day, a.max_concurrent, a.complete, a.hidden, a.problems, a.version,
         coalesce((SELECT sum(t.tokens_used) FROM mana_ai.token_usage AS t WHERE t.user_id = a.user_id AND t.agent_id = a.agent_id
                      AND t.ts > clock_timestamp() - interval '24 hours'), 0)::bigint AS used_24h,
         coalesce((SELECT sum(h.tokens) FROM mana_ai.token_holds AS h WHERE h.user_id = a.user_id AND h.agent_id = a.agent_id), 0)::bigint AS held,
         (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = a.user_id AND r.agent_id = a.agent_id AND r.state = 'open') AS running,
         a.recorded
    FROM (SELECT s.user_id, s.agent_id, s.state, s.max_tokens_per_day, s.max_concurrent, s.complete, s.hidden, s.problems, s.version, true AS recorded
            FROM mana_ai.agent_snapshots AS s
          UNION ALL
          SELECT DISTINCT m.user_id, 'legacy:ai-default', 'active', NULL::bigint, 1, true, false, '{}'::text[], 0::bigint, false
            FROM mana_ai.mission_snapshots AS m
           WHERE m.agent_id = 'legacy:ai-default' AND NOT m.hidden
             AND NOT EXISTS (SELECT FROM mana_ai.agent_snapshots AS s WHERE s.user_id = m.user_id AND s.agent_id = m.agent_id)) AS a;
