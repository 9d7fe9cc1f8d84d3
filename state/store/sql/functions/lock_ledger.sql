CREATE OR REPLACE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'lock_ledger: needs read committed' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

COMMENT ON FUNCTION mana_ai.lock_ledger IS
'Locks the agent''s ledger row. It is a statement of its own, so that the next one reads what the previous holder
wrote. A transaction that keeps one snapshot would read the state before that and pass every limit, so it is refused.';
ALTER FUNCTION mana_ai.lock_ledger OWNER TO mana_owner;
