CREATE OR REPLACE FUNCTION mana_ai.require_capability() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.capability();
BEGIN
  IF held IS NULL THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

COMMENT ON FUNCTION mana_ai.require_capability IS
'The capability of this transaction; raises MA001 where it is not valid. Functions that write must raise: a capability
that ran out must not look like nothing to do.';
ALTER FUNCTION mana_ai.require_capability OWNER TO mana_owner;
