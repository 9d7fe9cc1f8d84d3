CREATE OR REPLACE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH expired AS (
    DELETE FROM mana_ai.token_holds WHERE user_id = p_user AND agent_id = p_agent AND deadline < clock_timestamp() RETURNING *)
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis, ts)
  SELECT user_id, agent_id, mission_id, tokens, cost_micros, run_id, call_id, round, 'expired-hold', opened_at FROM expired
  ON CONFLICT DO NOTHING;
END;

COMMENT ON FUNCTION mana_ai.charge_expired_holds IS
'Charges a hold whole once its call''s deadline has passed. Deleting the hold is what charges it, so it happens once.';
ALTER FUNCTION mana_ai.charge_expired_holds OWNER TO mana_owner;
