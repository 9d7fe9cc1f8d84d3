CREATE OR REPLACE FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint)
RETURNS TABLE (scope text, unit text, cap bigint, used bigint, held bigint, until text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit, x.cap, x.used, x.held, w.until, r.back_at
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used, b.held, p_hold),
                                ('money', b.micros_cap, b.micros_used, b.micros_held, p_micros)) AS x (unit, cap, used, held, asked)
     CROSS JOIN LATERAL (SELECT CASE WHEN x.asked > x.cap THEN 'change' WHEN x.used + x.asked > x.cap THEN 'window' ELSE 'holds' END) AS w (until)
     CROSS JOIN LATERAL (SELECT CASE w.until WHEN 'window' THEN
         mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used + x.asked - x.cap) END) AS r (back_at)
     WHERE x.used + x.held + x.asked > x.cap
     ORDER BY array_position(ARRAY['change', 'window', 'holds'], w.until), r.back_at DESC NULLS LAST LIMIT 1;
END $$;

COMMENT ON FUNCTION mana_ai.refusal IS
'The scope and unit that a hold does not fit; no row where it fits all. until says what can change that: ''change'' (a
cap below this one hold), ''window'' (usage leaves it at back_at), or ''holds'' (they only have to be settled).';
ALTER FUNCTION mana_ai.refusal OWNER TO mana_owner;
