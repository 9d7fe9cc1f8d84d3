CREATE OR REPLACE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT body.text || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body.text, 'UTF8'))))
          FROM (SELECT * FROM mana_ai.capability_secrets WHERE audience = p_payload ->> 'aud' AND signs) AS k,
       LATERAL (SELECT p_payload || jsonb_build_object('kid', k.kid, 'exp', least((p_payload ->> 'exp')::bigint,
                  floor(extract(epoch FROM clock_timestamp() + mana_ai.capability_life()))::bigint))) AS signed (payload),
       LATERAL (SELECT mana_ai.base64url(convert_to(signed.payload::text, 'UTF8'))) AS body (text));

COMMENT ON FUNCTION mana_ai.sign_payload IS
'Signs a payload with the audience''s current secret: base64url(payload) "." base64url(HMAC-SHA-256). It cuts the
expiry to the longest life there is.';
ALTER FUNCTION mana_ai.sign_payload OWNER TO mana_owner;
