CREATE OR REPLACE FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  removed text;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.owner_keys WHERE user_id = p_user RETURNING key_id INTO removed;
  IF removed IS NULL THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent) VALUES (p_user, removed, 'removed', p_address, p_agent);
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.remove_owner_key IS
'Removes a person''s public key; false where there is none. From now on output is plain text again.';
ALTER FUNCTION mana_ai.remove_owner_key OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.remove_owner_key TO mana_gateway;
