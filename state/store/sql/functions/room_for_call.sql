CREATE OR REPLACE FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt int, p_hold bigint, p_micros bigint,
  OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
BEGIN
  outcome := 'go';
  IF EXISTS (SELECT FROM mana_ai.journal AS j WHERE j.run_id = p_run) THEN
    RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT 'no-room', r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO outcome, scope, unit, cap, used, held, until
    FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros) AS r;
  outcome := coalesce(outcome, 'go');
  IF scope = 'installation' THEN  -- what all users spent is no agent's business
    cap := NULL; used := NULL; held := NULL;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.room_for_call IS
'Whether a call of this size has room now: outcome ''go'' or ''no-room'', the rest as begin_call returns it. A run that
has answers already goes on whatever is left, because it keeps the plan it has.';
ALTER FUNCTION mana_ai.room_for_call OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.room_for_call TO mana_agent;
