CREATE OR REPLACE FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamptz,
  OUT full_scope text, OUT full_unit text, OUT full_back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  used := 0;
  IF caps.agent_tokens IS NOT NULL THEN
    SELECT b.cap, b.used INTO budget_facts.cap, budget_facts.used FROM mana_ai.budgets_of(p_user, p_agent, ARRAY['agent']) AS b;
    back_at := mana_ai.room_at('agent', p_user, p_agent, clock_timestamp() - interval '24 hours', 'tokens',
                               greatest(1, budget_facts.used - budget_facts.cap + 1));
  END IF;
  IF caps.agent_micros IS NOT NULL OR caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    SELECT f.scope, f.unit, f.back_at INTO full_scope, full_unit, full_back_at
      FROM mana_ai.used_up(p_user, p_agent, ARRAY['agent', 'user']) AS f;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.budget_facts IS
'What the gate asks about a due mission''s budget. Nothing is summed where nothing is capped.';
ALTER FUNCTION mana_ai.budget_facts OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.budget_facts TO mana_supervisor, mana_gateway;
