CREATE OR REPLACE FUNCTION mana_ai.capability_proof(p_user text, p_until text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (SELECT encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(
                   'proof:' || p_until || ':' || split_part(current_setting('app.capability', true), '.', 2) || ':' || p_user, 'UTF8'))), 'hex')
            FROM mana_ai.capability_secrets AS k WHERE k.audience = 'db' AND k.signs);
END $$;

COMMENT ON FUNCTION mana_ai.capability_proof IS
'What says that this transaction''s capability was verified, names this user, and ends then (seconds since 1970). It is an
HMAC of ours and bound to the capability''s own: no capability is signed over a text with a colon.';
ALTER FUNCTION mana_ai.capability_proof OWNER TO mana_owner;
