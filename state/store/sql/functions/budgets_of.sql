CREATE OR REPLACE FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, source text, cap bigint, used bigint, held bigint, micros_cap bigint, micros_used bigint, micros_held bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  since timestamptz := clock_timestamp() - interval '24 hours';
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  IF 'agent' = ANY (p_scopes) THEN
    RETURN QUERY SELECT 'agent', caps.agent_source, caps.agent_tokens, u.tokens, h.tokens, caps.agent_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.agent_id = p_agent AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user AND o.agent_id = p_agent) AS h (tokens, micros);
  END IF;
  IF 'user' = ANY (p_scopes) AND (caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'user', 'operator', caps.user_tokens, u.tokens, h.tokens, caps.user_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user) AS h (tokens, micros);
  END IF;
  IF 'installation' = ANY (p_scopes) AND (caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'installation', 'operator', caps.installation_tokens, i.used, i.held,
                        caps.installation_micros, i.micros_used, i.micros_held
      FROM mana_ai.installation_spent(since) AS i;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.budgets_of IS
'What was spent in 24 hours, what is held, and the caps, for the scopes asked for: ''agent'' always, ''user'' and
''installation'' where they are capped. Every sum comes from the caller''s one snapshot, so a call being settled is
counted exactly once.';
ALTER FUNCTION mana_ai.budgets_of OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.budgets_of TO mana_supervisor, mana_gateway;
