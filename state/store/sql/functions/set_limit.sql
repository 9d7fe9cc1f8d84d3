CREATE OR REPLACE FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before mana_ai.limits;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.limits WHERE kind = p_kind AND user_id = p_user AND agent_id = p_agent RETURNING * INTO before;
  IF NOT p_sets_tokens THEN
    p_tokens := before.tokens;
  END IF;
  IF NOT p_sets_micros THEN
    p_micros := before.micros;
  END IF;
  IF p_tokens IS NOT NULL OR p_micros IS NOT NULL THEN
    INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens, micros) VALUES (p_kind, p_user, p_agent, p_tokens, p_micros)
    ON CONFLICT (kind, user_id, agent_id) DO UPDATE SET tokens = excluded.tokens, micros = excluded.micros, set_at = clock_timestamp();
  END IF;
  INSERT INTO mana_ai.budget_wakes (whose, wake_at)
  VALUES (p_user, clock_timestamp()), (p_user, clock_timestamp() + interval '1 minute');
END $$;

COMMENT ON FUNCTION mana_ai.set_limit IS
'Sets one limit; for the gateway. p_sets_tokens and p_sets_micros say which of the two; null lifts it. Missions are
looked at now, and once more after a minute for those that were just deciding by the old limit.';
ALTER FUNCTION mana_ai.set_limit OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.set_limit TO mana_gateway;
