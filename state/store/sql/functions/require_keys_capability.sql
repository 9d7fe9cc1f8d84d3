CREATE OR REPLACE FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt int) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.capability('keys');
BEGIN
  IF held IS NULL OR held ->> 'run' IS DISTINCT FROM p_run::text OR held ->> 'attempt' IS DISTINCT FROM p_attempt::text THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

COMMENT ON FUNCTION mana_ai.require_keys_capability IS
'The same as require_capability for the key holder: its own audience, and only for the run and attempt that were
signed.';
ALTER FUNCTION mana_ai.require_keys_capability OWNER TO mana_owner;
