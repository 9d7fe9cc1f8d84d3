CREATE OR REPLACE FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[],
  OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamptz, OUT charges jsonb, OUT holds jsonb,
  OUT requested jsonb, OUT now timestamptz, OUT agent_record jsonb,
  OUT forgotten bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  token jsonb := mana_ai.require_capability(p_capability);
  u text := token ->> 'u';
  a text := token ->> 'a';
BEGIN
  SELECT (SELECT jsonb_build_object('version', s.version, 'fields', mana_ai.only_fields(s.record, p_agent_fields),
                   'stamps', mana_ai.only_fields(s.record -> '__fieldMeta', p_agent_fields),
                   'columns', jsonb_build_object('state', s.state, 'space_id', s.space_id, 'max_tokens_per_day', s.max_tokens_per_day,
                     'max_concurrent', s.max_concurrent, 'complete', s.complete, 'present', s.present, 'hidden', s.hidden))
            FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a),
         (SELECT jsonb_object_agg(m.mission_id, jsonb_build_object('version', m.version,
                   'fields', mana_ai.only_fields(m.record, p_mission_fields),
                   'stamps', mana_ai.only_fields(m.record -> '__fieldMeta', p_mission_fields),
                   'columns', jsonb_build_object('agent_id', m.agent_id, 'state', m.state, 'space_id', m.space_id,
                     'next_run_at', m.next_run_at, 'complete', m.complete, 'present', m.present, 'hidden', m.hidden,
                     'readable', m.readable, 'browser_since', m.browser_since)))
            FROM mana_ai.mission_snapshots AS m
           WHERE m.user_id = u AND (m.mission_id = ANY (p_missions)
                 OR p_missions IS NULL AND m.agent_id = a AND (NOT m.hidden OR EXISTS (
                      SELECT FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = m.mission_id AND r.state IN ('open', 'waiting'))))),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = u),
         (SELECT c.agent_tokens FROM mana_ai.caps_of(u, a) AS c),
         (SELECT i.slots_from FROM mana_ai.install AS i),
         (SELECT jsonb_agg(jsonb_build_object('at', t.ts, 'tokens', t.tokens_used, 'call_id', t.call_id))
            FROM mana_ai.token_usage AS t
           WHERE t.user_id = u AND t.agent_id = a AND t.ts > clock_timestamp() - interval '24 hours'),
         (SELECT jsonb_agg(jsonb_build_object('call_id', h.call_id, 'tokens', h.tokens, 'opened_at', h.opened_at, 'deadline', h.deadline))
            FROM mana_ai.token_holds AS h WHERE h.user_id = u AND h.agent_id = a),
         (SELECT jsonb_object_agg(q.mission_id, q.due_at)
            FROM (SELECT r.mission_id, min(r.due_at) AS due_at FROM mana_ai.run_requests AS r
                   WHERE r.user_id = u AND r.mission_id = ANY (p_missions) AND r.closed_at IS NULL GROUP BY r.mission_id) AS q),
         clock_timestamp(), (SELECT s.record FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a),
         (SELECT max(m.version) FROM mana_ai.mission_snapshots AS m
           WHERE p_missions IS NULL AND m.user_id = u AND m.agent_id = a AND m.hidden)
    INTO agent, missions, time_zone, cap, slots_from, charges, holds, requested, now, agent_record, forgotten;
END $$;

COMMENT ON FUNCTION mana_ai.load_memory IS
'What an agent''s process holds, read at one moment: its record, its missions (or those named, whoever has them; null names
all of its own), the zone, its cap in force, what it spent in 24 hours and what is held. Of the records only the fields
asked for, and its own record whole. Of deleted missions, of which there may be any number, those that
a run is under way of come with all; forgotten is the newest version of one, so that news of what did not come is known to
be old. Nothing about other agents'' spending or the limits of user and installation.';
ALTER FUNCTION mana_ai.load_memory OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.load_memory TO mana_agent;
