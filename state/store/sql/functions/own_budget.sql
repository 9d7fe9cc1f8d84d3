CREATE OR REPLACE FUNCTION mana_ai.own_budget(OUT cap bigint, OUT used bigint, OUT held bigint, OUT back_at timestamptz, OUT running int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability();
  u text := token ->> 'u';
  a text := token ->> 'a';
BEGIN
  SELECT b.cap, b.used, b.held INTO own_budget.cap, own_budget.used, own_budget.held
    FROM mana_ai.budgets_of(u, a, ARRAY['agent']) AS b;
  back_at := mana_ai.room_at('agent', u, a, clock_timestamp() - interval '24 hours', 'tokens',
                             greatest(1, own_budget.used - own_budget.cap + 1));
  running := (SELECT count(*)::int FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
                 AND r.lease_until > clock_timestamp());
END $$;

COMMENT ON FUNCTION mana_ai.own_budget IS
'An agent''s own budget, without what other agents and users spent.';
ALTER FUNCTION mana_ai.own_budget OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_budget TO mana_agent;
