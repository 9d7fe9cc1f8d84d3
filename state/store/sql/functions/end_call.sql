CREATE OR REPLACE FUNCTION mana_ai.end_call(p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint, p_micros bigint DEFAULT NULL,
  OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cap jsonb := mana_ai.require_capability();
  hold mana_ai.token_holds;
  is_reported boolean := coalesce(p_tokens >= 0, false);  -- nobody earns tokens back
BEGIN
  PERFORM mana_ai.lock_ledger(cap ->> 'u', cap ->> 'a');
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = cap ->> 'u' AND h.agent_id = cap ->> 'a' RETURNING * INTO hold;
  journaled := false;
  IF hold.call_id IS NULL THEN
    -- Its deadline passed, or the reply to the first asking was lost: what was charged then.
    charged := coalesce((SELECT t.tokens_used FROM mana_ai.token_usage AS t
                          WHERE t.call_id = p_call AND t.user_id = cap ->> 'u' AND t.agent_id = cap ->> 'a'), 0);
    RETURN;
  END IF;
  charged := CASE WHEN is_reported THEN p_tokens ELSE hold.tokens END;
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis)
  VALUES (hold.user_id, hold.agent_id, hold.mission_id, charged,
          CASE WHEN p_micros >= 0 THEN p_micros WHEN charged = 0 THEN 0 ELSE hold.cost_micros END,
          hold.run_id, hold.call_id, hold.round,
          CASE WHEN NOT is_reported THEN 'hold' WHEN charged > hold.tokens THEN 'above-hold' ELSE 'reported' END);
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged WHERE r.run_id = hold.run_id;
  PERFORM mana_ai.wake_for_room(hold.user_id, hold.agent_id);
  IF p_answer IS NOT NULL AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = hold.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (hold.run_id, hold.round, hold.user_id, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.end_call IS
'Stores an answer and charges what it cost, durable together. An attempt that was superseded is charged all the same,
but journals nothing. Null tokens: the provider reported no usage, so the hold is charged. Null micros: nobody knows
the price. The basis is ''reported'', ''above-hold'' (more than was held, charged all the same), ''hold'' or
''expired-hold''.';
ALTER FUNCTION mana_ai.end_call OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.end_call TO mana_agent;
