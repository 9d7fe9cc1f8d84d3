CREATE OR REPLACE FUNCTION mana_ai.settle(p_user text, p_agent text, p_call uuid, p_attempt int, p_hash text, p_answer text,
  p_tokens bigint, p_micros bigint, p_noted jsonb DEFAULT '{}', OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  told bigint := CASE WHEN p_tokens BETWEEN 0 AND 8589934592 THEN p_tokens END;  -- nobody earns tokens back
  cost bigint := CASE WHEN p_micros BETWEEN 0 AND 1000000000000 THEN p_micros END;
  hold mana_ai.token_holds;
  usage mana_ai.token_usage;
BEGIN
  journaled := false;
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = p_user AND h.agent_id = p_agent RETURNING * INTO hold;
  IF hold.call_id IS NOT NULL THEN
    charged := coalesce(told, hold.tokens);
    INSERT INTO mana_ai.token_usage AS t (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis)
    VALUES (p_user, p_agent, hold.mission_id, charged,
            CASE WHEN cost IS NOT NULL THEN cost WHEN charged = 0 THEN 0 ELSE hold.cost_micros END, hold.run_id, p_call, hold.round,
            CASE WHEN told IS NULL THEN 'hold' WHEN charged > hold.tokens THEN 'above-hold' ELSE 'reported' END)
    RETURNING * INTO usage;
  ELSE
    -- Its deadline passed: the larger of hold and report, once.
    UPDATE mana_ai.token_usage AS t SET tokens_used = greatest(t.tokens_used, told), cost_micros = greatest(t.cost_micros, cost),
           basis = CASE WHEN told > t.tokens_used THEN 'above-hold' ELSE 'hold' END
     WHERE t.call_id = p_call AND t.user_id = p_user AND t.agent_id = p_agent AND t.basis = 'expired-hold' RETURNING * INTO usage;
    IF usage.call_id IS NULL THEN  -- settled before, and the reply to that was lost
      charged := coalesce((SELECT t.tokens_used FROM mana_ai.token_usage AS t
                            WHERE t.call_id = p_call AND t.user_id = p_user AND t.agent_id = p_agent), 0);
      RETURN;
    END IF;
    charged := usage.tokens_used;
  END IF;
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged,
         answers = CASE WHEN r.attempt = p_attempt AND r.state = 'open' THEN r.answers || p_noted ELSE r.answers END
   WHERE r.run_id = usage.run_id;
  PERFORM mana_ai.wake_for_room(p_user, p_agent);
  IF p_answer IS NOT NULL AND p_hash IS NOT NULL
     AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = usage.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (usage.run_id, usage.round, p_user, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.settle IS
'Charges a call what it cost and keeps its answer; the caller holds the ledger''s lock. It never fails: an attempt that was
superseded is charged all the same, and only journals nothing. Null tokens, or a number that no call can use, is no report:
the hold is charged. Null micros: nobody knows the price. The basis is ''reported'', ''above-hold'' (more than was held,
charged all the same), ''hold'', or ''expired-hold'' until a report comes. What is noted of the answer is so from this call on.';
ALTER FUNCTION mana_ai.settle OWNER TO mana_owner;
