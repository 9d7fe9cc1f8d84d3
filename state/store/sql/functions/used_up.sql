CREATE OR REPLACE FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, unit text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit,
           mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used - x.cap + 1)
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used), ('money', b.micros_cap, b.micros_used)) AS x (unit, cap, used)
     WHERE x.used >= x.cap AND (x.unit = 'tokens' OR x.used > 0)
     ORDER BY array_position(ARRAY['agent', 'user', 'installation'], b.scope), x.unit DESC LIMIT 1;
END $$;

COMMENT ON FUNCTION mana_ai.used_up IS
'The first scope with nothing left at all; no row where each has something.';
ALTER FUNCTION mana_ai.used_up OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.used_up TO mana_supervisor, mana_gateway;
