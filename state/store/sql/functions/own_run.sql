CREATE OR REPLACE FUNCTION mana_ai.own_run(p_capability text, p_run uuid, p_attempt int) RETURNS mana_ai.runs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  run mana_ai.runs;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs
   WHERE run_id = p_run AND user_id = held ->> 'u' AND agent_id = held ->> 'a' FOR UPDATE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  RETURN run;
END $$;

COMMENT ON FUNCTION mana_ai.own_run IS
'The caller''s run, locked, if this attempt is still the current one; raises MA002 otherwise. It locks the ledger row
first, as everyone does.';
ALTER FUNCTION mana_ai.own_run OWNER TO mana_owner;
