-- The public key a person's client registers, so that what runs make of decrypted inputs is sealed for its owner's eyes. One per
-- person, the newest; each change leaves a row that its owner sees and no login can alter.
SET LOCAL ROLE mana_owner;

CREATE TABLE mana_ai.owner_keys (
  user_id text PRIMARY KEY,
  key_id text NOT NULL,
  public_key bytea NOT NULL CONSTRAINT owner_keys_x25519 CHECK (length(public_key) = 32),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp());

CREATE TABLE mana_ai.owner_key_changes (
  change_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  key_id text NOT NULL,
  action text NOT NULL CONSTRAINT owner_key_changes_action CHECK (action IN ('registered', 'removed')),
  ip_address text,
  user_agent text,
  at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX owner_key_changes_user ON mana_ai.owner_key_changes (user_id, at DESC);
CREATE INDEX owner_key_changes_age ON mana_ai.owner_key_changes (at);

ALTER TABLE mana_ai.owner_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.owner_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.owner_keys TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY gateway_reads_as_user ON mana_ai.owner_keys FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY agent_reads_own ON mana_ai.owner_keys FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));
CREATE POLICY agent_within_capability ON mana_ai.owner_keys AS RESTRICTIVE TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));

ALTER TABLE mana_ai.owner_key_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.owner_key_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.owner_key_changes TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY gateway_reads_as_user ON mana_ai.owner_key_changes FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.owner_key_changes TO mana_janitor USING (true);

-- Puts a key in the place of the one there is, and says since when it is there; the same key again changes nothing.
CREATE FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) RETURNS timestamptz
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

-- Takes the key away, false where there is none: from now on output is plain text again.
CREATE FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) RETURNS boolean
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

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.put_owner_key(text, text, bytea, text, text), mana_ai.remove_owner_key(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.put_owner_key(text, text, bytea, text, text), mana_ai.remove_owner_key(text, text, text) TO mana_gateway;
GRANT SELECT ON mana_ai.owner_keys TO mana_agent, mana_gateway;
GRANT SELECT ON mana_ai.owner_key_changes TO mana_gateway;
GRANT SELECT (at), DELETE ON mana_ai.owner_key_changes TO mana_janitor;
