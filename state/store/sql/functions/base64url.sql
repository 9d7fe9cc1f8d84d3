CREATE OR REPLACE FUNCTION mana_ai.base64url(p_bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN translate(encode(p_bytes, 'base64'), E'+/=\n', '-_');

COMMENT ON FUNCTION mana_ai.base64url IS
'Bytes as base64url without padding (RFC 4648, section 5).';
ALTER FUNCTION mana_ai.base64url OWNER TO mana_owner;
