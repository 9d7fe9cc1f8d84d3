CREATE OR REPLACE FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint,
  p_micros bigint DEFAULT NULL, p_answers jsonb DEFAULT '{}', OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT s.charged, s.journaled INTO end_call.charged, end_call.journaled
    FROM mana_ai.settle(held ->> 'u', held ->> 'a', p_call, p_attempt, p_hash, p_answer, p_tokens, p_micros,
                        mana_ai.noted_answers(p_answers)) AS s;
END $$;

COMMENT ON FUNCTION mana_ai.end_call IS
'Settles a call by itself: what must be durable before a tool runs or the next call begins. A run''s last answer is settled
by the function that ends the run. p_answers says who answered and which tools were called, for whoever watches.';
ALTER FUNCTION mana_ai.end_call OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.end_call TO mana_agent;
