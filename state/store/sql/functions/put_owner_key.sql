CREATE OR REPLACE FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  since timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.owner_keys AS k (user_id, key_id, public_key) VALUES (p_user, p_key_id, p_public_key)
  ON CONFLICT (user_id) DO UPDATE SET key_id = excluded.key_id, public_key = excluded.public_key, created_at = clock_timestamp()
   WHERE k.public_key <> excluded.public_key
  RETURNING created_at INTO since;
  IF since IS NULL THEN
    SELECT created_at INTO since FROM mana_ai.owner_keys WHERE user_id = p_user;
  ELSE
    INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent, at)
    VALUES (p_user, p_key_id, 'registered', p_address, p_agent, since);
  END IF;
  RETURN since;
END $$;

COMMENT ON FUNCTION mana_ai.put_owner_key IS
'Stores a person''s public key in place of the previous one and returns when it was registered. The same key again
changes nothing; a change leaves a row that no login can alter.';
ALTER FUNCTION mana_ai.put_owner_key OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.put_owner_key TO mana_gateway;
