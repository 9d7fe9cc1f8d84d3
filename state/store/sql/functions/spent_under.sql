CREATE OR REPLACE FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[])
RETURNS TABLE (place int, scope text, source text, cap bigint, used bigint, held bigint,
               micros_cap bigint, micros_used bigint, micros_held bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  FOR i IN 1 .. cardinality(p_kinds) LOOP
    PERFORM set_config('app.current_user_id', p_users[i], true);
    RETURN QUERY SELECT i, b.* FROM mana_ai.budgets_of(p_users[i], p_agents[i], p_kinds[i : i]) AS b;
  END LOOP;
  PERFORM set_config('app.current_user_id', '', true);
END $$;

COMMENT ON FUNCTION mana_ai.spent_under IS
'The last 24 hours under each of many limits, by their places in the arrays: each is read in the place of the person it
names, one after the other, so that row security holds as it does for one. Afterwards the transaction acts for nobody.';
ALTER FUNCTION mana_ai.spent_under OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.spent_under TO mana_gateway;
