CREATE OR REPLACE FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt int, p_round int, p_hash text, p_hold bigint, p_deadline_ms int,
  p_micros bigint DEFAULT 0,
  OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint,
  OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability(p_capability);
  scopes text[] := ARRAY['agent'];
  caps record;
  run mana_ai.runs;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(token ->> 'u', token ->> 'a');
  IF caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_installation();
    scopes := scopes || 'installation'::text;
  END IF;
  IF caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_ledger(token ->> 'u', '');
    scopes := scopes || 'user'::text;
  END IF;
  run := mana_ai.own_run(p_capability, p_run, p_attempt);
  SELECT j.answer INTO begin_call.answer FROM mana_ai.journal AS j
   WHERE j.run_id = p_run AND j.round = p_round AND j.request_hash = p_hash;
  IF begin_call.answer IS NOT NULL THEN
    outcome := 'journaled'; RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT h.call_id INTO begin_call.call_id FROM mana_ai.token_holds AS h
   WHERE h.run_id = p_run AND h.attempt = p_attempt AND h.round = p_round;
  IF begin_call.call_id IS NOT NULL THEN
    outcome := 'go'; RETURN;  -- asked again because the answer to the first asking was lost
  END IF;
  SELECT r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO begin_call.scope, begin_call.unit, begin_call.cap, begin_call.used, begin_call.held, begin_call.until
    FROM mana_ai.refusal(run.user_id, run.agent_id, scopes, p_hold, p_micros) AS r;
  IF begin_call.scope IS NOT NULL THEN
    outcome := 'no-room';
    IF begin_call.scope = 'installation' THEN  -- what all users spent is no agent's business
      begin_call.cap := NULL; begin_call.used := NULL; begin_call.held := NULL;
    END IF;
    RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, cost_micros, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, p_micros,
          clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

COMMENT ON FUNCTION mana_ai.begin_call IS
'Reserves room in every budget for one model call, or returns the journalled answer to the very same request. Without
this hold no call may start: usage, open holds and this hold must fit every cap. Locks in the order installation, user
(the ledger row without an agent), agent, run; the first two only where such a limit is set. A limit set at this very
moment counts from the next call.';
ALTER FUNCTION mana_ai.begin_call OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.begin_call TO mana_agent;
