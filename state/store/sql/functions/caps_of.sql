CREATE OR REPLACE FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text,
  OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN a.tokens IS NULL THEN coalesce(l.named, l.default_tokens) ELSE least(a.tokens, l.named) END,
         l.micros,
         CASE WHEN a.tokens <= coalesce(l.named, a.tokens) THEN 'owner' WHEN l.named IS NOT NULL THEN 'operator'
              WHEN l.default_tokens IS NOT NULL THEN 'default' ELSE 'none' END,
         l.user_tokens, l.user_micros, l.installation_tokens, l.installation_micros
    FROM (SELECT (SELECT s.max_tokens_per_day FROM mana_ai.agent_snapshots AS s WHERE s.user_id = p_user AND s.agent_id = p_agent)) AS a (tokens)
   CROSS JOIN (
         SELECT max(tokens) FILTER (WHERE kind = 'agent') AS named,
                max(tokens) FILTER (WHERE kind = 'each-agent') AS default_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'agent'), max(micros) FILTER (WHERE kind = 'each-agent')) AS micros,
                coalesce(max(tokens) FILTER (WHERE kind = 'user'), max(tokens) FILTER (WHERE kind = 'each-user')) AS user_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'user'), max(micros) FILTER (WHERE kind = 'each-user')) AS user_micros,
                max(tokens) FILTER (WHERE kind = 'installation') AS installation_tokens,
                max(micros) FILTER (WHERE kind = 'installation') AS installation_micros
           FROM mana_ai.limits WHERE user_id IN ('', p_user) AND agent_id IN ('', p_agent)) AS l;
END;

COMMENT ON FUNCTION mana_ai.caps_of IS
'The caps in force for an agent, its user and the installation; null means no cap. The owner''s cap and the operator''s
limit both hold, so the smaller one counts; the operator''s default counts only where neither is set.';
ALTER FUNCTION mana_ai.caps_of OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.caps_of TO mana_supervisor, mana_gateway;
