CREATE OR REPLACE FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
  VALUES (p_audience, p_kid, mana_ai.pad(p_secret, 54), mana_ai.pad(p_secret, 92))
  ON CONFLICT DO NOTHING;
END;

COMMENT ON FUNCTION mana_ai.add_capability_secret IS
'Adds a signing secret for an audience from 32 random bytes. An audience that has one that signs keeps it, so callers
may run at once.';
ALTER FUNCTION mana_ai.add_capability_secret OWNER TO mana_owner;
