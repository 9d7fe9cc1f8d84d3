CREATE OR REPLACE FUNCTION mana_ai.pad(p_secret bytea, p_byte int) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT
RETURN (SELECT string_agg(decode(lpad(to_hex(
          (CASE WHEN i < length(p_secret) THEN get_byte(p_secret, i) ELSE 0 END) # p_byte), 2, '0'), 'hex'), ''::bytea ORDER BY i)
          FROM generate_series(0, 63) AS i);

COMMENT ON FUNCTION mana_ai.pad IS
'The precomputed pad of an HMAC key (RFC 2104) for SHA-256: 64 bytes, the secret filled with zeros, xored with p_byte.
With both pads stored, HMAC needs only the core''s sha256() and no extension.';
ALTER FUNCTION mana_ai.pad OWNER TO mana_owner;
