CREATE OR REPLACE FUNCTION mana_ai.installation_spent(p_since timestamptz, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT u.tokens, h.tokens, u.micros, h.micros
    FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS u (tokens, micros),
         (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o) AS h (tokens, micros);
END;

COMMENT ON FUNCTION mana_ai.installation_spent IS
'What all users spent since p_since, and what is held. Both are read in one statement, so a call being settled is
counted exactly once. Owned by mana_fleet, which may read all users'' usage.';
ALTER FUNCTION mana_ai.installation_spent OWNER TO mana_fleet;
GRANT EXECUTE ON FUNCTION mana_ai.installation_spent TO mana_owner, mana_supervisor, mana_gateway;
