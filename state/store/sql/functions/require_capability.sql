CREATE OR REPLACE FUNCTION mana_ai.require_capability(p_capability text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb;
BEGIN
  IF p_capability IS NOT NULL THEN
    PERFORM set_config('app.capability', p_capability, true);
  END IF;
  held := mana_ai.capability();
  IF held IS NULL THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true),
          set_config('app.current_user_space_ids', array_to_string(ARRAY(SELECT jsonb_array_elements_text(held -> 's')), ','), true),
          set_config('app.capability_until', held ->> 'exp', true),
          set_config('app.capability_proof', mana_ai.capability_proof(held ->> 'u', held ->> 'exp'), true);
  RETURN held;
END $$;

COMMENT ON FUNCTION mana_ai.require_capability IS
'The capability given, or else this transaction''s; raises MA001 where it is not valid. Functions that write must raise:
a capability that ran out must not look like nothing to do. It is presented for this transaction alone, with its user and
spaces for the log''s own policies.';
ALTER FUNCTION mana_ai.require_capability OWNER TO mana_owner;
