CREATE OR REPLACE FUNCTION mana_ai.receipt(p_answers jsonb) RETURNS jsonb IMMUTABLE
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(jsonb_agg(jsonb_build_object('provider', g.provider, 'model', g.model, 'exposure', g.exposure,
                                               'calls', g.calls, 'tokens', g.tokens, 'cost_micros', g.cost_micros,
                                               'cached_tokens', g.cached, 'carried_lost', g.lost, 'wasted_tokens', g.wasted)
                            ORDER BY g.provider, g.model, g.exposure), '[]')
    FROM (SELECT a.value ->> 'provider' AS provider, a.value ->> 'model' AS model, a.value ->> 'exposure' AS exposure,
                 count(*) AS calls, sum((a.value ->> 'tokens')::bigint) AS tokens,
                 sum(coalesce((a.value ->> 'cached_tokens')::bigint, 0)) AS cached,
                 sum(coalesce((a.value ->> 'carried_lost')::bigint, 0)) AS lost,
                 sum(coalesce((a.value ->> 'wasted_tokens')::bigint, 0)) AS wasted,
                 CASE WHEN count(a.value ->> 'cost_micros') = count(*) THEN sum((a.value ->> 'cost_micros')::bigint) END AS cost_micros
            FROM jsonb_each(p_answers) AS a GROUP BY 1, 2, 3) AS g;
END;

COMMENT ON FUNCTION mana_ai.receipt IS
'The receipt of a run: one entry per provider, model and exposure. The cost is null where one of its calls has no known
price. A release before these were noted left out cached, lost and wasted.';
ALTER FUNCTION mana_ai.receipt OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.receipt TO mana_fleet, mana_gateway, mana_supervisor;
